// SPDX-License-Identifier: MIT

// Package pionv2 serves DTLS 1.2 sessions of github.com/pion/dtls/v2 out of a table
// of package dsm, so that a server never has more of them than it has room for.
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
// or, without a goroutine for each session:
//
//	err = listener.Serve(ctx, func(c *pionv2.Conn, datagram []byte) { … })
//
// # What Listen does
//
// It owns the UDP socket. Pion runs each handshake, beside all others, and then the
// session is taken over: its records are opened and sealed here, and pion's conn is
// closed without a word. The table is what datagrams are looked up in.
//
//   - Bounded: no more than Config.Sessions are established and no more than
//     Config.Handshakes half-open; the table has a slot for each of both. Room is
//     reserved before anything is allocated.
//   - A newcomer evicts a session, if it must, only once it has completed its
//     handshake. A flood of strangers evicts nobody: under pressure the oldest
//     half-open handshake goes whose client has not returned its cookie.
//   - A client that lost its state comes back from its address and port (RFC 6347
//     section 4.2.8): the new handshake runs beside the old session, which lives on
//     untouched until the new one is complete.
//   - A plaintext record, which anybody can forge, does nothing to an established
//     session.
//   - Only what passed its MAC and the replay window counts as use, and what we send.
//   - The nonces of the AEAD suites are epoch and sequence number (RFC 9325 section
//     7.2.1), but for the one or two records that pion seals at the end of its
//     handshake (CVE-2026-26014: it draws them at random). Should one of these be a
//     nonce that the session could ever come to, which happens once in 2^24
//     handshakes, there is no session, and the client must try again.
//   - The client's Finished is opened here before pion gets it, and only after pion
//     has the keys: pion v2 can be ended by a CBC record whose padding stands where
//     the MAC should, and it keeps what comes too early in buffers that others use.
//   - An idle session has no goroutine. Its ciphers are dropped after a minute.
//
// # What Listen inherits
//
// The handshake is pion's, and so are its limits: it does not compare the verify_data
// of a client's Finished (the client must have the keys to seal it, though); a
// half-open handshake costs some 37 KB and four goroutines; and a forged alert ends a
// handshake under way, whoever sent it. A client's first ClientHello must come in one record: a fragmented one is not
// admitted (Stats.Stray). Custom cipher suites, SRTP, InsecureSkipVerifyHello and
// dtls.Config.SessionStore are refused.
//
// # Resumption
//
// With Config.Resumption sessions can be resumed. Pion v2's own way forgets who the
// client is, skips the policy and stores sessions before the client has proven
// anything; here the session is looked up, and all that stands against it looked at,
// before pion begins, and stored when its handshake is done. An abbreviated handshake
// has no cookie: its client shows where it is by its Finished, and until then is
// treated as one that has not returned its cookie, and is sent no more than three
// times the bytes that came.
//
// A fatal alert of the client's that came sealed removes a session from the store (RFC
// 5246 section 7.2.2). Anything that could be forged removes nothing. A plaintext alert
// ends an abbreviated handshake until the client has shown that it has the keys; no other
// handshake message reaches one but its own first ClientHello.
//
// # Wrap
//
// Wrap bounds a pion listener that exists already. It sees a session only after
// pion's handshake, so pion's own limits stay:
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
//     port while its old session lives: pion takes its ClientHello for a replay.
//   - A plaintext record with the peer's address, which anybody can forge, ends
//     an established session.
//   - With a CBC suite, which are among pion's defaults, a client can end the
//     process: pion slices out of bounds if the padding of a sealed record is sound
//     and longer than what it should leave for the MAC.
//   - About one session in a thousand ends without the close_notify that it should
//     end with: pion's Close stops its reading goroutine first, and that may
//     close the transport before the alert is written.
//   - Handshake records that come out of order can be taken for another peer's: pion
//     keeps them in a buffer that it has given back.
//   - Each session costs pion's three or four goroutines and some 37 KB.
package pionv2
