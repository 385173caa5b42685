// SPDX-License-Identifier: MIT

package pionv2

import (
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNothingReachesPionAfterTheFinished: over one record too many pion sleeps for a
// flight interval. Neither Close nor a session waits for that.
func TestNothingReachesPionAfterTheFinished(t *testing.T) {
	t.Parallel()
	const trailing = 50
	config := dtlstest.PSKConfig("key")
	config.FlightInterval = 30 * time.Second
	inBubble(t, config, Config{HandshakesPerSource: -1}, func(t *testing.T, l memory) {
		dtlstest.ServeEcho[*Conn](t, l)
		begin := time.Now()
		for range 20 {
			client := l.dial(t, func(socket net.Conn) net.Conn {
				return dtlstest.Rewrite(socket, func(datagram []byte, send func([]byte) error) error {
					err := send(datagram)
					if dtlstest.Has(datagram, record.TypeHandshake, true) {
						for n := range uint64(trailing) {
							_ = send(dtlstest.Plaintext(record.TypeHandshake, 100+n, append(clientFragment(9, 1, 0, 1), 0)...))
						}
					}
					return err
				})
			})
			dtlstest.Echo(t, client, "x")
		}
		synctest.Wait()
		assert.EqualValues(t, 20, l.Stats().Completed)
		require.NoError(t, l.Close())
		assert.Less(t, time.Since(begin), config.FlightInterval/3, "pion has slept")
	})
}

func newTestTransport() *transport {
	return newTransport(func([]byte) {}, func() {})
}

// passOn is passOnLocked.
func (t *transport) passOn(raw []byte, finished bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.passOnLocked(inbound{raw, finished})
}

// TestReadGivesOneRecordAtATime, in order, as soon as there is one.
func TestReadGivesOneRecordAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTestTransport()
		got := make(chan record.Record)
		go func() {
			defer close(got)
			buf := make([]byte, 1000)
			for {
				n, err := tr.Read(buf)
				if err != nil {
					assert.ErrorIs(t, err, net.ErrClosed)
					return
				}
				r, _, _ := record.Next(buf[:n])
				got <- r
			}
		}()
		for n := range 3 {
			require.True(t, tr.passOn(dtlstest.Plaintext(record.TypeAlert, 77, 1, byte(n)), false))
			r := <-got
			assert.EqualValues(t, n, r.Sequence, "a sequence number of the transport's own")
			assert.Equal(t, []byte{1, byte(n)}, r.Fragment())
		}
		require.NoError(t, tr.Close())
		require.NoError(t, tr.Close())
		_, open := <-got
		assert.False(t, open)
	})
}

// TestQueueForPionIsBounded by bytes.
func TestQueueForPionIsBounded(t *testing.T) {
	t.Parallel()
	tr := newTestTransport()
	large := dtlstest.Plaintext(record.TypeHandshake, 0, make([]byte, maxQueuedBytes/4)...)
	for range 3 {
		require.True(t, tr.passOn(large, false))
	}
	assert.False(t, tr.passOn(large, false))
	_, _, _ = tr.next()
	assert.True(t, tr.passOn(large, false), "pion has read one")
}

// TestReadPausesAfterTheFinished, until pion has had its time or has sent everything.
func TestReadPausesAfterTheFinished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pauses := 0
		var tr *transport
		tr = newTransport(func([]byte) {}, func() { pauses++; tr.paused = false })
		require.True(t, tr.passOn(dtlstest.Unauthentic(record.TypeHandshake, 0, 60), true))
		require.True(t, tr.passOn(dtlstest.Plaintext(record.TypeAlert, 1, 1, 0), false))
		begin := time.Now()
		buf := make([]byte, 1000)
		n, err := tr.Read(buf)
		require.NoError(t, err)
		require.Equal(t, record.HeaderSize+60, n)
		require.Zero(t, time.Since(begin))
		n, err = tr.Read(buf)
		require.NoError(t, err)
		require.Equal(t, record.HeaderSize+2, n)
		assert.Equal(t, finishPause, time.Since(begin))
		assert.Equal(t, 1, pauses)

		tr.done = true
		require.True(t, tr.passOn(dtlstest.Plaintext(record.TypeAlert, 1, 1, 0), false))
		require.NoError(t, tr.SetReadDeadline(time.Now().Add(time.Hour)))
		_, err = tr.Read(buf)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, time.Hour+finishPause, time.Since(begin))
		require.NoError(t, tr.SetDeadline(time.Time{}))
	})
}
