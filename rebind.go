// SPDX-License-Identifier: MIT

package dsm

import "net/netip"

// Rebind moves the session to another endpoint of its peer, for example when a NAT
// between them has given the peer a new address (RFC 9146 section 6). The key of
// the session becomes (sock, peer). The sock, the slot, the generation, the value,
// the state and the place in the order of use stay, so all handles to the session
// remain valid and Rebind does not count as use.
//
// Rebind returns false, and does nothing, if the session has left the table or if
// the sock has another session with that peer. It returns true if peer is already
// the endpoint of the session.
func (h Handle[V]) Rebind(peer netip.AddrPort) bool {
	if h.table == nil {
		return false
	}
	h.table.mu.Lock()
	rebound := h.table.slots.current(h.slot, h.gen) && h.table.slots.rebind(h.slot, peer)
	h.table.mu.Unlock()
	return rebound
}

// rebind changes the peer of the session in a taken slot, and reports whether the
// session has that peer now. It has not if another session of the sock has it.
func (s *slots) rebind(i uint32, peer netip.AddrPort) bool {
	sock := Sock{s.sockEntry(s.array[i].sock).id}
	hash, e := s.hashKey(sock, peer)
	e = s.withZone(e, peer)
	if found := s.find(hash, sock, e); found != 0 {
		return found == i
	}
	s.removeKey(i)
	s.setKey(i, hash, e)
	return true
}
