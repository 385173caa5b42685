// SPDX-License-Identifier: MIT

// Package resume keeps DTLS sessions for resumption, the abbreviated handshake of
// RFC 5246 section 7.3: a client that comes back with the id of its last session
// needs one round trip less, and neither side an asymmetric operation.
//
// A Session is what has to be known then: the master secret, and whose it is. A
// Store keeps Sessions in a Backend, and stands between a listener and a Backend
// that may be slow, down or full of other people's bytes: whatever goes wrong is a
// miss, within LookupTimeout, and a miss only means a full handshake.
//
//	store, err := resume.New(resume.Config{}) // in this process
//	…
//	err = store.Put(ctx, id, &resume.Session{Secret: secret, Suite: suite, Scope: "devices"})
//	…
//	session, ok := store.Get(ctx, netip.MustParsePrefix("192.0.2.0/24"), id)
//
// The package does no I/O of its own. A Store starts a goroutine for each call of
// its Backend, which ends with that call, and none besides.
package resume
