// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sendFatalAlert sends a fatal alert that the client has sealed.
func sendFatalAlert(t *testing.T, c *dtlstest.Client) {
	t.Helper()
	records, err := dtlstest.ClientRecords(c.Conn, 1000)
	require.NoError(t, err)
	alert, err := records.Seal(nil, record.TypeAlert, []byte{record.LevelFatal, 40})
	require.NoError(t, err)
	c.Send(t, alert)
}

// dialResumed has the client resume its session and echo once.
func (r *resumption) dialResumed(t *testing.T, l *dtlsserver.Listener, sessions <-chan *dtlsserver.Conn) (*dtlstest.Client, *dtlsserver.Conn) {
	t.Helper()
	c, s := r.dial(t, l, sessions, nil)
	require.True(t, s.Resumed())
	return c, s
}

// awaitRevoked waits until a session was removed from the store.
func (r *resumption) awaitRevoked(t *testing.T) {
	t.Helper()
	dtlstest.Eventually(t, func() bool { return r.cfg.Resumption.Stats().Deleted == 1 }, "removed")
}

// A client's fatal alert makes its session impossible to resume (RFC 5246 section 7.2.2).
// An alert that anybody can forge does not, and neither does close_notify.
func TestFatalAlertRevokesSession(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		l, sessions, _ := r.begin(t) // ends with close_notify
		c, s := r.dialResumed(t, l, sessions)
		c.Send(t, dtlstest.Plaintext(record.TypeAlert, 9, record.LevelFatal, 40))
		dtlstest.Eventually(t, func() bool { return l.Stats().Plaintext == 1 }, "the forged alert is dropped")
		time.Sleep(time.Minute) // nothing happens later
		assert.Zero(t, r.cfg.Resumption.Stats().Deletes)

		sendFatalAlert(t, c)
		r.awaitRevoked(t)
		assert.Error(t, s.SetSessionData([]byte("too late")))
		assert.False(t, r.visit(t, l, sessions).Resumed())
	})
}

// A fatal alert that the client seals while its abbreviated handshake is in progress ends
// the handshake and revokes the session, too.
func TestFatalAlertInHandshakeRevokesSession(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		l, sessions, _ := r.begin(t)
		// The client's last flight is lost.
		c := r.dialThrough(t, l, func(datagram []byte, send func([]byte) error) error {
			if dtlstest.Has(datagram, record.TypeChangeCipherSpec, false) {
				return nil
			}
			return send(datagram)
		})
		require.Equal(t, 1, l.Stats().HalfOpen)
		sendFatalAlert(t, c)
		r.awaitRevoked(t)
		stats := l.Stats()
		assert.EqualValues(t, 1, stats.Failed)
		assert.Zero(t, stats.HalfOpen)
		c.Kill()
		assert.False(t, r.visit(t, l, sessions).Resumed())
	})
}

// A revoked session stays revoked, although an earlier Conn of it is still there.
func TestEarlierConnDoesNotBringBackRevokedSession(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		l, sessions, first := r.begin(t)
		c, _ := r.dialResumed(t, l, sessions)
		sendFatalAlert(t, c)
		r.awaitRevoked(t)
		assert.ErrorIs(t, first.SetSessionData([]byte("of the first Conn")), resume.ErrRevoked)
		assert.False(t, r.visit(t, l, sessions).Resumed())
	})
}

// A handshake with a wrong Finished makes no session. It may be another's doing, so it
// removes nothing.
func TestWrongFinishedRevokesNothing(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		l, sessions, _ := r.begin(t)
		messageSeq := uint16(1)
		if cookieInResumption {
			messageSeq = 2 // after a second ClientHello
		}
		forger := dtlstest.NewFinishedForger(r.socket(l, nil), dtlstest.Suite, dtlstest.WrongFinished(messageSeq))
		forger.SetMasterSecret(r.kept.Session().Secret)
		c, err := dtlstest.Handshake(forger, r.client) // the client has sent its last flight, and knows of no error
		require.NoError(t, err)
		t.Cleanup(c.Kill)
		dtlstest.Eventually(t, func() bool { return l.Stats().WrongFinished == 1 }, "a wrong Finished")
		assert.Equal(t, 1, forger.Forged())
		assert.Zero(t, l.Stats().Resumed)
		_ = c.Close()
		assert.True(t, r.visit(t, l, sessions).Resumed())
		assert.Zero(t, r.cfg.Resumption.Stats().Deletes)
	})
}

// Somebody who has seen a session's ID and does not have its keys cannot have it removed.
func TestStrangerRevokesNothing(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		l, sessions, _ := r.begin(t)
		thief := dtlstest.WithTimeout(psk(), 200*time.Millisecond)
		store := &dtlstest.ClientStore{}
		require.NoError(t, store.Set(nil, dtls.Session{ID: r.kept.Session().ID, Secret: make([]byte, 48)}))
		thief.SessionStore = store
		_, err := dtlstest.Handshake(r.socket(l, nil), thief)
		require.Error(t, err)
		time.Sleep(time.Minute) // the server's handshake has timed out
		assert.Zero(t, l.Stats().HalfOpen)
		assert.Zero(t, r.cfg.Resumption.Stats().Deletes)
		assert.True(t, r.visit(t, l, sessions).Resumed())
	})
}
