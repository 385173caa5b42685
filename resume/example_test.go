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

// What a listener does for a client that comes back.
func Example() {
	store, err := resume.New(resume.Config{Lifetime: time.Hour, LookupTimeout: time.Second})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	id, secret := make([]byte, 32), make([]byte, 48)
	rand.Read(id)
	rand.Read(secret)

	// A full handshake is done: its session can be resumed for an hour.
	session := &resume.Session{Secret: secret, Suite: 0xc0a8, PSKIdentity: []byte("device-17"), Scope: "devices"}
	if err := store.Put(ctx, id, session); err != nil {
		panic(err)
	}

	// A client's hello has that id.
	source := netip.MustParsePrefix("192.0.2.0/24")
	if found, ok := store.Get(ctx, source, id); ok && found.Scope == "devices" {
		fmt.Printf("welcome back, %s\n", found.PSKIdentity)
	}

	// The client has lost its rights.
	if err := store.Delete(ctx, id, session); err != nil {
		panic(err)
	}
	_, ok := store.Get(ctx, source, id)
	fmt.Println(ok)
	// Output:
	// welcome back, device-17
	// false
}
