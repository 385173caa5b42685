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
