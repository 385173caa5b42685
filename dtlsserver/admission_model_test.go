// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// modelAdmission is an admission without queues and counts: it goes through all handshakes
// in progress each time. It has no slots.
type modelAdmission struct {
	x       *admissionTest // for its bounds and its patience
	inside  []*modelTicket
	running int
}

type modelTicket struct {
	*owner
	class     clientClass
	prefix    netip.Prefix
	kind      patienceKind
	since     time.Time
	lookingUp bool
}

func (m *modelAdmission) count(match func(k *modelTicket) bool) int {
	n := 0
	for _, k := range m.inside {
		if match(k) {
			n++
		}
	}
	return n
}

func (m *modelAdmission) inClass(class clientClass) int {
	return m.count(func(k *modelTicket) bool { return k.class == class })
}

// rank returns which handshakes are displaced first.
func rank(k *modelTicket) int {
	switch k.kind {
	case validated:
		return 1
	case validatedLong:
		return 2
	default:
		return 0
	}
}

func (m *modelAdmission) remove(k *modelTicket) {
	m.inside = slices.DeleteFunc(m.inside, func(other *modelTicket) bool { return other == k })
}

// displaceOne removes the handshake that has waited longest of those that match and have
// exceeded their patience. Those whose clients have validated their addresses are last.
func (m *modelAdmission) displaceOne(match func(k *modelTicket) bool) bool {
	var first *modelTicket
	for _, k := range m.inside {
		if !match(k) || time.Since(k.since) < m.x.patience.of(k.kind) {
			continue
		}
		if first == nil || rank(k) < rank(first) || rank(k) == rank(first) && k.since.Before(first.since) {
			first = k
		}
	}
	if first != nil {
		m.remove(first)
	}
	return first != nil
}

func (m *modelAdmission) makeRoom(class clientClass, prefix netip.Prefix) refusal {
	newcomers := func(k *modelTicket) bool { return k.class == newcomer }
	full := len(m.inside) >= m.x.places
	if class == returning {
		if full && !m.displaceOne(newcomers) && !m.displaceOne(func(k *modelTicket) bool { return k.class == returning }) {
			return noRoom
		}
		return admitted
	}
	full = full || m.inClass(newcomer) >= m.x.newcomers
	ofNetwork := func(k *modelTicket) bool { return k.class == newcomer && k.prefix == prefix }
	count := m.count(ofNetwork)
	switch {
	case m.x.perSource < m.x.newcomers && count > 0 && count >= m.x.perSource && (full || m.inClass(newcomer) >= m.x.pressure):
		if !m.displaceOne(ofNetwork) {
			return shareTaken
		}
		if full && count > m.x.perSource {
			m.displaceOne(ofNetwork)
		}
	case full && m.displaceOne(newcomers):
	case full && (m.inClass(newcomer) >= m.x.newcomers || !m.displaceOne(func(k *modelTicket) bool { return k.class == returning })):
		return noRoom
	}
	return admitted
}

func (m *modelAdmission) kind() patienceKind {
	if m.count(func(k *modelTicket) bool { return k.kind == awaitsCookieLong }) < m.x.patient {
		return awaitsCookieLong
	}
	return awaitsCookie
}

func (m *modelAdmission) admit(o *owner, r request, instead *modelTicket) (*modelTicket, refusal) {
	prefix := networkOf(r.addr)
	lookUp := r.namesSession && r.class == newcomer &&
		m.count(func(k *modelTicket) bool { return k.lookingUp }) < m.x.maxLookingUp
	if lookUp {
		r.class = returning
	}
	if m.running >= m.x.maxRunning || r.class == newcomer && m.running >= m.x.maxRunning-m.x.places/8 {
		return nil, noRoom
	}
	if !slices.Contains(m.inside, instead) {
		instead = nil
	}
	if instead != nil && instead.lookingUp && !r.namesSession {
		r.class = newcomer
	}
	if instead != nil && (!instead.lookingUp || r.namesSession) {
		r.class, lookUp = instead.class, instead.lookingUp
	} else if cause := m.makeRoom(r.class, prefix); cause != admitted {
		return nil, cause
	}
	m.remove(instead)
	k := &modelTicket{owner: o, class: r.class, prefix: prefix, kind: m.kind(), since: time.Now()}
	if lookUp {
		k.lookingUp, k.kind = true, validatedLong
	}
	m.inside = append(m.inside, k)
	m.running++
	return k, admitted
}

func (m *modelAdmission) classify(k *modelTicket, known bool) refusal {
	switch {
	case !slices.Contains(m.inside, k):
		return stopped
	case known:
		k.class, k.kind, k.since, k.lookingUp = returning, validatedLong, time.Now(), false
	case k.lookingUp:
		k.lookingUp = false
		m.remove(k)
		if cause := m.makeRoom(newcomer, k.prefix); cause != admitted {
			return cause
		}
		k.class, k.kind, k.since = newcomer, m.kind(), time.Now()
		m.inside = append(m.inside, k)
	}
	return admitted
}

