// SPDX-License-Identifier: MIT

// Package pionv2 serves DTLS 1.2 sessions by github.com/pion/dtls/v2, out of a table of
// package dsm, so that a server never has more of them than it has room for.
//
//	listener, err := pionv2.Listen("udp", address, dtlsConfig, pionv2.Config{Sessions: 1000})
//	…
//	for {
//		conn, err := listener.Accept()
//		if err != nil {
//			return err // wraps net.ErrClosed after Close
//		}
//		go serve(conn)
//	}
//
// Package dtlsserver has the server, and says what it promises; its types have names here.
// This package has what is pion v2's: a dtls.Config is checked, pion's handshakes are run
// behind a gate that reads every message first, and their sessions are taken over.
// dtls.Config.FlightInterval is the time until a flight is repeated for the first time,
// 1.5 s if it is zero. Each further time is twice as long, up to 60 s.
//
// # What Listen inherits from pion v2
//
//   - A handshake in progress takes some 35 KB and four goroutines.
//   - Pion draws the cookie, so each first ClientHello takes a place of Config.Handshakes,
//     and an ECDH key is made for it, before its sender has returned the cookie. It is of P-256
//     if no suite with ECDHE is shared, because that is the fastest one.
//   - A client that offers no cipher suite of the server, or only DTLS 1.0, gets its alert
//     after it has repeated its ClientHello.
//   - dtls.Config.PSK is told the identity alone. Config.PSK is told more, and may wait.
//   - dtls.Config's CustomCipherSuites, SRTPProtectionProfiles, InsecureSkipVerifyHello and
//     SessionStore are refused. Config.Resumption is there instead of the last one.
//
// # Wrap
//
// Wrap bounds a pion listener that exists already by a table. It sees a session only after
// pion's handshake, so pion's own limits stay. The file docs/pion-v2.md has them all; these
// matter most:
//
//   - Pion runs a handshake inside Accept. A peer that begins one and falls silent holds
//     up that call for the handshake timeout (30 s, unless
//     dtls.Config.ConnectContextMaker says less). Calls of Accept from several goroutines
//     run as many handshakes at the same time. A flood of such peers still stops them.
//   - A handshake in progress has no slot, so their number is not bounded by the table.
//     Nor has a session that is ending: pion's Close takes up to a second.
//   - A client that has lost its state cannot come back from its address and port while
//     its old session lives.
//   - A forged plaintext record ends an established session.
//   - With a CBC suite, which is among pion's defaults, a client can end the process.
package pionv2
