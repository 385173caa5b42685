// SPDX-License-Identifier: MIT

package dsm

// HoldAt is Hold for a session that comes back with the slot and the generation that
// it had, because its peer knows them, for example after a restart of the process. It
// adds the session in that slot with that generation, marks it as used now, and
// returns its handle, which is equal to At(slot, generation). Later sessions of the
// slot have higher generations.
//
// HoldAt returns false, and does nothing, in each of these cases:
//
//   - The table has a session of (sock, session.Peer).
//   - The slot is taken, or is not in the range from 0 to MaxSlots()-1.
//   - The slot is past the generation: handles to a session with it, or with a
//     higher one, may exist.
//
// HoldAt never evicts. A newState other than StateHandshake and StateEstablished, or
// a nil session, is a programming error: HoldAt panics.
func (t *Table[V]) HoldAt(sock Sock, session *Session[V], newState State, slot int, generation uint32) (Handle[V], bool) {
	if newState != StateHandshake && newState != StateEstablished {
		panic("dsm: newState " + newState.String() + ": want StateHandshake or StateEstablished")
	}
	s := &t.slots
	hash, peer := s.hashKey(sock, session.Peer)
	i := t.slotNumber(slot)
	if i == 0 {
		return Handle[V]{}, false
	}
	p := &s.array[i]

	t.mu.Lock()
	defer t.mu.Unlock()
	peer = s.withZone(peer, session.Peer)
	if s.find(hash, sock, peer) != 0 || p.state != StateNone || p.gen > generation {
		return Handle[V]{}, false
	}
	p.gen = generation
	s.take(i, hash, sock, peer, newState)
	t.stats.Stored++
	t.values[i] = session.Value
	return t.handle(i, generation), true
}