// TestAdmissionAgainstModel does random operations on an admission and on its model, and
// compares who is in progress after each.
func TestAdmissionAgainstModel(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{
		{Handshakes: 16, HandshakesPerSource: 4},
		{Handshakes: 8, HandshakesPerSource: 1},
		{Handshakes: 3, HandshakesPerSource: -1},
		{Handshakes: 40, HandshakesPerSource: 5, HandshakeTimeout: 5 * time.Second},
	} {
		for seed := range uint64(dtlstest.Scaled(10, 50)) {
			synctest.Test(t, func(t *testing.T) { compareWithModel(t, cfg, rand.New(rand.NewPCG(seed, 2))) })
		}
	}
}

func compareWithModel(t *testing.T, cfg Config, r *rand.Rand) {
	x := newAdmissionTest(t, cfg)
	m := &modelAdmission{x: x}
	var all []*modelTicket // ended ones included
	refused := map[refusal]int{}
	for n := range 1500 {
		time.Sleep(1 + time.Duration(r.IntN(r.IntN(8)/7*5000+1000))*time.Millisecond/4)
		x.crowded = r.IntN(2) == 0
		var k *modelTicket
		if len(all) > 0 {
			k = all[max(0, len(all)-1-r.IntN(50))]
		}
		switch op := r.IntN(16); {
		case op < 8 || k == nil:
			q := request{
				addr: netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(6) * r.IntN(2)), 1}), inSlot: true,
				class: clientClass(r.IntN(6) / 5), namesSession: r.IntN(4) == 0,
			}
			var instead *modelTicket
			if k != nil && r.IntN(6) == 0 {
				instead, q.replaces, q.addr = k, &k.ticket, k.prefix.Addr()
			}
			o := newOwner(x.admission)
			q.start = func() *ticket { return &o.ticket }
			x.skipPace()
			got := x.admit(q)
			added, want := m.admit(o, q, instead)
			require.Equal(t, want, got)
			refused[want]++
			if added != nil {
				all = append(all, added)
			}
		case op < 11:
			known := r.IntN(2) == 0
			got, want := x.classify(&k.ticket, known, func() {}), m.classify(k, known)
			require.Equal(t, want, got)
		case op < 13:
			before := slices.Contains(m.inside, k) && k.ticket.validatedAfter == 0
			assert.Equal(t, before, x.validate(&k.ticket) > 0)
			if before {
				slowOnes := m.count(func(k *modelTicket) bool { return k.class == newcomer && k.kind == validatedLong })
				if k.kind == awaitsCookie || k.kind == awaitsCookieLong && slowOnes >= m.x.patient {
					k.kind = validated
				} else {
					k.kind = validatedLong
				}
				k.since, k.lookingUp = time.Now(), false
			}
		case op == 13:
			x.end(&k.ticket)
			m.remove(k)
		case op == 14:
			assert.Equal(t, slices.Contains(m.inside, k), x.complete(&k.ticket, func() {}) > 0)
			m.remove(k)
		default:
			x.displace(&k.ticket)
			m.remove(k)
		}
		if r.IntN(2) == 0 && m.running > len(m.inside) {
			x.finished()
			m.running--
		}
		require.Equal(t, m.running, x.running)
		compareTickets(t, all, m)
		if n%8 == 0 {
			x.check(t)
		}
		if t.Failed() {
			return
		}
		// Those that have ended are kept for a while, for they must not end again.
		all = slices.DeleteFunc(all, func(k *modelTicket) bool { return k.ticket.ended && time.Since(k.since) > time.Minute })
	}
	assert.Positive(t, refused[admitted])
	assert.Positive(t, refused[noRoom]+refused[shareTaken])
	x.stop()
	m.inside = nil
	compareTickets(t, all, m)
	x.check(t)
}

// compareTickets checks that the same handshakes are in progress, of the same classes.
func compareTickets(t *testing.T, all []*modelTicket, m *modelAdmission) {
	t.Helper()
	for _, k := range all {
		inside := slices.Contains(m.inside, k)
		require.Equal(t, inside, !k.ticket.ended)
		require.LessOrEqual(t, k.displacedN, 1)
		require.False(t, k.early)
		if !inside {
			continue
		}
		require.Equal(t, k.class, k.ticket.class)
		require.Equal(t, k.kind, k.ticket.waiting.kind)
		require.Equal(t, k.since, k.ticket.waiting.since)
		require.Equal(t, k.lookingUp, k.ticket.lookingUp)
		require.Equal(t, k.prefix, k.ticket.prefix)
	}
}
