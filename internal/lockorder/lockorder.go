// SPDX-License-Identifier: MIT

// Package lockorder has mutexes with a rank. A goroutine may lock a mutex only
// while every mutex that it holds has a lower rank. A build with the tag lockcheck
// checks that at each Lock, and that no ranked mutex is held where AssertNone is
// called; a violation panics. Without the tag a Mutex is a sync.Mutex.
//
// Only locks of this package are checked. The locks of other packages, such as
// the table's, are leaves: nothing is called while they are held.
package lockorder

// Rank is a mutex's place in the order. Its implementations are empty structs.
type Rank interface{ rank() int }

// The ranks, in the order in which mutexes are locked.
type (
	// Listener is for whether a listener is open.
	Listener struct{}
	// Admission is for the handshakes in progress of a listener.
	Admission struct{}
	// Peer is for a peer, its sessions and its handshake.
	Peer struct{}
	// Handshake is for what an adapter keeps of one handshake.
	Handshake struct{}
	// Leaf is for locks under which no other is taken.
	Leaf struct{}
)

func (Listener) rank() int  { return 1 }
func (Admission) rank() int { return 2 }
func (Peer) rank() int      { return 3 }
func (Handshake) rank() int { return 4 }
func (Leaf) rank() int      { return 5 }
