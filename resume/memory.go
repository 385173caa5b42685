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

// Lengths in bytes.
const (
	keyLen   = 16 + 2 // a key of dsm.Table: an IPv6 address and a port
	minIDLen = keyLen
	maxIDLen = 32 // RFC 5246 section 7.4.1.2
)

// Memory is a Backend in the memory of this process. It has a fixed number of entries.
// When all are taken, a new entry evicts the least recently used one. Get and Put are
// uses. An expired entry is removed when a call finds it; until then it is evicted like
// any other.
//
// Make one with NewMemory; the zero Memory cannot be used. A Memory is safe for
// concurrent use and must not be copied. It starts no goroutine and needs no closing.
//
// Ids are 18 to 32 bytes long. Put refuses an id of another length, and Get and Delete
// do not find it. Ids should be random: of two ids with equal first 18 bytes, only the
// one that was put last is kept.
type Memory struct {
	// Set in NewMemory, never changed.
	start time.Time
	table *dsm.Table[memoryEntry]

	// mu makes one atomic step of two calls of the table: find and use, compare and
	// free, free and store. Without it, Get could miss an entry that Put is replacing.
	mu sync.Mutex
}

// memoryEntry is a value of the table. It never changes, so a copy is valid without the
// lock.
type memoryEntry struct {
	data    string        // the id followed by the value, in one allocation
	idLen   int           // bytes of data that are the id
	expires time.Duration // since Memory.start, by the monotonic clock
}

func (e *memoryEntry) id() string    { return e.data[:e.idLen] }
func (e *memoryEntry) value() string { return e.data[e.idLen:] }

// NewMemory returns a Memory with room for that many entries. Fewer than 1 or more than
// 67 108 864 (2^26) is an error. NewMemory allocates about 105 bytes for each entry. Put
// allocates the id and the value, which take at most 32 bytes and MaxEncoded bytes.
func NewMemory(entries int) (*Memory, error) {
	table, err := dsm.New[memoryEntry](entries)
	if err != nil {
		return nil, fmt.Errorf("resume: a memory of %d entries: %w", entries, err)
	}
	return &Memory{start: time.Now(), table: table}, nil
}

// tableKey returns the first 18 bytes of an id as a key of the table. ok is false if the
// id has a length that Memory refuses. The table hashes keys with a random seed, so that
// clients cannot look up ids that collide. It treats an IPv4-mapped address as the IPv4
// address; the keys stay distinct, because no id yields a plain IPv4 address.
func tableKey(id []byte) (key netip.AddrPort, ok bool) {
	if len(id) < minIDLen || len(id) > maxIDLen {
		return key, false
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(id)), binary.BigEndian.Uint16(id[16:])), true
}

// findLocked looks an entry up without using it, and removes it if it has expired.
func (m *Memory) findLocked(key netip.AddrPort, id []byte) (handle dsm.Handle[memoryEntry], e memoryEntry, ok bool) {
	session := dsm.Session[memoryEntry]{Peer: key}
	handle, state := m.table.Hold(dsm.Sock{}, &session, dsm.StateNone, true)
	if state == dsm.StateNone {
		return handle, e, false
	}
	e = session.Value
	if e.expires <= time.Since(m.start) {
		handle.Free()
		return handle, e, false
	}
	return handle, e, e.id() == string(id)
}

// Get implements Backend.
func (m *Memory) Get(ctx context.Context, id []byte) (value []byte, ok bool, err error) {
	key, ok := tableKey(id)
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
	return []byte(e.value()), true, nil
}

// Put implements Backend. A value of more than MaxEncoded bytes is an error.
func (m *Memory) Put(ctx context.Context, id, value []byte, ttl time.Duration) error {
	key, ok := tableKey(id)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !ok:
		return fmt.Errorf("resume: an id of %d bytes: want %d to %d", len(id), minIDLen, maxIDLen)
	case len(value) > MaxEncoded:
		return fmt.Errorf("resume: a value of %d bytes: want at most %d", len(value), MaxEncoded)
	case ttl <= 0:
		return errors.New("resume: the time to live is not positive")
	}
	var data strings.Builder
	data.Grow(len(id) + len(value))
	data.Write(id)
	data.Write(value)
	now := time.Since(m.start)
	session := dsm.Session[memoryEntry]{Peer: key, Value: memoryEntry{
		data: data.String(), idLen: len(id), expires: now + min(ttl, math.MaxInt64-now),
	}}
	m.mu.Lock()
	handle, previous, _ := m.table.Admit(dsm.Sock{}, &session, dsm.StateEstablished, false)
	if previous == dsm.StateEstablished { // the table does not replace the value of a session that it has
		handle.Free()
		m.table.Store(dsm.Sock{}, &session, dsm.StateEstablished, false)
	}
	m.mu.Unlock()
	return nil
}

// Delete implements Backend.
func (m *Memory) Delete(ctx context.Context, id, value []byte) (deleted bool, err error) {
	key, ok := tableKey(id)
	if err := ctx.Err(); err != nil || !ok {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	handle, e, ok := m.findLocked(key, id)
	return ok && e.value() == string(value) && handle.Free(), nil
}

// Len returns the number of entries, including expired entries that no call has found
// yet.
func (m *Memory) Len() int { return m.table.MaxSlots() - m.table.AvailableSlots() }
