// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"math"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestConnectionIDHoldsSlotAndGeneration, behind the ServerID, and shows neither.
func TestConnectionIDHoldsSlotAndGeneration(t *testing.T) {
	t.Parallel()
	for _, serverID := range [][]byte{nil, {1, 2, 3}, make([]byte, maxServerID)} {
		ids := newConnectionIDs(serverID)
		other := newConnectionIDs(serverID)
		seen := map[string]bool{}
		for _, slot := range []int{0, 1, 255, 1 << 20, math.MaxUint32} {
			for _, generation := range []uint32{0, 1, math.MaxUint32} {
				id := ids.id(slot, generation)
				require.Len(t, id, ids.length())
				require.Equal(t, len(serverID)+aes.BlockSize, len(id))
				require.True(t, bytes.HasPrefix(id, serverID))
				seen[string(id)] = true
				gotSlot, gotGeneration, ok := ids.parse(id)
				require.True(t, ok)
				assert.Equal(t, slot, gotSlot)
				assert.Equal(t, generation, gotGeneration)
				assert.NotContains(t, string(id[len(serverID):]), string(make([]byte, 4)), "the zeros are not to be seen")

				for bit := range 8 * len(id) {
					flipped := bytes.Clone(id)
					flipped[bit/8] ^= 1 << (bit % 8)
					_, _, ok = ids.parse(flipped)
					require.False(t, ok, "bit %d", bit)
				}
				for n := range len(id) {
					_, _, ok = ids.parse(id[:n])
					require.False(t, ok)
				}
				_, _, ok = ids.parse(append(bytes.Clone(id), 0))
				require.False(t, ok)
				_, _, ok = other.parse(id)
				require.False(t, ok, "another listener has another key")
			}
		}
		assert.Len(t, seen, 15)
		for range 1000 {
			random := bytes.Clone(ids.id(0, 0))
			_, _ = rand.Read(random[len(serverID):])
			_, _, ok := ids.parse(random)
			require.False(t, ok)
		}
	}
	var none connectionIDs
	assert.Zero(t, none.length())
	assert.Nil(t, none.id(0, 0))
	_, _, ok := none.parse(nil)
	assert.False(t, ok)
}

// TestPeerKeepsItsSize: 384 is a size class of the allocator, and the next one is 416.
func TestPeerKeepsItsSize(t *testing.T) {
	t.Parallel()
	assert.LessOrEqual(t, unsafe.Sizeof(Peer{}), uintptr(384))
}

// TestNothingIsAllocatedForADatagramWithID, from the peer's address and from another one.
func TestNothingIsAllocatedForADatagramWithID(t *testing.T) {
	if dtlstest.RaceEnabled || lockorder.Checked {
		t.Skip("the race detector and the check of the lock order allocate")
	}
	l := newBareListener(t, 1)
	l.ids = newConnectionIDs([]byte("server"))
	id := l.ids.id(l.conns[0].Slot(), l.conns[0].peer.generation)
	l.conns[0].records.SetConnectionIDs(id, nil)
	l.clients[0].SetConnectionIDs(nil, id)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if _, _, ok := l.ids.parse(id); !ok {
			t.Fatal("no ID")
		}
	}))
	now, text, buf := time.Now(), make([]byte, 100), make([]byte, 200)
	datagram := make([]byte, 0, 2048)
	for _, from := range []route{l.from(0), {socket: l.sockets[0], peer: place(2)}} {
		receive := func() {
			sealed, err := l.clients[0].Seal(datagram, record.TypeApplicationData, text)
			if err != nil {
				t.Fatal(err)
			}
			l.receive(from, sealed, now)
			if n, err := l.conns[0].Read(buf); n != len(text) || err != nil {
				t.Fatal(n, err)
			}
		}
		assert.Zero(t, testing.AllocsPerRun(100, receive))
	}
	_, ok := l.conns[0].UnverifiedAddress()
	assert.True(t, ok)
}

// TestForgedIDFindsNobody: a stranger's datagram with an ID that is not a live session's is
// counted, and there is no answer. A flipped bit of an authentic record is found out, wherever
// it is.
func TestForgedIDFindsNobody(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{}, Config{ServerID: []byte{1, 2}, AddressChange: TrustAddress}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		authentic := m.data("authentic")
		idEnd := record.HeaderSize - 2 + w.ids.length()
		for bit := range 8 * len(authentic) {
			for _, from := range []netip.AddrPort{place(1), place(2)} {
				flipped := bytes.Clone(authentic)
				flipped[bit/8] ^= 1 << (bit % 8)
				before := w.Stats()
				m.inject(from, flipped)
				after := w.Stats()
				if at := bit / 8; from == place(2) && at >= record.HeaderSize-2 && at < idEnd {
					require.Equal(t, before.Stray+1, after.Stray, "byte %d", at)
				} else { // a shorter record leaves another one behind it
					require.Greater(t, droppedRecords(after), droppedRecords(before), "byte %d", at)
				}
			}
		}
		assert.Equal(t, place(1), m.addrInTable())
		assert.EqualValues(t, 1, w.Stats().Started)
		assert.Empty(t, w.takeSent(place(1)))
		assert.Empty(t, w.takeSent(place(2)))
		m.inject(place(2), authentic)
		assert.Equal(t, []mobileMessage{echo("authentic")}, m.received(place(2)))
	})
}

