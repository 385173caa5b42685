// SPDX-License-Identifier: MIT

// Package pionv4 serves DTLS 1.2 sessions by github.com/pion/dtls/v4, out of a table of
// package dsm, so that a server never has more of them than it has room for.
//
//	listener, err := pionv4.Listen("udp", address, pionv4.Config{PSK: keyOf}, dtlsserver.Config{Sessions: 1000})
//	…
//	for {
//		conn, err := listener.Accept()
//		if err != nil {
//			return err // wraps net.ErrClosed after Close
//		}
//		go serve(conn)
//	}
//
// Package dtlsserver has the server, and says what it promises. This package has what is pion
// v4's: a Config is checked and translated to pion's options, pion's handshakes are run
// behind a gate that reads every message first, and their sessions are taken over.
//
// # What differs from pionv2
//
//   - The server draws the cookie (RFC 6347 section 4.2.1), and keeps nothing for a client
//     that has not returned it. A flood of ClientHellos takes no place of
//     Config.Handshakes, and no memory. An abbreviated handshake has a cookie too, which
//     takes one round trip more. Pion has no option for that; see docs/upstream-cookie.md. If
//     a version of pion does not allow it, Listen says so, to Config.Logger or to slog's
//     default Logger, and pion draws the cookies as with pionv2.
//   - A client that offers connection IDs gets one (RFC 9146), and its session goes on when
//     its address changes. See dtlsserver.Config.AddressChange.
//   - The sessions of clients with certificates can be resumed, as with pionv2.
//   - A client that offers DTLS 1.3 too is served DTLS 1.2. A client that offers DTLS 1.3
//     alone is refused with protocol_version.
//   - The cipher suites with ChaCha20 are not supported: a session with one could not be
//     taken over.
//   - A ClientHello without extensions is refused with decode_error. The file docs/pion-v4.md
//     has the other limits of pion, and how to move from pionv2.
//
// A session that was detached or saved at a listener of pionv2 can be attached or restored at
// one of this package, if both have the same policy: client authentication, CipherSuites in the
// same order, extended master secret, whether there are pre-shared keys and certificates, and
// dtlsserver.Config.ResumptionScope.
package pionv4
