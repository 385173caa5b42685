// SPDX-License-Identifier: MIT

// Package dtlsserver serves DTLS 1.2 sessions out of a table of package dsm, so that a
// server never has more of them than it has room for. The handshakes are pion/dtls's.
// An adapter of one of its major versions opens a Listener: see pionv2.Listen. What this
// package defines is what a server uses then, under the adapter's names or these.
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
// # What a Listener does
//
// It owns the UDP socket. Pion runs each handshake, and all of them run at the same time.
// Pion reads nothing of the network: see package internal/handshake, type Gate. When a
// handshake is done its session is taken over: its records are opened and sealed here,
// and pion's conn is closed without an alert to the client. Datagrams are looked up in the
// table.
//
//   - It is bounded. At most Config.Sessions are established and at most
//     Config.Handshakes are in progress. The table has a slot for each of both. Room is
//     reserved before anything is allocated.
//   - A newcomer evicts a session, if it must, only once it has completed its handshake.
//     A flood of strangers evicts nobody: under pressure the oldest handshake is displaced
//     whose client has not validated its address.
//   - A client that has lost its state comes back from its address and port (RFC 6347
//     section 4.2.8). The new handshake runs while the old session lives on untouched, and
//     replaces that when it is complete.
//   - A plaintext record, which anybody can forge, has no effect on an established
//     session.
//   - Only records that are authentic and not replayed count as use, and those that the
//     server sends.
//   - The nonces of the AEAD suites are made of epoch and sequence number (RFC 9325 section
//     7.2.1).
//   - An idle session has no goroutine. Its ciphers are released after a minute.
//   - A run of forged records at an idle session builds its ciphers once, and few idle
//     sessions keep such ciphers.
//   - What is queued counts as the memory that it occupies. One session has at most
//     Config.QueueBytes, and all together have at most Config.QueueTotal, for which the
//     longest queue pays.
//
// # Resumption
//
// With Config.Resumption sessions can be resumed. A session is looked up, and everything
// against resuming it is checked, before pion begins the handshake. It is stored when its
// full handshake is done. An abbreviated handshake has no cookie. Its client validates
// its address by its Finished, and until then is treated like one that has not returned
// its cookie.
//
// An authentic fatal alert of the client removes its session from the store (RFC 5246
// section 7.2.2). Nothing that could be forged removes a session.
//
// # Locks
//
// A goroutine takes them in this order:
//
//  1. Listener.life.mu: whether the listener is open. Nothing is called under it.
//  2. Listener.admission.mu: which handshakes are in progress.
//  3. Peer.mu: a peer, its sessions and its handshake. A goroutine locks one peer at a
//     time.
//  4. The lock of an adapter's handshake.
//  5. Leaves, under which no other lock is taken: those of the sweeper, of the warm
//     sessions, of the work queue, of the lists of long queues and of a session's data,
//     and the table's.
//
// No lock is held during hooks, handlers, calls of Config.Resumption, and writes to a
// socket. Records are opened and sealed under Peer.mu or the lock of a handshake, and no
// wider one. One mutex is not in this order: resumableState.storing is held while the
// store is called, by goroutines that hold no other lock.
//
// A build with the tag lockcheck checks the order at every Lock; see package lockorder.
package dtlsserver
