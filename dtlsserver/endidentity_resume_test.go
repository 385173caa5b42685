// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// afterClockSkew is longer than what the clocks of servers that share a store may differ by.
const afterClockSkew = 2 * time.Minute

// TestEndedIdentityIsResumedNowhere: not by another listener that shares the store. A session
// that is made later can be resumed.
func TestEndedIdentityIsResumedNowhere(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		var log dtlstest.LogBuffer
		r.cfg.Logger = log.Logger()
		here, sessions, _ := r.begin(t)
		there, thereSessions := r.listen(t)
		require.True(t, r.visit(t, there, thereSessions).Resumed(), "it can be, before")
		_, open := r.dial(t, here, sessions, nil)
		require.True(t, open.Resumed())

		ended, err := here.EndIdentity(t.Context(), open.IdentityKey(), dtlsserver.Withdrawn)
		require.NoError(t, err)
		require.Equal(t, 1, ended)
		assert.Equal(t, dtlsserver.Withdrawn, open.EndReason())
		for _, l := range []*dtlsserver.Listener{there, here} {
			before, from := l.Stats().NotResumed, thereSessions
			if l == here {
				from = sessions
			}
			again := r.visitWithoutKeeping(t, l, from)
			assert.False(t, again.Resumed())
			assert.Equal(t, before+1, l.Stats().NotResumed)
		}
		assert.Contains(t, log.String(), `msg="DTLS session not resumed"`)
		assert.Contains(t, log.String(), "its identity was ended")

		time.Sleep(afterClockSkew)
		require.False(t, r.visit(t, here, sessions).Resumed())
		assert.True(t, r.visit(t, there, thereSessions).Resumed(), "of a session that was made later")
	})
}

// visitWithoutKeeping is visit by a client that keeps its old session.
func (r *resumption) visitWithoutKeeping(t *testing.T, l *dtlsserver.Listener, sessions <-chan *dtlsserver.Conn) *dtlsserver.Conn {
	t.Helper()
	kept := r.kept.Session()
	c := r.visit(t, l, sessions)
	require.NoError(t, r.kept.Set(nil, kept))
	return c
}

// TestEndIdentityEndsSessionsAlsoIfStoreFails, and says that it does.
func TestEndIdentityEndsSessionsAlsoIfStoreFails(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		l, sessions := r.listen(t)
		_, open := r.dial(t, l, sessions, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ended, err := l.EndIdentity(ctx, open.IdentityKey(), dtlsserver.Withdrawn)
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 1, ended)
		assert.Equal(t, dtlsserver.Withdrawn, open.EndReason())
	})
}

// TestScopeAndIdentityAreThoseOfTheCall: the session of another identity, or of a listener with
// another ResumptionScope, can be resumed.
func TestScopeAndIdentityAreThoseOfTheCall(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		l, sessions, _ := r.begin(t)
		_, err := l.EndIdentity(t.Context(), "psk:somebody else", dtlsserver.Withdrawn)
		require.NoError(t, err)
		r.cfg.ResumptionScope = "other"
		other, _ := r.listen(t)
		_, err = other.EndIdentity(t.Context(), "psk:"+dtlstest.Identity, dtlsserver.Withdrawn)
		require.NoError(t, err)
		assert.True(t, r.visit(t, l, sessions).Resumed())
	})
}

// TestSessionDataDoesNotStoreEndedSession: a session that Config.Resumption has not got would
// count as made now.
func TestSessionDataDoesNotStoreEndedSession(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		l, sessions := r.listen(t)
		_, open := r.dial(t, l, sessions, nil)
		_, err := l.EndIdentity(t.Context(), open.IdentityKey(), dtlsserver.Withdrawn)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, dsm.StateNone, open.State())
		stored := r.cfg.Resumption.Stats().Stored
		require.Error(t, open.SetSessionData([]byte("data")))
		assert.Equal(t, stored, r.cfg.Resumption.Stats().Stored)
	})
}
