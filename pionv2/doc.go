// SPDX-License-Identifier: MIT

// Package pionv2 puts listeners of github.com/pion/dtls/v2 under a table of
// package dsm, so that a server never serves more DTLS sessions than it has slots.
//
//	inner, err := dtls.Listen("udp", address, dtlsConfig)
//	…
//	listener, err := pionv2.Wrap(inner, pionv2.Config{Sessions: 1000})
//	…
//	for {
//		conn, err := listener.Accept()
//		if err != nil {
//			return err // wraps net.ErrClosed after Close
//		}
//		go serve(conn)
//	}
//
// # What Wrap cannot do
//
// It sees a session only after pion's handshake, so pion's own limits stay:
//
//   - pion runs a handshake inside Accept. A peer that begins one and falls
//     silent holds up that call for the handshake timeout (30 s, unless
//     dtls.Config.ConnectContextMaker says less). Calling Accept from several
//     goroutines runs as many handshakes beside each other; a flood of such
//     peers still stops it.
//   - A handshake under way holds no slot: the number of half-open ones is not
//     bounded by the table. Nor does a session that is ending: pion's Close takes
//     up to a second, for which an evicted one lives on beside its successor.
//   - Pion forgets to close the transport of some handshakes that fail (one
//     datagram with a handshake record and then plaintext application data is
//     enough). Of dtls.Listen's transports each such one keeps its peer out, and
//     the port bound after Close, until the process ends.
//   - A client that lost its state cannot come back from the same address and
//     port while its old session lives: pion takes its ClientHello for a replay
//     (RFC 6347 section 4.2.8 asks for more).
//   - A plaintext record with the peer's address, which anybody can forge, ends
//     an established session.
//   - About one session in a thousand ends without the close_notify that it should
//     end with: pion's Close stops its reading goroutine first, and that may
//     close the transport before the alert is written.
//   - Each session costs pion's three or four goroutines and some 37 KB.
//
// Listen, to come in this package, will own the socket and do without these.
package pionv2
