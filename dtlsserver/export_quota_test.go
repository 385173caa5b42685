// SPDX-License-Identifier: MIT

package dtlsserver

// IndexedSessions returns how many identities have sessions in the listener's index, and how
// many sessions these are. Both are -1 if there is no index.
func (l *Listener) IndexedSessions() (identities, sessions int) {
	x := &l.identities
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.groups == nil {
		return -1, -1
	}
	for _, g := range x.groups {
		sessions += g.Len()
	}
	return len(x.groups), sessions
}

// HasIdentityEntries reports whether a session has an entry in the index.
func (l *Listener) HasIdentityEntries() bool {
	for _, c := range l.allSessions() {
		c.peer.mu.Lock()
		has := c.quota != nil
		c.peer.mu.Unlock()
		if has {
			return true
		}
	}
	return false
}
