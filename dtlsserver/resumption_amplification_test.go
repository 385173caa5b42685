// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSpoofedResumptionIsNotAmplified: a ClientHello that names a session can have a forged
// source address. The server sends three times as many bytes as it has received, at most,
// and establishes no session.
func TestSpoofedResumptionIsNotAmplified(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		r.server.FlightInterval = 5 * time.Millisecond // it repeats its flight
		r.cfg.HandshakeTimeout = 300 * time.Millisecond
		l, sessions, _ := r.begin(t)
		var spoofed []byte
		r.network.SetHook(dtlstest.ToServer, func(b []byte) bool {
			first, _, _ := record.Next(b)
			if hello, ok := record.ParseClientHello(first); ok && len(hello.SessionID) > 0 && len(hello.Cookie) == 0 {
				spoofed = bytes.Clone(b)
			}
			return true
		})
		require.True(t, r.visit(t, l, sessions).Resumed())
		r.network.SetHook(dtlstest.ToServer, nil)
		synctest.Wait()

		spoofed[record.HeaderSize+12+2] ^= 1 // another random
		before := r.network.Counts(dtlstest.ToClient).SentBytes
		r.network.Inject(dtlstest.NthAddr(10, 1, 5684), dtlstest.AddrPort(l.Addr()), spoofed)
		time.Sleep(time.Minute)
		sent := r.network.Counts(dtlstest.ToClient).SentBytes - before
		assert.EqualValues(t, unvalidated(1), l.Stats().TimedOut)
		assert.Positive(t, sent)
		assert.LessOrEqual(t, sent, 3*len(spoofed))
		t.Logf("%d bytes came, %d went out", len(spoofed), sent)
		assert.EqualValues(t, 1, l.Stats().Resumed)
		assert.True(t, r.visit(t, l, sessions).Resumed(), "the session is unchanged")
	})
}
