// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/keyring"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withKey notes that a client has authenticated with the key of Config.PSK. A scripted handshake
// has none.
func withKey(m *mobile) *mobile {
	m.conn.identity.tag = pskTag([]byte("key"), m.conn.secrets().MasterSecret)
	return m
}

func scriptedPSK(context.Context, PSKRequest) ([]byte, error) { return []byte("key"), nil }

// TestRestoredSessionsAreFoundByTheirIDs: a client whose address changes while the server
// restarts goes on. Sessions without an ID do not take the slots of others.
func TestRestoredSessionsAreFoundByTheirIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handshaker := &scriptedHandshaker{rrc: true, clientID: []byte("client")}
		cfg := Config{Sessions: 20, PSK: scriptedPSK, AddressChange: TrustAddress, ServerID: []byte("s1")}
		w := newMobileWorld(t, handshaker, cfg)
		var clients []*mobile
		for n := range 10 {
			clients = append(clients, withKey(w.connect(t, place(n), byte(n+1))))
		}
		require.NoError(t, clients[3].conn.Close())
		clients = append(slices.Delete(clients, 3, 4), withKey(w.connect(t, place(20), 100))) // in another order than the slots'
		ids := map[string]bool{}
		for _, m := range clients {
			ids[string(m.records.PeerConnectionID())] = true
		}
		require.Len(t, ids, len(clients))

		key := keyring.Key{ID: 1, Secret: [32]byte{1}}
		var snapshot bytes.Buffer
		_, err := w.Save(t.Context(), &snapshot, key)
		require.NoError(t, err)
		cfg.Restore = func(l *Listener) error {
			stats, err := l.Restore(context.Background(), &snapshot, key)
			assert.Equal(t, len(clients), stats.Restored, stats)
			return err
		}
		w = newMobileWorld(t, handshaker, cfg)
		for n, m := range clients {
			m.w = w
			moved := place(100 + n)
			m.inject(moved, m.data("hello"))
			assert.Equal(t, []mobileMessage{echo("hello")}, m.received(moved), n)
		}
		assert.EqualValues(t, len(clients), w.Stats().AddressChanges)
		newcomer := w.connect(t, place(200), 200)
		assert.False(t, ids[string(newcomer.records.PeerConnectionID())], "no ID comes twice")
		newcomer.inject(place(201), newcomer.data("x"))
		assert.Equal(t, []mobileMessage{echo("x")}, newcomer.received(place(201)))
	})
}

// TestSessionWhoseIDLeadsToAnotherIsFoundByItsAddress: in a smaller table a session can be in the
// slot and the generation that the ID of another one leads to.
func TestSessionWhoseIDLeadsToAnotherIsFoundByItsAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handshaker := &scriptedHandshaker{rrc: true, clientID: []byte("client")}
		cfg := Config{Sessions: 8, PSK: scriptedPSK, AddressChange: TrustAddress}
		w := newMobileWorld(t, handshaker, cfg)
		clients := map[int]*mobile{}
		for n := range 8 {
			clients[n] = withKey(w.connect(t, place(n), byte(n+1)))
		}
		for n := 2; n < 7; n++ {
			require.NoError(t, clients[n].conn.Close())
			delete(clients, n)
		}
		for n := range 2 { // the session with the highest slot is restored first
			clients[n].inject(place(n), clients[n].data("x"))
			require.Equal(t, []mobileMessage{echo("x")}, clients[n].received(place(n)))
		}

		key := keyring.Key{ID: 1, Secret: [32]byte{1}}
		var snapshot bytes.Buffer
		_, err := w.Save(t.Context(), &snapshot, key)
		require.NoError(t, err)
		cfg.Sessions, cfg.Handshakes = 3, 2
		cfg.Restore = func(l *Listener) error {
			stats, err := l.Restore(context.Background(), &snapshot, key)
			assert.Equal(t, len(clients), stats.Restored, stats)
			return err
		}
		w = newMobileWorld(t, handshaker, cfg)
		for n, m := range clients {
			m.w = w
			m.inject(place(n), m.data("hello"))
			assert.Equal(t, []mobileMessage{echo("hello")}, m.received(place(n)), n)
		}
	})
}

// TestAttachedSessionKeepsItsID, and is found by its address where its ID leads nowhere.
func TestAttachedSessionKeepsItsID(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handshaker := &scriptedHandshaker{rrc: true}
		cfg := Config{Sessions: 4, PSK: scriptedPSK, AddressChange: TrustAddress}
		w := newMobileWorld(t, handshaker, cfg)
		m := withKey(w.connect(t, place(1), 1))
		state, err := m.conn.Detach()
		require.NoError(t, err)
		other := newMobileWorld(t, handshaker, cfg)
		_, err = other.Attach(state)
		require.NoError(t, err)
		m.w = other
		m.inject(place(1), m.data("x"))
		assert.Equal(t, []mobileMessage{echo("x")}, m.received(place(1)))
		m.inject(place(2), m.data("y"))
		assert.Empty(t, m.received(place(2)), "the ID is another listener's")

		shorter := newMobileWorld(t, handshaker, Config{PSK: scriptedPSK, ServerID: []byte("s")})
		none := newMobileWorld(t, handshaker, Config{PSK: scriptedPSK, NoConnectionIDs: true})
		state, err = withKey(w.connect(t, place(3), 3)).conn.Detach()
		require.NoError(t, err)
		for _, l := range []*mobileWorld{shorter, none} {
			_, err = l.Attach(state)
			assert.ErrorIs(t, err, ErrStatePolicy)
			assert.ErrorContains(t, err, "connection ID")
		}
		_, err = w.Attach(state)
		assert.NoError(t, err)
	})
}

// TestCrashedSessionsAreFoundByTheirIDs, at the address that they had moved to and at others.
func TestCrashedSessionsAreFoundByTheirIDs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		handshaker := &scriptedHandshaker{rrc: true}
		key := keyring.Key{ID: 1, Secret: [32]byte{1}}
		cfg := Config{
			Sessions: 4, PSK: scriptedPSK, AddressChange: TrustAddress,
			Journal: &Journal{Dir: dir, Keys: []keyring.Key{key}, AfterCrash: ContinueSessions},
		}
		w := newMobileWorld(t, handshaker, cfg)
		first, second := withKey(w.connect(t, place(1), 1)), withKey(w.connect(t, place(2), 2))
		for n, m := range []*mobile{first, second} {
			m.inject(place(11+n), m.data("moved"))
			require.Equal(t, []mobileMessage{echo("moved")}, m.received(place(11+n)))
		}
		time.Sleep(2 * DefaultJournalInterval)
		w.Crash()

		w = newMobileWorld(t, handshaker, cfg)
		require.Equal(t, 2, w.Recovered().Restored)
		first.w, second.w = w, w
		first.inject(place(11), first.data("x"))
		assert.Equal(t, []mobileMessage{echo("x")}, first.received(place(11)))
		second.inject(place(22), second.data("y"))
		assert.Equal(t, []mobileMessage{echo("y")}, second.received(place(22)))
		assert.EqualValues(t, 1, w.Stats().AddressChanges)
	})
}
