// SPDX-License-Identifier: MIT

// Command table shows the session table without any DTLS: RIOT's calls, in the
// order in which a server with two slots makes them.
package main

import (
	"fmt"
	"log"
	"net/netip"

	"github.com/go-dsm/dsm"
)

func main() {
	table, err := dsm.New[string](2) // dsm_init
	if err != nil {
		log.Fatal(err)
	}
	sock := dsm.NewSock()
	a := netip.MustParseAddrPort("192.0.2.1:5684")
	b := netip.MustParseAddrPort("192.0.2.2:5684")
	c := netip.MustParseAddrPort("[2001:db8::3]:5684")

	store := func(peer netip.AddrPort, state dsm.State) dsm.State {
		session := dsm.Session[string]{Peer: peer, Value: "session of " + peer.String()}
		previous := table.Store(sock, &session, state, false)
		fmt.Printf("store  %-20v %-11v was %-11v free %d of %d\n",
			peer, state, previous, table.AvailableSlots(), table.MaxSlots())
		return previous
	}

	store(a, dsm.StateHandshake)
	store(a, dsm.StateEstablished)
	store(b, dsm.StateEstablished)
	store(a, dsm.StateEstablished) // a use of a: now b is the least recently used

	if store(c, dsm.StateEstablished) == dsm.NoSpace {
		oldest, _ := table.LRU(sock)
		fmt.Printf("lru    %v\n", oldest.Peer)
		table.Remove(sock, &oldest)
		fmt.Printf("remove %-32v                  free %d of %d\n", oldest.Peer, table.AvailableSlots(), table.MaxSlots())
		store(c, dsm.StateEstablished)
	}

	session := dsm.Session[string]{Peer: c}
	table.Store(sock, &session, dsm.StateHandshake, true) // restore
	fmt.Printf("restored: %s\n", session.Value)

	fmt.Println("least recently used first:")
	for session, state := range table.All() {
		fmt.Printf("       %-20v %v\n", session.Peer, state)
	}
}
