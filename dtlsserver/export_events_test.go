// SPDX-License-Identifier: MIT

package dtlsserver

// MaxWaitingEvents is how many can wait.
const MaxWaitingEvents = maxWaiting

// WaitingEvents returns how many events wait for the log.
func (l *Listener) WaitingEvents() int {
	l.events.mu.Lock()
	defer l.events.mu.Unlock()
	return len(l.events.waiting)
}
