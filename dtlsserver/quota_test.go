// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// identityClients has clients whose randoms say which identity they have.
func identityClients() *scriptedHandshaker {
	return &scriptedHandshaker{identityOf: func(r record.Random) string { return identityName(r[0]) }}
}

// identityName is "" for 0.
func identityName(n byte) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("tenant-%d", n)
}

// connectAs has a client of an identity complete a handshake, and returns its session, which may
// have ended. number tells the client from all others.
func (w *mobileWorld) connectAs(t *testing.T, from netip.AddrPort, identity byte, number int) *Conn {
	t.Helper()
	random := record.Random{0: identity}
	binary.BigEndian.PutUint32(random[4:], uint32(number))
	hello := dtlstest.ClientHello{Random: random, Extensions: dtlstest.ExtendedMasterSecret()}
	w.network.Inject(from, w.server, hello.Datagram())
	synctest.Wait()
	session, _ := w.table.Get(w.sock, from)
	if session.Value == nil {
		return nil
	}
	return session.Value.Conn()
}

// TestOneIdentityDoesNotEvictOthers: one identity, from 1000 ports, at a listener that is not
// much larger than what the others need. Without the limit the others are pushed out.
func TestOneIdentityDoesNotEvictOthers(t *testing.T) {
	t.Parallel()
	const others, ports = 8, 1000
	for _, limit := range []int{0, 1} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			cfg := Config{Sessions: 16, SessionsPerIdentity: limit}
			withMobiles(t, identityClients(), cfg, func(t *testing.T, w *mobileWorld) {
				var victims []*Conn
				for n := range others {
					victims = append(victims, w.connectAs(t, place(n), byte(n+2), n))
				}
				for n := range ports {
					time.Sleep(time.Millisecond)
					c := w.connectAs(t, place(100+n), 1, 100+n)
					require.NotNil(t, c)
					require.Zero(t, c.EndReason(), "the newcomer has its session")
				}
				stats := w.Stats()
				require.EqualValues(t, others+ports, stats.Completed)
				if limit == 0 {
					for _, c := range victims {
						assert.Equal(t, Evicted, c.EndReason(), "without the limit")
					}
					assert.EqualValues(t, others+ports-16, stats.Evicted)
					return
				}
				for _, c := range victims {
					assert.Zero(t, c.EndReason())
				}
				assert.Zero(t, stats.Evicted)
				assert.EqualValues(t, ports-1, stats.IdentityReplaced)
				assert.Equal(t, others+1, stats.Established)
			})
		})
	}
}

// TestIdentityAtItsLimitTakesItsOwnRoom when the listener is full, even if the sessions of the
// others were used less recently.
func TestIdentityAtItsLimitTakesItsOwnRoom(t *testing.T) {
	t.Parallel()
	cfg := Config{Sessions: 4, SessionsPerIdentity: 2}
	withMobiles(t, identityClients(), cfg, func(t *testing.T, w *mobileWorld) {
		var c []*Conn
		for n, identity := range []byte{2, 2, 1, 1} {
			time.Sleep(time.Second)
			c = append(c, w.connectAs(t, place(n), identity, n))
		}
		w.connectAs(t, place(4), 1, 4)
		assert.Equal(t, IdentityReplaced, c[2].EndReason())
		// An identity below its limit evicts as before.
		w.connectAs(t, place(5), 3, 5)
		assert.Equal(t, Evicted, c[0].EndReason())
		assert.Zero(t, c[1].EndReason())
		assert.Zero(t, c[3].EndReason())
		assert.EqualValues(t, 1, w.Stats().Evicted)
		assert.EqualValues(t, 1, w.Stats().IdentityReplaced)
	})
}

// modelSession is a session as the reference has it.
type modelSession struct {
	conn     *Conn
	client   *mobile
	addr     netip.AddrPort
	identity byte
	lastUsed time.Time
}

// identityModel is a listener with a limit, in the simplest form.
type identityModel struct {
	limit    int
	sessions []*modelSession
	ended    map[*Conn]Reason
}

func (m *identityModel) end(s *modelSession, why Reason) {
	m.ended[s.conn] = why
	m.sessions = slices.DeleteFunc(m.sessions, func(other *modelSession) bool { return other == s })
}

// establish ends what a session ends for.
func (m *identityModel) establish(s *modelSession) {
	replaced := slices.IndexFunc(m.sessions, func(other *modelSession) bool { return other.addr == s.addr })
	if replaced >= 0 {
		m.end(m.sessions[replaced], Replaced)
	}
	var same []*modelSession
	for _, other := range m.sessions {
		if other.identity == s.identity {
			same = append(same, other)
		}
	}
	if s.identity != 0 && len(same) == m.limit {
		m.end(slices.MinFunc(same, func(a, b *modelSession) int { return a.lastUsed.Compare(b.lastUsed) }), IdentityReplaced)
	}
	m.sessions = append(m.sessions, s)
}

// TestLeastRecentlyUsedSessionOfIdentityMakesRoom: random clients connect, from new addresses and
// from those of other sessions, use their sessions in both directions, move and leave. Each time
// the sessions are those of the model.
func TestLeastRecentlyUsedSessionOfIdentityMakesRoom(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 3, 50} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			handshaker := identityClients()
			handshaker.clientID = []byte("client")
			cfg := Config{Sessions: 1000, SessionsPerIdentity: limit, AddressChange: TrustAddress}
			withMobiles(t, handshaker, cfg, func(t *testing.T, w *mobileWorld) { runIdentityModel(t, w, limit) })
		})
	}
}

