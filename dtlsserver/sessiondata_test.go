// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/resume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hangingBackend returns a backend whose Puts do not return before the end of the test,
// from the call of hang on.
func hangingBackend(t *testing.T) (b *faultyBackend, hang func()) {
	t.Helper()
	b = newFaultyBackend(t)
	testEnds := make(chan struct{})
	t.Cleanup(func() { close(testEnds) })
	hangs := putFault(func(context.Context) error { <-testEnds; return nil })
	return b, func() { b.put.Store(&hangs) }
}

// SetSessionData waits for a store that does not answer. SessionData and the end of the
// session do not.
func TestOnlySetSessionDataWaitsForStore(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		const timeout = time.Second / 2
		backend, hang := hangingBackend(t)
		r.cfg.Resumption = newStore(t, resume.Config{Backend: backend, LookupTimeout: timeout})
		ended := make(chan string, 1)
		r.cfg.OnEnd = func(c *dtlsserver.Conn, _ dtlsserver.Reason) { ended <- string(c.SessionData()) }
		l, sessions := r.listen(t)
		_, s := r.dial(t, l, sessions, nil)
		r.requireStored(t, 1)
		hang()
		begin := time.Now()
		set := make(chan error, 1)
		go func() { set <- s.SetSessionData([]byte("mine")) }()
		synctest.Wait()
		assert.Equal(t, "mine", string(s.SessionData()))
		require.NoError(t, s.Close())
		assert.Equal(t, "mine", dtlstest.Receive(t, ended))
		assert.Zero(t, time.Since(begin))
		assert.Empty(t, set)
		assert.ErrorIs(t, dtlstest.Receive(t, set), context.DeadlineExceeded)
		assert.Equal(t, timeout, time.Since(begin))
	})
}

// The same holds while SetSessionData waits for another call of it. Not in a bubble of
// testing/synctest: its time stands still while a goroutine waits for a mutex.
func TestSetSessionDataWaitsForAnotherCall(t *testing.T) {
	t.Parallel()
	r := newResumption(t)
	backend, hang := hangingBackend(t)
	r.cfg.Resumption = newStore(t, resume.Config{Backend: backend, LookupTimeout: time.Second / 2})
	ended := make(chan string, 1)
	r.cfg.OnEnd = func(c *dtlsserver.Conn, _ dtlsserver.Reason) { ended <- string(c.SessionData()) }
	l, sessions := r.listen(t)
	_, s := r.dial(t, l, sessions, nil)
	hang()
	set := make(chan error, 2)
	for _, data := range []string{"other's", "mine"} {
		go func() { set <- s.SetSessionData([]byte(data)) }()
		dtlstest.Eventually(t, func() bool { return string(s.SessionData()) == data }, "set")
	}
	assert.Empty(t, set, "the store hangs")
	require.NoError(t, s.Close())
	assert.Equal(t, "mine", dtlstest.Receive(t, ended))
	for range 2 {
		assert.ErrorIs(t, dtlstest.Receive(t, set), context.DeadlineExceeded)
	}
}

// Data that cannot be kept is an error, and changes nothing.
func TestSessionDataRefused(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, s := l.connect(t)
		assert.ErrorContains(t, s.SetSessionData([]byte("x")), "cannot be resumed")
		assert.Nil(t, s.SessionData())
		assert.False(t, s.Resumed())
	})
	withResumption(t, func(t *testing.T, r *resumption) {
		l, sessions := r.listen(t)
		_, s := r.dial(t, l, sessions, nil)
		assert.ErrorContains(t, s.SetSessionData(make([]byte, resume.MaxData+1)), "1025 bytes")
		assert.Nil(t, s.SessionData())
		assert.NoError(t, s.SetSessionData(make([]byte, resume.MaxData)))
		assert.Len(t, s.SessionData(), resume.MaxData)
		assert.Len(t, connectionState(s).SessionID, 32)
	})
}
