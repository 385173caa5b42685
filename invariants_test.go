// SPDX-License-Identifier: MIT

package dsm

import "fmt"

// check returns an error for an invariant of the table that does not hold.
func (t *Table[V]) check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.slots
	n := len(t.values) - 1

	// The sock that was looked up last. The following searches must not change it, so
	// that a call after check finds it as the call before left it.
	lastSock, lastEntry := s.lastSock, s.lastEntry
	defer func() { s.lastSock, s.lastEntry = lastSock, lastEntry }()
	if found := s.searchSock(lastSock); found != lastEntry {
		return fmt.Errorf("the sock looked up last is entry %d, kept as %d", found, lastEntry)
	}

	// The index: a search finds each entry from its home group, and the groups that
	// the entry passed count it.
	entries := map[uint32]bool{} // by slot
	overflow := make([]uint32, len(s.index))
	for at, g := range s.index {
		for n, slot := range g.slots {
			tag := g.tags >> (8 * n) & 0xff
			if slot == 0 {
				if tag != 0 {
					return fmt.Errorf("entry %d of group %d has a tag and no slot", n, at)
				}
				continue
			}
			if entries[slot] {
				return fmt.Errorf("slot %d has two entries in the index", slot)
			}
			entries[slot] = true
			hash := s.entries[slot].hash
			if want := place(at*groupEntries + n); s.entries[slot].place != want {
				return fmt.Errorf("slot %d keeps the place %d, its entry is at %d", slot, s.entries[slot].place, want)
			}
			if tag != tagOf(hash) {
				return fmt.Errorf("slot %d has the tag %#x, want that of %#x", slot, tag, hash)
			}
			for passed := s.homeGroup(hash); passed != uint32(at); passed = s.nextGroup(passed) {
				overflow[passed]++
			}
			sock := Sock{s.sockEntry(s.array[slot].sock).id}
			h, peer := s.hashKey(sock, s.peer(slot))
			if h != hash {
				return fmt.Errorf("slot %d has the hash %#x, want %#x", slot, hash, h)
			}
			if found := s.find(hash, sock, s.withZone(peer, s.peer(slot))); found != slot {
				return fmt.Errorf("slot %d is found as %d", slot, found)
			}
		}
	}
	for at, g := range s.index {
		if g.overflow != overflow[at] {
			return fmt.Errorf("%d entries passed group %d, which counts %d", overflow[at], at, g.overflow)
		}
	}
	if len(entries) != s.taken {
		return fmt.Errorf("%d entries in the index, %d slots taken", len(entries), s.taken)
	}

	// The free list: it has all other slots, and they are zero.
	free := 0
	var zero V
	for i := s.firstFree; i != 0; {
		if entries[i] {
			return fmt.Errorf("slot %d is free and in the index", i)
		}
		p := s.array[i]
		if p != (slot{gen: p.gen}) || s.nodes[i].lastUse != 0 || s.entries[i] != (entry{}) || any(t.values[i]) != any(zero) {
			return fmt.Errorf("free slot %d retains something", i)
		}
		if s.nodes[s.nodes[i].next].prev != i {
			return fmt.Errorf("the slot after free slot %d does not link back to it", i)
		}
		if free++; free > n {
			return fmt.Errorf("the free list of slot %d is not circular", s.firstFree)
		}
		if i = s.nodes[i].next; i == s.firstFree {
			break
		}
	}
	if s.array[0] != (slot{}) || s.nodes[0] != (node{}) || s.entries[0] != (entry{}) {
		return fmt.Errorf("the slot for no slot is not zero: %+v, %+v, %+v", s.array[0], s.nodes[0], s.entries[0])
	}
	if free+s.taken != n {
		return fmt.Errorf("%d free and %d taken of %d slots", free, s.taken, n)
	}

	// The lists: each has its sessions in the order of their last use.
	walk := func(oldest uint32, visit func(i uint32) error) error {
		if oldest == 0 {
			return nil
		}
		last := uint64(0)
		i := oldest
		for range n {
			p := s.nodes[i]
			if p.lastUse <= last || p.lastUse > s.uses-uint64(s.numWaiting) {
				return fmt.Errorf("the last use of slot %d is %d, that of the slot before it %d, the access counter %d, %d uses wait", i, p.lastUse, last, s.uses, s.numWaiting)
			}
			if s.nodes[p.next].prev != i {
				return fmt.Errorf("the slot after slot %d does not link back to it", i)
			}
			if err := visit(i); err != nil {
				return err
			}
			last = p.lastUse
			if i = s.nodes[i].next; i == oldest {
				return nil
			}
		}
		return fmt.Errorf("the list of slot %d is not circular", oldest)
	}
	sessions := map[uint32]uint32{} // by entry of s.socks
	halfOpen := 0
	if err := walk(s.oldestHalfOpen, func(i uint32) error {
		halfOpen++
		sessions[s.array[i].sock]++
		if s.state(i) != StateHandshake {
			return fmt.Errorf("slot %d is in the list of half-open sessions, its state is %v", i, s.state(i))
		}
		return nil
	}); err != nil {
		return err
	}
	if halfOpen != s.taken-s.established {
		return fmt.Errorf("%d half-open sessions, %d counted", halfOpen, s.taken-s.established)
	}

	// The waiting uses are of taken slots, and settleUses is not late.
	if s.numWaiting >= maxWaiting || s.numWaiting > 0 && !s.usesWait {
		return fmt.Errorf("%d uses wait", s.numWaiting)
	}
	for _, i := range s.waiting[:s.numWaiting] {
		if !entries[i] {
			return fmt.Errorf("a use of slot %d waits, which is free", i)
		}
	}

	// The zones: each counts its sessions, and none is there twice.
	zones := make([]uint32, len(s.zones))
	for i := range entries {
		if s.array[i].zone >= firstZone {
			zones[s.array[i].zone]++
		}
	}
	names := map[string]bool{}
	for n, z := range s.zones {
		if z.sessions != zones[n] || n < firstZone && z != (zone{}) || n >= firstZone && names[z.addr.Zone()] {
			return fmt.Errorf("zone %d is %+v, has %d sessions", n, z, zones[n])
		}
		names[z.addr.Zone()] = true
	}

	// The socks: each sock with sessions is found, and has its established sessions
	// in its list.
	established, inBuckets := 0, 0
	if none := *s.sockEntry(0); none != (sockEntry{bucket: none.bucket}) {
		return fmt.Errorf("the entry for no sock is not zero: %+v", none)
	}
	for bucket := range s.numSocks {
		for at := s.sockEntry(bucket).bucket; at != 0; at = s.sockEntry(at).next {
			inBuckets++
			entry := *s.sockEntry(at)
			if s.sockBucket(entry.id) != &s.sockEntry(bucket).bucket {
				return fmt.Errorf("sock %d is in bucket %d of %d", at, bucket, s.numSocks)
			}
			if s.searchSock(Sock{entry.id}) != at {
				return fmt.Errorf("sock %d is not found", at)
			}
			if err := walk(entry.oldest, func(i uint32) error {
				established++
				sessions[at]++
				if s.array[i].sock != at || s.state(i) != StateEstablished {
					return fmt.Errorf("slot %d is in the list of sock %d, its state is %v, its sock %d", i, at, s.state(i), s.array[i].sock)
				}
				return nil
			}); err != nil {
				return err
			}
			if entry.sessions != sessions[at] || entry.sessions == 0 {
				return fmt.Errorf("sock %d counts %d sessions, has %d", at, entry.sessions, sessions[at])
			}
		}
	}
	if established != s.established || inBuckets != len(sessions) {
		return fmt.Errorf("%d of %d established sessions in lists, %d of %d socks", established, s.established, inBuckets, len(sessions))
	}
	freeSocks := 0
	for at := s.firstFreeSock; at != 0; at = s.sockEntry(at).next {
		if freeSocks++; freeSocks > int(s.numSocks) {
			return fmt.Errorf("the list of free socks is circular")
		}
		if entry := *s.sockEntry(at); entry != (sockEntry{next: entry.next, bucket: entry.bucket}) {
			return fmt.Errorf("the free sock %d retains something: %+v", at, entry)
		}
	}
	if freeSocks+inBuckets != int(s.numSocks)-1 {
		return fmt.Errorf("%d free and %d used of %d socks", freeSocks, inBuckets, s.numSocks-1)
	}
	return nil
}
