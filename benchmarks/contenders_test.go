// SPDX-License-Identifier: MIT

// Package benchmarks does the table's work side by side on what a user would
// otherwise pick. All are keyed by the same struct and hold the same pointer.
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

// contender is a table or cache with room for a number of sessions.
type contender interface {
	// hit looks a session up, marks it as used and copies its value out.
	hit(k key) bool
	// insert enters a session that is not there, and there is room.
	insert(k key, v value)
	// insertFull does so when there is none: the least recently used one goes.
	insertFull(k key, v value)
	remove(k key)
}

// contenders by name. The exact ones are those whose order is that of the last
// use; otter keeps an approximate one and is here because it would be picked.
var contenders = []struct {
	name  string
	exact bool
	make  func(slots int) contender
}{
	{"dsm", true, func(n int) contender {
		t, err := dsm.New[value](n)
		check(err)
		return dsmTable{t}
	}},
	{"dsm-refused", true, func(n int) contender {
		t, err := dsm.New[value](n)
		check(err)
		return dsmRefused{dsmTable{t}}
	}},
	{"maplist", true, func(n int) contender {
		return &mapList{slots: n, byKey: make(map[key]*list.Element, n)}
	}},
	{"golang-lru", true, func(n int) contender {
		c, err := golanglru.New[key, value](n)
		check(err)
		return golangLRU{c}
	}},
	{"freelru", true, func(n int) contender {
		// It leaves the hash to its user; this one is as keyed as the others'.
		seed := maphash.MakeSeed()
		c, err := freelru.NewSynced[key, value](uint32(n), func(k key) uint32 {
			return uint32(maphash.Comparable(seed, k))
		})
		check(err)
		return freeLRU{c}
	}},
	{"phuslu", true, func(n int) contender {
		return phusluLRU{phuslu.NewLRUCache[key, value](n, phuslu.WithShards[key, value](1))}
	}},
	{"ttlcache", true, func(n int) contender {
		return ttlCache{ttlcache.New(ttlcache.WithCapacity[key, value](uint64(n)))}
	}},
	{"otter", false, func(n int) contender {
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

func (t dsmTable) insertFull(k key, v value) {
	session := dsm.Session[value]{Peer: k.peer, Value: v}
	t.Admit(k.sock, &session, dsm.StateEstablished, false)
}

func (t dsmTable) remove(k key) {
	session := dsm.Session[value]{Peer: k.peer}
	t.Remove(k.sock, &session)
}

// dsmRefused makes room as RIOT's callers do, who learn only from Store that
// there is none: three calls for dsmTable's one.
type dsmRefused struct{ dsmTable }

func (t dsmRefused) insertFull(k key, v value) {
	session := dsm.Session[value]{Peer: k.peer, Value: v}
	for t.Store(k.sock, &session, dsm.StateEstablished, false) == dsm.NoSpace {
		t.Evict(k.sock)
	}
}

// mapList is the usual do-it-yourself.
type mapList struct {
	mu    sync.Mutex
	slots int
	byKey map[key]*list.Element
	order list.List
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
		oldest := m.order.Back()
		delete(m.byKey, oldest.Value.(*mapListEntry).key)
		m.order.Remove(oldest)
	}
	m.byKey[k] = m.order.PushFront(&mapListEntry{k, v})
}

func (m *mapList) insertFull(k key, v value) { m.insert(k, v) }

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

func (c golangLRU) hit(k key) bool            { v, ok := c.Get(k); sink(v); return ok }
func (c golangLRU) insert(k key, v value)     { c.Add(k, v) }
func (c golangLRU) insertFull(k key, v value) { c.Add(k, v) }
func (c golangLRU) remove(k key)              { c.Remove(k) }

type freeLRU struct {
	*freelru.SyncedLRU[key, value]
}

func (c freeLRU) hit(k key) bool            { v, ok := c.Get(k); sink(v); return ok }
func (c freeLRU) insert(k key, v value)     { c.Add(k, v) }
func (c freeLRU) insertFull(k key, v value) { c.Add(k, v) }
func (c freeLRU) remove(k key)              { c.Remove(k) }

type phusluLRU struct {
	*phuslu.LRUCache[key, value]
}

func (c phusluLRU) hit(k key) bool            { v, ok := c.Get(k); sink(v); return ok }
func (c phusluLRU) insert(k key, v value)     { c.Set(k, v) }
func (c phusluLRU) insertFull(k key, v value) { c.Set(k, v) }
func (c phusluLRU) remove(k key)              { c.Delete(k) }

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
func (c ttlCache) insert(k key, v value)     { c.Set(k, v, ttlcache.NoTTL) }
func (c ttlCache) insertFull(k key, v value) { c.Set(k, v, ttlcache.NoTTL) }
func (c ttlCache) remove(k key)              { c.Delete(k) }

type otterCache struct {
	*otter.Cache[key, value]
}

func (c otterCache) hit(k key) bool            { v, ok := c.GetIfPresent(k); sink(v); return ok }
func (c otterCache) insert(k key, v value)     { c.Set(k, v) }
func (c otterCache) insertFull(k key, v value) { c.Set(k, v) }
func (c otterCache) remove(k key)              { c.Invalidate(k) }

// sink uses a value as far as the compiler can tell.
//
//go:noinline
func sink(value) {}
