// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestOneNetworkMayHaveMostPlaces: below three quarters of the newcomers' places there is
// no share.
func TestOneNetworkMayHaveMostPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: 4})
		fleet := x.admitMany(t, "10.0.0.0", 11, request{})
		x.check(t)
		x.refuses(t, shareTaken, "10.0.0.100", request{})
		others := x.admitMany(t, "10.0.1.0", 3, request{})
		x.refuses(t, shareTaken, "10.0.0.100", request{})
		x.refuses(t, noRoom, "10.0.2.1", request{})
		x.check(t)
		assert.Equal(t, 14, in(t, fleet)+in(t, others))

		// When handshakes have ended the network may take their places.
		for _, o := range fleet[:4] {
			x.end(&o.ticket)
		}
		x.must(t, "10.0.0.100", request{})
		x.refuses(t, shareTaken, "10.0.0.101", request{})
		x.check(t)
	})
}

// TestNetworkWithItsShareReplacesItsOwn: under pressure it displaces none of another
// network.
func TestNetworkWithItsShareReplacesItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: 4})
		others := x.admitMany(t, "10.0.1.0", 3, request{})
		time.Sleep(time.Second)
		more := x.admitMany(t, "10.0.2.0", 3, request{})
		time.Sleep(time.Second)
		ours := x.admitMany(t, "10.0.0.0", 5, request{})
		time.Sleep(time.Until(ours[0].ticket.started.Add(longPatience - 1)))
		x.refuses(t, shareTaken, "10.0.0.100", request{})
		assert.Equal(t, 6, in(t, others)+in(t, more), "although they are overdue")
		time.Sleep(time.Nanosecond)
		x.must(t, "10.0.0.100", request{})
		assert.False(t, ours[0].isIn(t), "its own oldest")
		assert.Equal(t, 4, in(t, ours))
		assert.Equal(t, 6, in(t, others)+in(t, more))
		assert.Equal(t, 5, x.sources[ours[0].ticket.prefix].len(), "there is room, so it gives back none")
		x.check(t)
	})
}

// TestNetworkOverItsShareGivesBack: while all places are taken each of its handshakes costs
// it two. Other networks take the place that is free then.
func TestNetworkOverItsShareGivesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: 4, HandshakeTimeout: time.Hour})
		flood := x.admitMany(t, "10.0.0.0", 11, request{})
		others := x.admitMany(t, "10.0.1.0", 3, request{})
		for _, o := range others {
			x.validate(&o.ticket)
		}
		source := x.sources[flood[0].ticket.prefix]
		for want := 10; want >= 4; want-- {
			time.Sleep(longPatience)
			x.must(t, "10.0.0.200", request{})
			assert.Equal(t, want, source.len())
			x.must(t, "10.0.0.201", request{})
			assert.Equal(t, want, source.len(), "a place is free, so it gives back none")
			o := x.must(t, netip.AddrFrom4([4]byte{10, 1, byte(want), 1}).String(), request{})
			x.validate(&o.ticket)
			others = append(others, o)
			assert.Equal(t, want, source.len())
			assert.Equal(t, len(others), in(t, others))
			x.check(t)
			x.finishDisplaced()
		}
		time.Sleep(longPatience)
		x.must(t, "10.0.0.200", request{})
		assert.Equal(t, 4, source.len(), "it keeps its share")
		x.check(t)
	})
}

// TestOthersFindRoomWhileNetworkIsOverItsShare: one network has three quarters of the
// places, and floods. Clients of other networks find room all the same, until it has its
// share.
func TestOthersFindRoomWhileNetworkIsOverItsShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 64, HandshakesPerSource: 14})
		flood := x.admitMany(t, "10.0.0.0", 42, request{})
		source := x.sources[flood[0].ticket.prefix]
		x.admitMany(t, "10.0.1.0", 14, request{})
		rounds := 0
		for ; source.len() > x.perSource; rounds++ {
			time.Sleep(longPatience)
			before := source.len()
			for range 3 {
				x.try("10.0.0.200", request{})
			}
			assert.LessOrEqual(t, source.len(), before)
			x.must(t, netip.AddrFrom4([4]byte{10, 1, byte(rounds), 1}).String(), request{})
			x.must(t, netip.AddrFrom16([16]byte{0x20, 1, 7: byte(rounds)}).String(), request{})
			x.check(t)
			x.finishDisplaced()
			require.Less(t, rounds, 100, "the network keeps its places")
		}
		assert.Equal(t, x.perSource, source.len())
	})
}

// TestShareOfOne displaces the only handshake of a network by another one of that network.
func TestShareOfOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 2, HandshakesPerSource: 1})
		a, other := x.must(t, "10.0.0.1", request{}), x.must(t, "10.0.1.1", request{})
		time.Sleep(longPatience)
		b := x.must(t, "10.0.0.2", request{})
		assert.False(t, a.isIn(t))
		assert.True(t, b.isIn(t) && other.isIn(t))
		x.check(t)
		x.end(&b.ticket)
		x.end(&other.ticket)
		x.check(t)
		assert.Empty(t, x.sources)
	})
}

// TestNoShareWithoutHandshakesPerSource: then one network can have all places, and is told
// that there is no room.
func TestNoShareWithoutHandshakesPerSource(t *testing.T) {
	t.Parallel()
	for _, places := range []int{1, 2, 3, 7, 8, 9, 16, 100} {
		for _, share := range []int{-1, places, places + 1} {
			synctest.Test(t, func(t *testing.T) {
				x := newAdmissionTest(t, Config{Handshakes: places, HandshakesPerSource: share})
				all := x.admitMany(t, "10.0.0.0", places-places/8, request{})
				x.refuses(t, noRoom, "10.0.0.200", request{})
				o, cause := x.try("10.0.0.200", request{namesSession: true})
				if cause == admitted {
					cause = x.classify(&o.ticket, false, func() {})
				}
				assert.Equal(t, noRoom, cause)
				time.Sleep(longPatience)
				x.must(t, "10.0.0.200", request{})
				assert.Equal(t, len(all)-1, in(t, all), "it gives back none")
				x.check(t)
			})
		}
	}
}

// TestNetworksOfIPv6: a share is that of a /64.
func TestNetworksOfIPv6(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: 4})
	x.admitMany(t, "2001:db8::", 11, request{})
	x.refuses(t, shareTaken, "2001:db8::ffff:0:0:1", request{})
	x.must(t, "2001:db8:0:1::1", request{})
	x.check(t)
}
