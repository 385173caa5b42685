// SPDX-License-Identifier: MIT

package dtlsserver

// connExtras is what most Conns never need.
type connExtras struct {
	value any           // of SetValue, or Config.Authorize
	done  chan struct{} // nil until Done is called

	// successorRefused: the peer has begun anew, and Config.Authorize has refused that. As long
	// as this session lives on, its last flight is answered.
	successorRefused bool

	// endsThawed: not 0: the session was to end while it was frozen, and ends for this reason if it
	// is thawed.
	endsThawed Reason

	candidate *candidate // nil until the peer seems to have moved
}

func (c *Conn) extrasLocked() *connExtras {
	if c.extras == nil {
		c.extras = new(connExtras)
	}
	return c.extras
}

// Done returns a channel that is closed when the session has ended.
func (c *Conn) Done() <-chan struct{} {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if c.ended != 0 && (c.extras == nil || c.extras.done == nil) {
		return closedChannel
	}
	x := c.extrasLocked()
	if x.done == nil {
		x.done = make(chan struct{})
	}
	return x.done
}

var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Value returns what SetValue has set, or before that what Config.Authorize has returned for
// this Conn, or nil.
func (c *Conn) Value() any {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if c.extras == nil {
		return nil
	}
	return c.extras.value
}

// SetValue attaches a value of the application's to the Conn. It is gone with the Conn:
// SetSessionData is for what is to be there when the session is resumed.
func (c *Conn) SetValue(value any) {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if value != nil || c.extras != nil {
		c.extrasLocked().value = value
	}
}
