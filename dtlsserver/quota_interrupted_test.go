// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestInterruptedSessionsTakeNoRoomOfTheirIdentity: they are only to be closed.
func TestInterruptedSessionsTakeNoRoomOfTheirIdentity(t *testing.T) {
	t.Parallel()
	cfg := exactJournalOn(nonceJournal, crashfs.New(1))
	cfg.Journal.AfterCrash = dtlsserver.CloseSessions
	cfg.SessionsPerIdentity, cfg.WhenIdentityFull = 1, dtlsserver.RefuseNewcomer
	inBubble(t, cfg, func(t *testing.T, l memory) {
		l.connectAs(t, netip.AddrPort{}, "one")
		flushed()
		l.Crash()
		next := l.successor(t, cfg)
		require.Equal(t, 1, next.Recovered().Restored)
		client, err := next.tryDialAs(netip.AddrPort{}, "one") // from another port
		require.NoError(t, err)
		defer client.Kill()
		synctest.Wait()
		assert.Zero(t, next.Stats().IdentityRefused)
	})
}