// droppedRecords returns how many records and datagrams were dropped.
func droppedRecords(s Stats) uint64 { return s.Malformed + s.Plaintext + s.Epoch + s.Forged + s.Stray }

// TestIDOfEndedSessionFindsNobody, also if another peer has the slot.
func TestIDOfEndedSessionFindsNobody(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{}, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		late, slot := m.data("late"), m.conn.Slot()
		require.NoError(t, m.conn.Close())
		m.inject(place(2), late)
		assert.EqualValues(t, 1, w.Stats().Stray)
		successor := w.connect(t, place(3), 2)
		require.Equal(t, slot, successor.conn.Slot())
		m.inject(place(2), late)
		stats := w.Stats()
		assert.EqualValues(t, 2, stats.Stray)
		assert.Zero(t, stats.Forged)
	})
}

// TestRecordWithoutIDIsNotOfASessionWithID, and the reverse.
func TestRecordWithoutIDIsNotOfASessionWithID(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{}, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		id := bytes.Clone(m.records.PeerConnectionID())
		m.records.SetConnectionIDs(nil, nil)
		m.inject(place(1), m.data("without"))
		assert.EqualValues(t, 1, w.Stats().Forged+w.Stats().Epoch)
		m.conn.records.SetConnectionIDs(nil, nil)
		m.inject(place(1), m.data("without"))
		assert.Equal(t, []mobileMessage{echo("without")}, m.received(place(1)))
		m.records.SetConnectionIDs(nil, id)
		m.inject(place(1), m.data("with"))
		m.inject(place(2), m.data("with"))
		assert.EqualValues(t, 3, w.Stats().Forged+w.Stats().Epoch)
		m.records.SetConnectionIDs(nil, nil)
		m.inject(place(2), m.data("without"))
		assert.EqualValues(t, 1, w.Stats().Stray)
		assert.Equal(t, place(1), m.addrInTable())
	})
}

// TestListenersOfOneTableHaveTheirOwnIDs: an ID leads to no session of another listener.
func TestListenersOfOneTableHaveTheirOwnIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, err := dsm.New[*Peer](8)
		require.NoError(t, err)
		cfg := Config{Table: table, Sessions: 2, Handshakes: 2}
		one, two := newMobileWorld(t, &scriptedHandshaker{}, cfg), newMobileWorld(t, &scriptedHandshaker{}, cfg)
		ofOne, ofTwo := one.connect(t, place(1), 1), two.connect(t, place(1), 2)
		ofTwo.w = one
		ofTwo.inject(place(2), ofTwo.data("astray"))
		assert.EqualValues(t, 1, one.Stats().Stray)
		two.ids = one.ids // as good as a guess
		stolen := two.ids.id(ofTwo.conn.Slot(), ofTwo.conn.peer.generation)
		ofTwo.records.SetConnectionIDs(nil, stolen)
		ofTwo.inject(place(2), ofTwo.data("astray"))
		assert.EqualValues(t, 2, one.Stats().Stray)
		ofOne.inject(place(2), ofOne.data("here"))
		assert.Equal(t, []mobileMessage{echo("here")}, ofOne.received(place(2)))
	})
}

// TestListenerWithoutIDsKnowsNone: with NoConnectionIDs, and with an adapter that has none,
// records of type 25 are malformed, whoever sends them.
func TestListenerWithoutIDsKnowsNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		withIDs := newMobileWorld(t, &scriptedHandshaker{}, Config{})
		datagram := withIDs.connect(t, place(1), 1).data("x")
		for _, capable := range []bool{true, false} {
			network := dtlstest.NewNetwork(1)
			socket := network.Listen(netip.AddrPort{})
			l, err := NewListener([]net.PacketConn{socket}, &scriptedHandshaker{connectionIDs: capable}, Config{NoConnectionIDs: capable})
			require.NoError(t, err)
			network.Inject(place(1), socket.AddrPort(), dtlstest.Hello(1))
			synctest.Wait()
			session, _ := l.table.Get(l.sock, place(1))
			require.Empty(t, session.Value.Conn().secrets().ConnectionID)
			network.Inject(place(1), socket.AddrPort(), datagram)
			network.Inject(place(2), socket.AddrPort(), datagram)
			network.Inject(place(2), socket.AddrPort(), []byte{byte(record.TypeConnectionID)})
			synctest.Wait()
			stats := l.Stats()
			assert.EqualValues(t, 3, stats.Malformed)
			assert.Zero(t, stats.Stray+stats.Forged+stats.Epoch+stats.Plaintext)
			require.NoError(t, l.Close())
		}
	})
}
