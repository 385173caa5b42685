// SPDX-License-Identifier: MIT

package resume

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/go-dsm/dsm"
)

const (
	minID = keyLen // bytes
	maxID = 32     // RFC 5246 section 7.4.1.2

	keyLen = 18 // an IPv6 address and a port
)

// Memory is a Backend in this process: a fixed number of entries, of which the one
// that was used longest ago makes room for a new one. Get is a use, and so is Put.
// An expired entry is dropped when it is met, and else makes room in its turn.
//
// Make one with NewMemory; the zero Memory cannot be used. It is safe for concurrent
// use and must not be copied. It starts no goroutine.
//
// Ids are 18 to 32 bytes long: Put refuses any other, and none is found. Of two ids
// with the same first 18 bytes it keeps the one that came last: they are to be random.
type Memory struct {
	// Set in NewMemory, never changed.
	began time.Time
	table *dsm.Table[entry]

	// mu makes one step of what are two for the table: look and use, compare and
	// free, free and store. No call comes between, so Put never seems to have lost
	// the entry that it replaces.
	mu sync.Mutex
}

// entry is a value of the table. It is never changed, so it is read without a lock.
type entry struct {
	kept    string        // the id, then the value: one piece of memory
	id      int           // the length of the id
	expires time.Duration // since Memory.began, by the monotonic clock
}

// NewMemory returns a Memory of that many entries. Fewer than 1 or more than
// 67 108 864 (2^26) is an error. All memory but the ids and values, which are 32 +
// MaxEncoded bytes each at most, is taken here: about 105 bytes an entry.
func NewMemory(entries int) (*Memory, error) {
	table, err := dsm.New[entry](entries)
	if err != nil {
		return nil, fmt.Errorf("resume: a memory of %d entries: %w", entries, err)
	}
	return &Memory{began: time.Now(), table: table}, nil
}

// keyOf is how the table knows an id. It hashes with a secret, and keeps every 18
// bytes apart: that it takes an IPv4-mapped address for the IPv4 one is no matter,
// for no other id has that.
func keyOf(id []byte) (key netip.AddrPort, ok bool) {
	if len(id) < minID || len(id) > maxID {
		return key, false
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(id)), binary.BigEndian.Uint16(id[16:])), true
}

// findLocked looks an entry up, without using it, and drops it if it has expired.
func (m *Memory) findLocked(key netip.AddrPort, id []byte) (handle dsm.Handle[entry], e entry, ok bool) {
	session := dsm.Session[entry]{Peer: key}
	handle, state := m.table.Hold(dsm.Sock{}, &session, dsm.StateNone, true)
	if state == dsm.StateNone {
		return handle, e, false
	}
	e = session.Value
	if e.expires <= time.Since(m.began) {
		handle.Free()
		return handle, e, false
	}
	return handle, e, e.kept[:e.id] == string(id)
}

// Get implements Backend.
func (m *Memory) Get(ctx context.Context, id []byte) (value []byte, ok bool, err error) {
	key, ok := keyOf(id)
	if err := ctx.Err(); err != nil || !ok {
		return nil, false, err
	}
	m.mu.Lock()
	handle, e, ok := m.findLocked(key, id)
	if ok {
		handle.Use()
	}
	m.mu.Unlock()
	if !ok {
		return nil, false, nil
	}
	return []byte(e.kept[e.id:]), true, nil
}

// Put implements Backend. More than MaxEncoded bytes of value are an error.
func (m *Memory) Put(ctx context.Context, id, value []byte, ttl time.Duration) error {
	key, ok := keyOf(id)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !ok:
		return fmt.Errorf("resume: an id of %d bytes: want %d to %d", len(id), minID, maxID)
	case len(value) > MaxEncoded:
		return fmt.Errorf("resume: a value of %d bytes: want at most %d", len(value), MaxEncoded)
	case ttl <= 0:
		return errors.New("resume: the time to live is not positive")
	}
	var kept strings.Builder
	kept.Grow(len(id) + len(value))
	kept.Write(id)
	kept.Write(value)
	now := time.Since(m.began)
	session := dsm.Session[entry]{Peer: key, Value: entry{
		kept: kept.String(), id: len(id), expires: now + min(ttl, math.MaxInt64-now),
	}}
	m.mu.Lock()
	handle, previous, _ := m.table.Admit(dsm.Sock{}, &session, dsm.StateEstablished, false)
	if previous == dsm.StateEstablished { // the table never replaces a value
		handle.Free()
		m.table.Store(dsm.Sock{}, &session, dsm.StateEstablished, false)
	}
	m.mu.Unlock()
	return nil
}

// Delete implements Backend.
func (m *Memory) Delete(ctx context.Context, id, value []byte) (deleted bool, err error) {
	key, ok := keyOf(id)
	if err := ctx.Err(); err != nil || !ok {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	handle, e, ok := m.findLocked(key, id)
	return ok && e.kept[e.id:] == string(value) && handle.Free(), nil
}

// Len returns how many entries there are, counting those that have expired and were
// not met since.
func (m *Memory) Len() int { return m.table.MaxSlots() - m.table.AvailableSlots() }
