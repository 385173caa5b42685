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
//     Config.Handshakes are in progress. The table has a slot for each session and each
//     handshake. Room is reserved before anything is allocated.
//   - A newcomer evicts a session, if it must, only once it has completed its handshake.
//     A flood of strangers evicts nobody.
//   - Honest clients get in during a flood, in proportion to the room that there is: see
//     Admission.
//   - A client that has lost its state comes back from its address and port (RFC 6347
//     section 4.2.8). The new handshake runs while the old session lives on untouched, and
//     replaces that when it is complete.
//   - A plaintext record, which anybody can forge, has no effect on an established
//     session.
//   - Only records that are authentic and not replayed count as use, and those that the
//     server sends.
//   - The nonces of the AEAD suites are made of epoch and sequence number (RFC 9325 section
//     7.2.1).
//   - An idle session has no goroutine. Its ciphers are released within a minute and
//     a half.
//   - A run of forged records at an idle session builds its ciphers once, and few idle
//     sessions keep such ciphers.
//   - What is queued counts as the memory that it occupies. One session has at most
//     Config.QueueBytes, and all together have at most Config.QueueTotal, for which the
//     longest queue pays.
//
// # Admission
//
// With pionv4 the server draws the cookie of the HelloVerifyRequest (RFC 6347 section 4.2.1): an
// HMAC over the client's address and port, the time, and what its two ClientHellos have in
// common, under a key that changes each minute. Nothing is kept for a first ClientHello, and
// it takes no place. A ClientHello with post-quantum key shares can come in fragments. The first
// fragment of the first ClientHello is answered, and the cookie in the first fragment of the
// second one is verified, so that needs no state either. A first fragment that ends before the
// extensions is dropped. A cookie is valid for two minutes.
//
// With pionv2 pion draws the cookie, so a stranger's ClientHello takes a place, and what
// follows about clients that wait for their cookie is for pionv2 alone. With pionv4 a handshake
// begins with the ClientHello that has returned a cookie. The rules for a first ClientHello
// that finds no place are for that one.
//
// A handshake in progress has one of Config.Handshakes places. One place in eight is kept for
// returning clients: those that name a session of Config.Resumption, or whose address has a
// session. The others are for newcomers. When places are scarce:
//
//   - A first ClientHello that finds no place gets no answer, and waits in a backlog: up to
//     16 for each of Config.Handshakes, in at most 8 MiB. Its client repeats it, and each
//     time it is the newest again. When a handshake ends the newest one is answered.
//   - A handshake keeps its place for the time in the table below. After that it can be
//     displaced: the one that has waited longest for its cookie, or if there is none the
//     one that was silent longest after it. A newcomer displaces a returning client only
//     if such clients have more than their reserve.
//   - A network that has its share (Config.HandshakesPerSource) displaces only handshakes
//     of its own, already when three quarters of the newcomers' places are taken.
//
// A handshake keeps its place for
//
//	                              without a crowd       in a crowd
//	until the cookie is returned  15 s                  1.25 v, at least 0.5 s and at most 15 s;
//	                                                    3 s if no client has got in yet
//	after that                    half of the timeout   the longest of 2 v, 2 c and 2 s
//
// and at most for half of Config.HandshakeTimeout. There is a crowd while as many
// ClientHellos wait as a quarter of Config.Handshakes. Of the clients that have got in
// lately, v is the longest time from the first ClientHello to the returned cookie, and c the
// longest time from there to the end of the handshake. A client that is slower than the
// times of the crowd can still get in: an eighth of the places keeps the times without a
// crowd, and another eighth does so after the cookie. All places do so in the first 30 s of
// a listener, until a client has got in. A client whose session Config.Resumption knows has
// half of the timeout.
//
// A client that returns the cookie of a handshake that has ended, or goes on with one that
// was displaced after that, is told to begin anew at once, by a fatal alert. In the first
// minute of a listener that is so for a cookie that the listener does not know, too: it can be
// of the listener before it. With pionv4 the client has to repeat such a cookie.
//
// Anybody can send a ClientHello in a client's name, before or during its handshake. Each
// ClientHello has a handshake of its own, and ends no other one. Two of them may wait for
// their cookie at one address. A further one has to be repeated, as a client does, and takes
// the place of the older one. So a forger cannot fill the network with cookies that are not
// the client's. A client that returns such a cookie is told to begin anew.
//
// # Identities
//
// Config.SessionsPerIdentity bounds the sessions of one identity: who the peer has proven to be,
// as Config.IdentityKey names it. Otherwise one pre-shared key or certificate, from one port
// after the other, could evict all other sessions of a full listener. The limit is applied when
// a handshake is done, before any other session is evicted:
//
//   - A peer that comes back from its address and port replaces its own session (Replaced).
//   - Otherwise the session of the identity whose last use is oldest makes room
//     (IdentityReplaced), or with Config.WhenIdentityFull the newcomer is refused
//     (IdentityRefused).
//
// Listener.EndIdentity ends all sessions of an identity whose credentials have become invalid
// (Withdrawn), those in the store of Config.Resumption, and those of handshakes in progress that
// have been checked already.
//
// # Connection IDs
//
// With pionv4 a client that offers the extension gets a connection ID (RFC 9146):
// Config.ServerID and 16 bytes, which are the number and the generation of its slot, encrypted
// under a key of the listener. A record with an ID is looked up by the ID, and without one by
// its address. A made-up ID leads to a slot with a probability of 2^-64.
//
// So a session survives when its client gets another address, as behind a NAT. An ID proves
// nothing. Everybody on the path sees it and can send a copy of a record from anywhere:
//
//   - A record that is not authentic, or was received before, says nothing of an address.
//   - An authentic record is received wherever it comes from. It says that the peer may have
//     moved only if its sequence number is higher than all before (RFC 9146 section 6).
//   - Then the new address gets answers, at most three times as many bytes as have come from
//     there. What exceeds that goes to the last address that was verified. If the newest record
//     comes from a third address, that one replaces the new address, with a count that begins
//     at zero. If it comes from the verified address, there is no new address any more.
//   - The session moves when the peer has shown that it receives there: by the answer to a
//     path_challenge (RFC 9853), if that was negotiated, or by what the application knows, see
//     Conn.ConfirmAddress. A path_challenge is sent when something comes from there, at most one
//     a second and five for an address.
//   - A move changes the session's key in the table, and nothing else of it. If another peer
//     of the listener has the address, the session stays, with the limit, and tries again with
//     the next record. Handshakes that the peer had in progress at the old address end
//     (Stats.Displaced).
//
// Config.AddressChange can have a session move at once, or never. A handshake does not move:
// what comes for one from another address is dropped, and its client begins anew.
//
// Without a negotiated check and without ConfirmAddress a client that has moved keeps the
// limit. Answers that are longer than three times the requests then go to its old address. For
// such clients there is TrustAddress, if everybody on the path is trusted, or CoAP's Echo
// option (RFC 9175).
//
// # Resumption
//
// With Config.Resumption sessions can be resumed. A session is looked up, and everything
// against resuming it is checked, before pion begins the handshake. With pionv4 the client has
// returned a cookie by then. A session is stored when the client's last flight is verified, and
// before the server's last flight is sent. So a client that knows that its full handshake is
// done can resume the session. With pionv2 an abbreviated handshake has no cookie. Its client
// validates its address by its Finished. Until then it is sent at most three times as many
// bytes as it has sent.
//
// An authentic fatal alert of the client removes its session from the store (RFC 5246
// section 7.2.2). Nothing that could be forged removes a session.
//
// # Authorization
//
// Config.Authorize has the application's word on each session whose peer is authentic. Until the
// word is there nothing is stored of the session, nobody is evicted for it, and its client gets
// no Finished of a full handshake. A callback that hangs holds up its own handshake for
// Config.AuthorizeTimeout, and nobody else:
//
//   - At most Config.Handshakes calls have not returned. Further sessions are refused at once.
//   - What the client sends meanwhile is held, in 16 records and 16 KiB. Its repeated flight is
//     answered when the word is there.
//   - The handshake keeps its place for the times above, so a crowd can displace it.
//
// A refused client gets a fatal alert, access_denied or internal_error (RFC 5246 section 7.2.2).
// In a full handshake the alert is in plaintext. If it is lost the client repeats its last
// flight, and is told again, at most twice in half a minute, for anybody can send such a flight
// in its name. In an abbreviated handshake the alert is sealed, and sent once, and the session
// is removed from Config.Resumption.
//
// # Restarts
//
// Sessions can outlive their listener. Conn.Detach and Listener.Attach move one of them,
// Listener.SaveFile and RestoreFile all of them; Config.Journal is for a crash. Whoever has
// the state of a session seals with its next sequence number, so there must not be two:
//
//   - A session whose state was given away is frozen: its record layer seals nothing any
//     more, whoever asks it to.
//   - A SessionState is attached once in a process. A snapshot's file is claimed on the disk
//     before it is used. A snapshot is restored as a whole or not at all, so a part of one
//     that a failed Save has left cannot be used.
//   - The journal has a ceiling of each session's sequence numbers, which the record layer
//     does not pass. A higher one holds once it is on the disk. After a crash a session goes
//     on above its ceiling, and not before that is on the disk in turn.
//
// # Answers
//
// What handlers write is collected while the reader of a socket or a worker of Serve has more to
// do, and leaves by one system call. A session's datagrams leave in the order in which they were
// written, its close_notify last. A datagram waits for others for about a millisecond at most, and
// not at all for a handler that was slow the last time. With a single processor a handler that
// computes, and was not slow before, can hold up the answers before it until it returns. The
// listener stops collecting for a while if that happens often. A datagram of a session that is
// alone is sent at once, and every datagram is on a socket that is written one by one: on systems
// other than Linux, and with a net.PacketConn that is no *net.UDPConn. A process that
// ends without Close or Save can lose the datagrams of the last millisecond.
//
// # Counts and logs
//
// Each end of a handshake, each end of a session, each ClientHello that begins no handshake and
// each record that is dropped has one reason, which is one word: in Stats.Counts, in the log, in
// Listener.Refusals and in the metrics of module dsmprom. Stats are counts of one moment, so its
// sums hold in each of them. The log has few lines of each reason and network, and says how many
// were left out: see Config.Logger. What a socket's reader finds is written by another goroutine,
// within a second.
//
// # Locks
//
// A goroutine takes them in this order:
//
//  1. Listener.life.mu: whether the listener is open. Nothing is called under it.
//  2. Listener.admission.mu: which handshakes are in progress.
//  3. Peer.mu: a peer, its sessions and its handshakes. A goroutine locks one peer at a
//     time.
//  4. The lock of an adapter's handshake.
//  5. Leaves, under which no other lock is taken: those of the sockets' outboxes, of the
//     sweeper, of the warm sessions, of the work queue, of the lists of long queues, of a
//     session's data, of the backlog, of the recent ClientHellos, of the stale cookies, of
//     the identities, of the events and of the journal, and the table's.
//
// No lock is held during hooks, handlers, calls of Config.PSK, Config.Authorize,
// Config.IdentityKey and Config.Resumption, and writes to the log, a socket or a file. Records
// are opened and sealed under Peer.mu or the lock of a handshake,
// and no wider one.
//
// The path of a datagram takes the locks of the sweeper and of the journal. They are not held for
// a time that grows with the number of sessions: see types fifo and sweeper.
//
// Three mutexes are not in this order. Listener.handover is held by Save to its end, and shared
// by a Detach that waits for the journal's disk. Only Save waits for it, with no other lock
// held. resumableState.storing is held while the store is called, by goroutines that hold no
// other lock. sweeper.sweeping is shared by the sweeps under way, which lock peers. EndIdentity
// alone waits for them, with no other lock held.
//
// A build with the tag lockcheck checks the order at every Lock; see package lockorder.
package dtlsserver