func runIdentityModel(t *testing.T, w *mobileWorld, limit int) {
	random := rand.New(rand.NewPCG(uint64(limit), 1))
	m := &identityModel{limit: limit, ended: map[*Conn]Reason{}}
	any := func() *modelSession { return m.sessions[random.IntN(len(m.sessions))] }
	did := map[string]int{}
	for step := range 300 + 30*limit {
		time.Sleep(time.Millisecond)
		action := random.IntN(10)
		if len(m.sessions) == 0 {
			action = 0
		}
		switch {
		case action < 4: // connect
			s := &modelSession{addr: place(1000 + step), identity: byte(random.IntN(3)), lastUsed: time.Now()}
			if len(m.sessions) > 0 && action == 3 {
				other := any()
				s.addr = other.addr
				if random.IntN(3) > 0 {
					s.identity = other.identity
				}
				did["the same address"]++
			}
			s.conn = w.connectAs(t, s.addr, s.identity, step)
			require.NotNil(t, s.conn)
			s.client = w.clientOf(t, s.conn)
			m.establish(s)
		case action < 7: // the client's use, which the server answers
			s := any()
			s.client.inject(s.addr, s.client.data("x"))
			s.lastUsed = time.Now()
		case action < 8: // the server's use
			s := any()
			_, err := s.conn.Write([]byte("x"))
			require.NoError(t, err)
			s.lastUsed = time.Now()
		case action < 9: // the client moves
			s := any()
			s.addr = place(1000 + step)
			s.client.inject(s.addr, s.client.data("x"))
			require.Equal(t, s.addr, s.conn.Peer())
			s.lastUsed = time.Now()
			did["move"]++
		case random.IntN(3) == 0:
			s := any()
			require.NoError(t, s.conn.Close())
			m.end(s, ClosedByUs)
		}
		requireModel(t, w, m)
	}
	for _, why := range m.ended {
		did[why.String()]++
	}
	for _, what := range []string{"the same address", "move", "replaced", "identity_replaced", "closed_by_us"} {
		assert.Positive(t, did[what], what)
	}
}

func requireModel(t *testing.T, w *mobileWorld, m *identityModel) {
	t.Helper()
	for c, why := range m.ended {
		require.Equal(t, why, c.EndReason())
	}
	for _, s := range m.sessions {
		require.Zero(t, s.conn.EndReason(), "%s of identity %d", s.addr, s.identity)
	}
	require.Equal(t, len(m.sessions), w.Stats().Established)
	groups, counted := map[byte]bool{}, 0
	for _, s := range m.sessions {
		if s.identity != 0 {
			groups[s.identity] = true
			counted++
		}
	}
	identities, sessions := w.IndexedSessions()
	require.Equal(t, len(groups), identities)
	require.Equal(t, counted, sessions)
}

// TestIdentityWithoutAKeyHasNoLimit: with an identity key of "" a session counts for nobody.
func TestIdentityWithoutAKeyHasNoLimit(t *testing.T) {
	t.Parallel()
	withMobiles(t, identityClients(), Config{SessionsPerIdentity: 1}, func(t *testing.T, w *mobileWorld) {
		for n := range 5 {
			c := w.connectAs(t, place(n), 0, n)
			assert.Empty(t, c.IdentityKey())
		}
		assert.Equal(t, 5, w.Stats().Established)
		identities, sessions := w.IndexedSessions()
		assert.Zero(t, identities)
		assert.Zero(t, sessions)
	})
}

// TestUseWithAnEarlierClockDoesNotGoBack: goroutines read the clock before they have the lock.
func TestUseWithAnEarlierClockDoesNotGoBack(t *testing.T) {
	t.Parallel()
	withMobiles(t, identityClients(), Config{SessionsPerIdentity: 1}, func(t *testing.T, w *mobileWorld) {
		c := w.connectAs(t, place(1), 1, 1)
		time.Sleep(time.Second)
		m := w.clientOf(t, c)
		early := time.Now()
		time.Sleep(time.Second)
		m.inject(place(1), m.data("x"))
		used := c.LastUsed()
		c.ReceiveFromPeer(m.data("y"), early)
		assert.Equal(t, used, c.LastUsed())
	})
}

// TestSearchCorrectsEachSessionOnce: sessions that were all used are looked at once each, and the
// next search of the same identity looks at one.
func TestSearchCorrectsEachSessionOnce(t *testing.T) {
	t.Parallel()
	const sessions = 10
	var x identities
	x.init(&Config{SessionsPerIdentity: sessions})
	l := &Listener{began: time.Now()}
	var conns []*Conn
	for range sessions {
		p := &Peer{listener: l}
		p.mu.Lock()
		c := p.newConnLocked()
		require.True(t, x.joinLocked(c, "a", 0))
		p.mu.Unlock()
		conns = append(conns, c)
	}
	known := func() (corrected int) {
		for _, e := range x.groups["a"].entries {
			if e.lastUsed == e.conn.lastUsed {
				corrected++
			}
		}
		return corrected
	}
	for n, c := range conns {
		c.lastUsed = time.Duration(100 + (n+5)%sessions)
	}
	require.Zero(t, known(), "use costs nothing")
	assert.Same(t, conns[5], x.leastRecentlyUsed("a", 1000))
	assert.Equal(t, sessions, known())
	conns[5].lastUsed, conns[7].lastUsed = 200, 201
	assert.Same(t, conns[6], x.leastRecentlyUsed("a", 1000))
	assert.Equal(t, sessions-1, known(), "the other one is not looked at before it is the first")
	assert.Nil(t, x.leastRecentlyUsed("b", 1000))
}
