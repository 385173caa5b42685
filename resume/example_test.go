// SPDX-License-Identifier: MIT

package resume_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"time"

	"github.com/go-dsm/dsm/resume"
)

// A listener stores a session after a full handshake, looks it up when the client returns,
// and deletes it when the client must not resume it any more.
func Example() {
	store, err := resume.New(resume.Config{Lifetime: time.Hour, LookupTimeout: time.Second})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	id, secret := make([]byte, 32), make([]byte, 48)
	rand.Read(id)
	rand.Read(secret)

	// After a full handshake: the session can be resumed for an hour.
	session := &resume.Session{Secret: secret, Suite: 0xc0a8, PSKIdentity: []byte("device-17"), Scope: "devices"}
	if err := store.Put(ctx, id, session); err != nil {
		panic(err)
	}

	// A ClientHello contains the id.
	source := netip.MustParsePrefix("192.0.2.0/24")
	if found, ok := store.Get(ctx, source, id); ok && found.Scope == "devices" {
		fmt.Printf("welcome back, %s\n", found.PSKIdentity)
	}

	// The client is no longer authorized.
	if err := store.Delete(ctx, id, session); err != nil {
		panic(err)
	}
	_, ok := store.Get(ctx, source, id)
	fmt.Println(ok)
	// Output:
	// welcome back, device-17
	// false
}

// A device was stolen. None of the sessions that it has can be resumed any more, on any
// server that shares the Backend.
func ExampleStore_RevokeIdentity() {
	store, err := resume.New(resume.Config{LookupTimeout: time.Second})
	if err != nil {
		panic(err)
	}
	ctx, source := context.Background(), netip.MustParsePrefix("192.0.2.0/24")
	id, secret := make([]byte, 32), make([]byte, 48)
	rand.Read(id)
	rand.Read(secret)
	if err := store.Put(ctx, id, &resume.Session{Secret: secret, PSKIdentity: []byte("device-17")}); err != nil {
		panic(err)
	}

	resumable := func(id []byte) bool {
		session, ok := store.Get(ctx, source, id)
		return ok && !store.IdentityRevoked(ctx, source, "devices", "psk:"+string(session.PSKIdentity), session)
	}
	fmt.Println(resumable(id))
	if err := store.RevokeIdentity(ctx, "devices", "psk:device-17"); err != nil {
		panic(err)
	}
	fmt.Println(resumable(id))
	// Output:
	// true
	// false
}
