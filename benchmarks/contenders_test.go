// SPDX-License-Identifier: MIT

// Package benchmarks compares the session table with other structures that a server
// could use in its place. All of them have the same type of key, and all sessions
// have the same pointer as their value.
package benchmarks

import (
	"container/list"
	"hash/maphash"
	"net/netip"
	"sync"

	"github.com/elastic/go-freelru"
	"github.com/go-dsm/dsm"
	golanglru "github.com/hashicorp/golang-lru/v2"
	"github.com/jellydator/ttlcache/v3"
	"github.com/maypok86/otter/v2"
	phuslu "github.com/phuslu/lru"
)

type key struct {
	sock dsm.Sock
	peer netip.AddrPort
}

type value = *int

// contender is a table or cache with a fixed number of slots.
type contender interface {
	// hit looks up a session, marks it as used and copies its value. It reports
	// whether the contender has the session.
	hit(k key) bool
	// insert adds a new session. The contender has a free slot.
	insert(k key, v value)
	// insertEvicting adds a new session, and evicts the least recently used one if
	// no slot is free.
	insertEvicting(k key, v value)
	// remove removes a session, if the contender has it.
	remove(k key)
}

// contenders have the names that results give as impl. All except otter keep the
// exact order of use. Otter's order is approximate; it is included because it is
// widely used.
var contenders = []struct {
	name   string
	create func(slots int) contender
}{
	{"dsm", func(n int) contender {
		t, err := dsm.New[value](n)
		check(err)
		return dsmTable{t}
	}},
	{"dsm-refused", func(n int) contender {
		t, err := dsm.New[value](n)
		check(err)
		return dsmRefused{dsmTable{t}}
	}},
	{"maplist", func(n int) contender {
		return &mapList{slots: n, byKey: make(map[key]*list.Element, n)}
	}},
	{"golang-lru", func(n int) contender {
		c, err := golanglru.New[key, value](n)
		check(err)
		return golangLRU{c}
	}},
	{"freelru", func(n int) contender {
		// freelru has no hash function of its own. This one has a random seed, as those
		// of the other contenders have.
		seed := maphash.MakeSeed()
		c, err := freelru.NewSynced[key, value](uint32(n), func(k key) uint32 {
			return uint32(maphash.Comparable(seed, k))
		})
		check(err)
		return freeLRU{c}
	}},
	{"phuslu", func(n int) contender {
		return phusluLRU{phuslu.NewLRUCache[key, value](n, phuslu.WithShards[key, value](1))}
	}},
	{"ttlcache", func(n int) contender {
		return ttlCache{ttlcache.New(ttlcache.WithCapacity[key, value](uint64(n)))}
	}},
	{"otter", func(n int) contender {
		return otterCache{otter.Must(&otter.Options[key, value]{MaximumSize: n, InitialCapacity: n})}
	}},
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

type dsmTable struct{ *dsm.Table[value] }

func (t dsmTable) hit(k key) bool {
	session := dsm.Session[value]{Peer: k.peer}
	return t.Store(k.sock, &session, dsm.StateEstablished, true) == dsm.StateEstablished
}

func (t dsmTable) insert(k key, v value) {
	session := dsm.Session[value]{Peer: k.peer, Value: v}
	t.Store(k.sock, &session, dsm.StateEstablished, false)
}

func (t dsmTable) insertEvicting(k key, v value) {
	session := dsm.Session[value]{Peer: k.peer, Value: v}
	t.Admit(k.sock, &session, dsm.StateEstablished, false)
}

func (t dsmTable) remove(k key) {
	session := dsm.Session[value]{Peer: k.peer}
	t.Remove(k.sock, &session)
}

// dsmRefused evicts as callers of RIOT's session manager do, which learn from Store
// that no slot is free. It makes three calls where dsmTable makes one.
type dsmRefused struct{ dsmTable }

func (t dsmRefused) insertEvicting(k key, v value) {
	session := dsm.Session[value]{Peer: k.peer, Value: v}
	for t.Store(k.sock, &session, dsm.StateEstablished, false) == dsm.NoSpace {
		t.Evict(k.sock)
	}
}

// mapList is the usual LRU cache without a library: a map and a list.
type mapList struct {
	slots int // set when created, never changed

	mu    sync.Mutex // guards the following
	byKey map[key]*list.Element
	order list.List // of *mapListEntry, most recently used first
}

type mapListEntry struct {
	key   key
	value value
}

func (m *mapList) hit(k key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byKey[k]
	if e == nil {
		return false
	}
	m.order.MoveToFront(e)
	sink(e.Value.(*mapListEntry).value)
	return true
}

func (m *mapList) insert(k key, v value) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.byKey) == m.slots {
		candidate := m.order.Back()
		delete(m.byKey, candidate.Value.(*mapListEntry).key)
		m.order.Remove(candidate)
	}
	m.byKey[k] = m.order.PushFront(&mapListEntry{k, v})
}

func (m *mapList) insertEvicting(k key, v value) { m.insert(k, v) }

func (m *mapList) remove(k key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.byKey[k]; e != nil {
		delete(m.byKey, k)
		m.order.Remove(e)
	}
}

type golangLRU struct {
	*golanglru.Cache[key, value]
}

func (c golangLRU) hit(k key) bool                { v, ok := c.Get(k); sink(v); return ok }
func (c golangLRU) insert(k key, v value)         { c.Add(k, v) }
func (c golangLRU) insertEvicting(k key, v value) { c.Add(k, v) }
func (c golangLRU) remove(k key)                  { c.Remove(k) }

type freeLRU struct {
	*freelru.SyncedLRU[key, value]
}

func (c freeLRU) hit(k key) bool                { v, ok := c.Get(k); sink(v); return ok }
func (c freeLRU) insert(k key, v value)         { c.Add(k, v) }
func (c freeLRU) insertEvicting(k key, v value) { c.Add(k, v) }
func (c freeLRU) remove(k key)                  { c.Remove(k) }

type phusluLRU struct {
	*phuslu.LRUCache[key, value]
}

func (c phusluLRU) hit(k key) bool                { v, ok := c.Get(k); sink(v); return ok }
func (c phusluLRU) insert(k key, v value)         { c.Set(k, v) }
func (c phusluLRU) insertEvicting(k key, v value) { c.Set(k, v) }
func (c phusluLRU) remove(k key)                  { c.Delete(k) }

type ttlCache struct {
	*ttlcache.Cache[key, value]
}

func (c ttlCache) hit(k key) bool {
	item := c.Get(k)
	if item == nil {
		return false
	}
	sink(item.Value())
	return true
}
func (c ttlCache) insert(k key, v value)         { c.Set(k, v, ttlcache.NoTTL) }
func (c ttlCache) insertEvicting(k key, v value) { c.Set(k, v, ttlcache.NoTTL) }
func (c ttlCache) remove(k key)                  { c.Delete(k) }

type otterCache struct {
	*otter.Cache[key, value]
}

func (c otterCache) hit(k key) bool                { v, ok := c.GetIfPresent(k); sink(v); return ok }
func (c otterCache) insert(k key, v value)         { c.Set(k, v) }
func (c otterCache) insertEvicting(k key, v value) { c.Set(k, v) }
func (c otterCache) remove(k key)                  { c.Invalidate(k) }

// sink makes the compiler keep a lookup whose value is not used otherwise.
//
//go:noinline
func sink(value) {}
