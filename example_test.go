// SPDX-License-Identifier: MIT

package dsm_test

import (
	"fmt"
	"net/netip"

	"github.com/go-dsm/dsm"
)

// A session from the handshake to its removal, with the calls of RIOT.
func Example() {
	table, err := dsm.New[string](8)
	if err != nil {
		panic(err)
	}
	sock := dsm.NewSock()
	session := dsm.Session[string]{Peer: netip.MustParseAddrPort("192.0.2.1:5684"), Value: "keys"}

	// The handshake begins and ends.
	fmt.Println(table.Store(sock, &session, dsm.StateHandshake, false))
	fmt.Println(table.Store(sock, &session, dsm.StateEstablished, false))
	fmt.Println(table.AvailableSlots(), "of", table.MaxSlots(), "slots free")

	// A datagram arrives on a dual-stack socket. Store finds the session of its peer.
	found := dsm.Session[string]{Peer: netip.MustParseAddrPort("[::ffff:192.0.2.1]:5684")}
	fmt.Println(table.Store(sock, &found, dsm.StateHandshake, true), found.Peer, found.Value)

	table.Remove(sock, &session)
	fmt.Println(table.AvailableSlots(), "of", table.MaxSlots(), "slots free")
	// Output:
	// NONE
	// HANDSHAKE
	// 7 of 8 slots free
	// ESTABLISHED 192.0.2.1:5684 keys
	// 8 of 8 slots free
}

// A full table makes room for a new session.
func ExampleTable_Evict() {
	table, err := dsm.New[string](2)
	if err != nil {
		panic(err)
	}
	sock := dsm.NewSock()
	for _, peer := range []string{"192.0.2.1:5684", "192.0.2.2:5684", "192.0.2.3:5684"} {
		session := dsm.Session[string]{Peer: netip.MustParseAddrPort(peer), Value: "conn of " + peer}
		for table.Store(sock, &session, dsm.StateEstablished, false) == dsm.NoSpace {
			oldest, ok := table.Evict(sock)
			if !ok {
				return // all sessions are half-open or belong to other socks
			}
			fmt.Println("close", oldest.Value)
		}
	}
	for session, state := range table.All() {
		fmt.Println(session.Peer, state)
	}
	// Output:
	// close conn of 192.0.2.1:5684
	// 192.0.2.2:5684 ESTABLISHED
	// 192.0.2.3:5684 ESTABLISHED
}

// A handle needs no lookup. It refers to one session, not to a later session of the
// same peer.
func ExampleTable_Hold() {
	table, err := dsm.New[string](2)
	if err != nil {
		panic(err)
	}
	var sock dsm.Sock // the zero Sock suffices for one socket
	session := dsm.Session[string]{Peer: netip.MustParseAddrPort("192.0.2.1:5684"), Value: "first"}
	first, _ := table.Hold(sock, &session, dsm.StateEstablished, false)
	fmt.Println(first.Use())

	table.Remove(sock, &session)
	session.Value = "second"
	table.Store(sock, &session, dsm.StateEstablished, false)
	fmt.Println(first.Use(), first.Free(), table.AvailableSlots())
	// Output:
	// true
	// false false 1
}

// The peer of a session gets a new address. The session is found by its slot and
// generation, which its peer sends as a connection ID, and moves to the address.
func ExampleHandle_Rebind() {
	table, err := dsm.New[string](8)
	if err != nil {
		panic(err)
	}
	sock := dsm.NewSock()
	session := dsm.Session[string]{Peer: netip.MustParseAddrPort("192.0.2.1:5684"), Value: "keys"}
	handle, _ := table.Hold(sock, &session, dsm.StateEstablished, false)
	slot, generation := handle.Slot(), handle.Generation()

	// A record with these numbers arrives from another address.
	from := netip.MustParseAddrPort("198.51.100.7:40000")
	found := table.At(slot, generation)
	stored, state := found.Get()
	fmt.Println(stored.Peer, stored.Value, state)
	// The record is authentic and newer than all before it.
	fmt.Println(found.Rebind(from))
	_, state = table.Get(sock, session.Peer)
	fmt.Println(state)
	_, state = table.Get(sock, from)
	fmt.Println(state, handle.Use())
	// Output:
	// 192.0.2.1:5684 keys ESTABLISHED
	// true
	// NONE
	// ESTABLISHED true
}
