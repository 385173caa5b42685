// SPDX-License-Identifier: MIT

package dsm

// Demote changes an established session back to StateHandshake, and marks it as used
// now. It is for a server whose session ends while the same peer's next handshake is
// in progress: the slot and the generation stay, and so do all handles to the
// session. Remove followed by Store would give the handshake another generation, and
// possibly another slot.
//
// Demote returns true if the session is in StateHandshake now. It returns false, and
// does nothing, if the session has left the table.
func (h Handle[V]) Demote() bool {
	if h.table == nil {
		return false
	}
	s := &h.table.slots
	h.table.mu.Lock()
	current := s.current(h.slot, h.gen)
	if current {
		s.use(h.slot)
		s.demote(h.slot)
	}
	h.table.mu.Unlock()
	return current
}

// demote changes the state of a session to StateHandshake. Like establish it puts the
// session at the newest end of its new list.
func (s *slots) demote(i uint32) {
	p := &s.array[i]
	if p.state != StateEstablished {
		return
	}
	s.settleUses()
	unlink(s.nodes, &s.sockEntry(p.sock).oldest, i)
	p.state = StateHandshake
	insertNewest(s.nodes, &s.oldestHalfOpen, i)
	s.established--
}
