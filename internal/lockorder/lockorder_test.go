// SPDX-License-Identifier: MIT

package lockorder

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMutexLocks(t *testing.T) {
	var m Mutex[Peer]
	n := 0
	done := make(chan struct{})
	for range 4 {
		go func() {
			for range 100 {
				m.Lock()
				n++
				m.Unlock()
			}
			done <- struct{}{}
		}()
	}
	for range 4 {
		<-done
	}
	assert.Equal(t, 400, n)
	AssertNone("the end of a test")
}

// In a checked build each violation panics, and what is in order does not.
func TestViolationsPanic(t *testing.T) {
	if !Checked {
		t.Skip("checked with the build tag lockcheck")
	}
	var listener Mutex[Listener]
	var admission Mutex[Admission]
	var peer, other Mutex[Peer]
	var leaf Mutex[Leaf]

	listener.Lock()
	admission.Lock()
	peer.Lock()
	leaf.Lock()
	assert.Panics(t, func() { AssertNone("a write") })
	leaf.Unlock()
	// The wider lock may be released first.
	admission.Unlock()
	listener.Unlock()

	assert.Panics(t, admission.Lock, "against the order")
	assert.Panics(t, other.Lock, "two of one rank")
	assert.Panics(t, peer.Lock, "the same one again")
	assert.Panics(t, func() { AssertNone("a write") })
	peer.Unlock()
	assert.Panics(t, peer.Unlock, "not held")
	assert.NotPanics(t, func() { AssertNone("a write") })
}
