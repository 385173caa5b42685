// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-dsm/dsm/resume"
)

// SetSessionData attaches data of the application's to the session, at most
// resume.MaxData bytes. SessionData returns it also when the session has been resumed.
// It waits for Config.Resumption, for two of its calls at most. An error says that the
// data may not be there when the session is resumed; in this Conn it is. While a session
// that was resumed lives on in an earlier Conn too, the data that was set last in either
// of them is kept.
func (c *Conn) SetSessionData(data []byte) error {
	r := c.resumable()
	switch {
	case r == nil:
		return errors.New("dsm: the session cannot be resumed")
	case len(data) > resume.MaxData:
		return fmt.Errorf("dsm: %d bytes of session data, more than %d", len(data), resume.MaxData)
	}
	c.peer.mu.Lock()
	r.mu.Lock()
	r.session.Data = bytes.Clone(data)
	r.version++
	version := r.version
	r.mu.Unlock()
	c.peer.listener.journal.noteStateLocked(c)
	c.peer.mu.Unlock()
	return c.store(version)
}

// SessionData returns what SetSessionData has attached, in this Conn or in one whose
// session it resumes. Nil means nothing.
func (c *Conn) SessionData() []byte {
	r := c.resumable()
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.session.Data)
}
