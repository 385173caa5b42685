// SPDX-License-Identifier: MIT

// Package resume stores DTLS sessions for resumption, the abbreviated handshake of
// RFC 5246 section 7.3. A client that sends the id of its last session saves a round
// trip, and both sides save the asymmetric operations of a full handshake.
//
// A [Session] holds what a server needs for the abbreviated handshake: the master
// secret, and the identity that the client proved in the full handshake. A [Store]
// keeps Sessions in a [Backend]. The Store protects its listener from a Backend that is
// slow, unavailable, or returns bytes that are not a Session: each of these becomes a
// miss within Config.LookupTimeout, and a miss only means a full handshake.
//
//	store, err := resume.New(resume.Config{}) // sessions in the memory of this process
//	…
//	err = store.Put(ctx, id, &resume.Session{Secret: secret, Suite: suite, Scope: "devices"})
//	…
//	session, ok := store.Get(ctx, netip.MustParsePrefix("192.0.2.0/24"), id)
//
// [Store.Delete] and [Store.Revoke] end one session, whose id the caller knows.
// [Store.RevokeIdentity] ends all earlier sessions of one client, for example of a device
// that was stolen. It stores the current time under a hash of the client's name, so that
// all servers that share the Backend know it. A server that has found a session asks
// [Store.IdentityRevoked] before it resumes the session. The clocks of the servers must not
// differ by more than a minute.
//
// The package does no I/O. A Store starts one goroutine for each call of its Backend,
// which ends when that call returns. The package starts no other goroutine.
package resume
