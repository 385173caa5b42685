// SPDX-License-Identifier: MIT

package dtlstest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-dsm/dsm/internal/record"
)

// A Hook sees each datagram of one direction, and reports whether it goes on. It may
// change the datagram's bytes, but does not keep them. Several goroutines may call it
// at a time. A nil Hook lets everything pass.
type Hook func(datagram []byte) bool

// hooks are those of a transport.
type hooks struct{ in, out atomic.Pointer[Hook] }

// SetIn replaces the hook for received datagrams. Nil removes it.
func (h *hooks) SetIn(hook Hook) { store(&h.in, hook) }

// SetOut replaces the hook for sent datagrams. Nil removes it.
func (h *hooks) SetOut(hook Hook) { store(&h.out, hook) }

func store(p *atomic.Pointer[Hook], hook Hook) {
	if hook == nil {
		p.Store(nil)
		return
	}
	p.Store(&hook)
}

// passes reports whether a hook lets a datagram pass.
func passes(p *atomic.Pointer[Hook], datagram []byte) bool {
	hook := p.Load()
	return hook == nil || (*hook)(datagram)
}

// Lossy returns a Hook that loses datagrams with a probability from 0 to 1. seed
// determines which ones.
func Lossy(probability float64, seed uint64) Hook {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 0))
	return func([]byte) bool {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64() >= probability
	}
}

// LoseNth returns a Hook that loses the n-th datagram, counted from 0. Used for both
// directions it counts both.
func LoseNth(n int) Hook {
	var seen atomic.Int64
	return func([]byte) bool { return seen.Add(1)-1 != int64(n) }
}

// All returns a Hook that passes the datagrams that all the given hooks pass. Each hook
// sees what the hooks before it have passed.
func All(hooks ...Hook) Hook {
	return func(datagram []byte) bool {
		for _, h := range hooks {
			if h != nil && !h(datagram) {
				return false
			}
		}
		return true
	}
}

// UniqueNumbers returns a Hook that passes everything and fails the test if one
// sender uses a sequence number of an epoch twice, or an explicit nonce of a protected
// record: the first 8 bytes of its fragment, as in AES-GCM and AES-CCM.
func UniqueNumbers(t testing.TB) Hook {
	var mu sync.Mutex
	seen := map[string]bool{}
	once := func(what string) {
		if seen[what] {
			t.Errorf("%s is used twice", what)
		}
		seen[what] = true
	}
	return func(datagram []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		for rest := datagram; len(rest) > 0; {
			var r record.Record
			var fault record.Fault
			if r, rest, fault = record.Next(rest); fault != record.NoFault {
				t.Errorf("a malformed record, fault %d: %x", fault, datagram)
				return true
			}
			once(fmt.Sprintf("number %d of epoch %d", r.Sequence, r.Epoch))
			if r.Epoch > 0 && len(r.Fragment()) >= 8 {
				once(fmt.Sprintf("nonce %x", r.Fragment()[:8]))
			}
		}
		return true
	}
}
