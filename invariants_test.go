// SPDX-License-Identifier: MIT

package dsm

import "fmt"

// check returns an error for an invariant of the table that does not hold.
func (t *Table[V]) check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.slots
	n := len(t.values) - 1

	// The index: a search finds each entry from its home group, and the groups that
	// the entry passed count it.
	entries := map[uint32]position{} // by slot
	overflow := make([]uint32, len(s.index))
	for at, g := range s.index {
		for entry, slot := range g.slots {
			tag := g.tags[entry]
			if slot == 0 {
				if tag != 0 {
					return fmt.Errorf("entry %d of group %d has a tag and no slot", entry, at)
				}
				continue
			}
			if _, twice := entries[slot]; twice {
				return fmt.Errorf("slot %d has two entries in the index", slot)
			}
			entries[slot] = position{uint32(at), entry}
			hash := s.array[slot].hash
			if tag != tagOf(hash) {
				return fmt.Errorf("slot %d has the tag %#x, want that of %#x", slot, tag, hash)
			}
			for passed := s.homeGroup(hash); passed != uint32(at); passed = s.nextGroup(passed) {
				overflow[passed]++
			}
			sock := Sock{s.socks[s.array[slot].sock].id}
			if h, _ := s.hashKey(sock, s.peer(slot)); h != hash {
				return fmt.Errorf("slot %d has the hash %#x, want %#x", slot, hash, h)
			}
			if found, pos := s.find(hash, sock, s.peer(slot)); found != slot || pos != entries[slot] {
				return fmt.Errorf("slot %d at %v is found as %d at %v", slot, entries[slot], found, pos)
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
		if _, ok := entries[i]; ok {
			return fmt.Errorf("slot %d is free and in the index", i)
		}
		p := s.array[i]
		if p != (slot{gen: p.gen, links: p.links}) || any(t.values[i]) != any(zero) {
			return fmt.Errorf("free slot %d retains something", i)
		}
		if s.array[p.links.next].links.prev != i {
			return fmt.Errorf("the slot after free slot %d does not link back to it", i)
		}
		if free++; free > n {
			return fmt.Errorf("the free list of slot %d is not circular", s.firstFree)
		}
		if i = p.links.next; i == s.firstFree {
			break
		}
	}
	if s.array[0] != (slot{}) {
		return fmt.Errorf("the slot for no slot is not zero: %+v", s.array[0])
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
			p := s.array[i]
			if p.lastUse <= last || p.lastUse > s.uses {
				return fmt.Errorf("the last use of slot %d is %d, that of the slot before it %d, the access counter %d", i, p.lastUse, last, s.uses)
			}
			if s.array[p.links.next].links.prev != i {
				return fmt.Errorf("the slot after slot %d does not link back to it", i)
			}
			if err := visit(i); err != nil {
				return err
			}
			last = p.lastUse
			if i = p.links.next; i == oldest {
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

	// The socks: each sock with sessions is found, and has its established sessions
	// in its list.
	established, inBuckets := 0, 0
	if s.socks[0] != (sockEntry{}) {
		return fmt.Errorf("the entry for no sock is not zero: %+v", s.socks[0])
	}
	for bucket := range s.sockBuckets {
		for at := s.sockBuckets[bucket]; at != 0; at = s.socks[at].next {
			inBuckets++
			entry := s.socks[at]
			if s.findSock(Sock{entry.id}) != at {
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
	for at := s.firstFreeSock; at != 0; at = s.socks[at].next {
		if freeSocks++; freeSocks > len(s.socks) {
			return fmt.Errorf("the list of free socks is circular")
		}
	}
	if freeSocks+inBuckets != len(s.socks)-1 {
		return fmt.Errorf("%d free and %d used of %d socks", freeSocks, inBuckets, len(s.socks)-1)
	}
	return nil
}
