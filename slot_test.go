// SPDX-License-Identifier: MIT

package dsm

import (
	"net/netip"
	"reflect"
	"runtime"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRecordsOfSlotDivideCacheLine checks that no slot, node or entry is in two cache
// lines, and that none of them has a pointer that the garbage collector would follow.
func TestRecordsOfSlotDivideCacheLine(t *testing.T) {
	assert.EqualValues(t, 32, unsafe.Sizeof(slot{}))
	assert.EqualValues(t, 16, unsafe.Sizeof(node{}))
	assert.EqualValues(t, 8, unsafe.Sizeof(entry{}))
	for _, record := range []any{slot{}, node{}, entry{}, group{}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(record)) {
			kind := field.Type.Kind()
			if kind == reflect.Array {
				kind = field.Type.Elem().Kind()
			}
			assert.True(t, reflect.Int <= kind && kind <= reflect.Uint64, "%T.%s", record, field.Name)
		}
	}
}

// TestFreedSlotRetainsNothing checks that the garbage collector frees the values of
// removed sessions.
func TestFreedSlotRetainsNothing(t *testing.T) {
	table, err := New[*[64]byte](4)
	require.NoError(t, err)
	var collected atomic.Int32
	store := func(peer netip.AddrPort, state State) {
		value := new([64]byte)
		runtime.AddCleanup(value, func(int) { collected.Add(1) }, 0)
		table.Store(Sock{}, &Session[*[64]byte]{peer, value}, state, false)
	}
	store(peerA, StateEstablished)
	store(peerB, StateEstablished)
	store(peerC, StateHandshake)
	table.Remove(Sock{}, &Session[*[64]byte]{Peer: peerA})
	table.Evict(Sock{})
	table.Store(Sock{}, &Session[*[64]byte]{Peer: peerC}, StateNone, false)
	require.Equal(t, 4, table.AvailableSlots())
	for i := range 5 { // the fifth session evicts the first
		value := new([64]byte)
		runtime.AddCleanup(value, func(int) { collected.Add(1) }, 0)
		handle, _, _ := table.Admit(Sock{}, &Session[*[64]byte]{peerNo(i), value}, StateEstablished, false)
		if i == 4 {
			handle.Free()
		}
	}
	for range 1000 {
		if collected.Load() == 5 {
			break
		}
		runtime.GC()
		runtime.Gosched()
	}
	assert.EqualValues(t, 5, collected.Load())
	runtime.KeepAlive(table)
}
