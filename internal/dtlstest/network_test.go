// SPDX-License-Identifier: MIT

package dtlstest

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	serverAddr = netip.MustParseAddrPort("192.0.2.1:5684")
	clientAddr = netip.MustParseAddrPort("198.51.100.1:1")
	otherAddr  = netip.MustParseAddrPort("203.0.113.1:1")
)

// newPair returns a server's socket and a client's.
func newPair(t *testing.T) (n *Network, server, client *Socket) {
	t.Helper()
	n = NewNetwork(1)
	t.Cleanup(func() { _ = n.Close() })
	return n, n.Listen(serverAddr), n.Dial(clientAddr, serverAddr)
}

// sendNumbers sends the numbers 0 to count-1, one in a datagram.
func sendNumbers(t *testing.T, s *Socket, count int) {
	t.Helper()
	for i := range count {
		Send(t, s, binary.BigEndian.AppendUint32(nil, uint32(i)))
	}
}

// readNumbers reads what sendNumbers has sent, as far as it is there.
func readNumbers(t *testing.T, s *Socket) []int {
	t.Helper()
	numbers := []int{}
	for s.Queued() > 0 {
		buf := make([]byte, 8)
		n, err := s.Read(buf)
		require.NoError(t, err)
		require.Equal(t, 4, n)
		numbers = append(numbers, int(binary.BigEndian.Uint32(buf)))
	}
	return numbers
}

func upTo(n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	return numbers
}

func TestDeliversAtOnceInOrder(t *testing.T) {
	n, server, client := newPair(t)
	before := runtime.NumGoroutine()
	sendNumbers(t, client, 100)
	assert.Equal(t, 100, server.Queued(), "when Write has returned")
	assert.Equal(t, upTo(100), readNumbers(t, server))

	_, err := server.WriteTo([]byte("answer"), client.LocalAddr())
	require.NoError(t, err)
	buf := make([]byte, 100)
	read, from, err := client.ReadFrom(buf)
	require.NoError(t, err)
	assert.Equal(t, "answer", string(buf[:read]))
	assert.Equal(t, server.LocalAddr(), from)
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
	assert.Equal(t, Counts{Sent: 100, SentBytes: 400, Delivered: 100}, n.Counts(ToServer))
	assert.Equal(t, Counts{Sent: 1, SentBytes: 6, Delivered: 1}, n.Counts(ToClient))
}

func TestDelayIsThatOfTheDirection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, server, client := newPair(t)
		n.SetConditions(ToServer, Conditions{Delay: 100 * time.Millisecond})
		n.SetConditions(ToClient, Conditions{Delay: 250 * time.Millisecond})
		begin := time.Now()
		sendNumbers(t, client, 1000)
		buf := make([]byte, 8)
		_, from, err := server.ReadFrom(buf)
		require.NoError(t, err)
		assert.Equal(t, 100*time.Millisecond, time.Since(begin))
		synctest.Wait()
		assert.Equal(t, upTo(1000)[1:], readNumbers(t, server), "a delay alone keeps the order")

		_, err = server.WriteTo([]byte{1, 2, 3, 4}, from)
		require.NoError(t, err)
		_, err = client.Read(buf)
		require.NoError(t, err)
		assert.Equal(t, 350*time.Millisecond, time.Since(begin))
	})
}

func TestShorterDelayOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, server, client := newPair(t)
		for i, delay := range []time.Duration{30, 10, 0, 20} {
			n.SetConditions(ToServer, Conditions{Delay: delay * time.Millisecond})
			Send(t, client, []byte{0, 0, 0, byte(i)})
		}
		time.Sleep(time.Second)
		assert.Equal(t, []int{2, 1, 3, 0}, readNumbers(t, server))
	})
}

func TestJitterReorders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, server, client := newPair(t)
		n.SetConditions(ToServer, Conditions{Delay: time.Second, Jitter: 100 * time.Millisecond})
		sendNumbers(t, client, 100)
		time.Sleep(time.Second - 1)
		synctest.Wait()
		require.Zero(t, server.Queued())
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		numbers := readNumbers(t, server)
		assert.ElementsMatch(t, upTo(100), numbers)
		assert.NotEqual(t, upTo(100), numbers)
	})
}

func TestLossIsDeterminedBySeed(t *testing.T) {
	lossy := func(seed uint64) []int {
		n := NewNetwork(seed)
		defer n.Close()
		n.SetConditions(ToServer, Conditions{Loss: 0.3})
		server, client := n.Listen(serverAddr), n.Dial(clientAddr, serverAddr)
		sendNumbers(t, client, 1000)
		_, err := server.WriteTo([]byte("not lost"), client.LocalAddr())
		require.NoError(t, err)
		assert.Equal(t, 1, client.Queued(), "the other direction loses nothing")
		numbers := readNumbers(t, server)
		counts := n.Counts(ToServer)
		assert.Equal(t, 1000, counts.Lost+counts.Delivered)
		assert.Len(t, numbers, counts.Delivered)
		return numbers
	}
	first := lossy(1)
	assert.InDelta(t, 700, len(first), 60)
	assert.IsIncreasing(t, first)
	assert.Equal(t, first, lossy(1))
	assert.NotEqual(t, first, lossy(2))
}

func TestDuplicates(t *testing.T) {
	n, server, client := newPair(t)
	n.SetConditions(ToServer, Conditions{Duplication: 1})
	sendNumbers(t, client, 3)
	assert.Equal(t, []int{0, 0, 1, 1, 2, 2}, readNumbers(t, server))
	n.SetConditions(ToServer, Conditions{Duplication: 0.5})
	sendNumbers(t, client, 1000)
	assert.InDelta(t, 1500, server.Queued(), 60)
	assert.Equal(t, 6+server.Queued(), n.Counts(ToServer).Delivered)
}

func TestFilterDropsChangesHoldsAndAdds(t *testing.T) {
	n, server, client := newPair(t)
	var held func()
	n.SetFilter(ToServer, func(d Datagram, forward func([]byte)) {
		assert.Equal(t, clientAddr, d.From)
		assert.Equal(t, serverAddr, d.To)
		switch d.Payload[3] {
		case 0: // dropped
		case 1:
			d.Payload[3] = 100
			forward(d.Payload)
		case 2:
			held = func() { forward(d.Payload) }
		case 3:
			forward(d.Payload)
			forward([]byte{0, 0, 0, 33})
			held()
			assert.True(t, n.Inject(otherAddr, serverAddr, []byte{0, 0, 0, 34}))
		}
	})
	sendNumbers(t, client, 4)
	assert.Equal(t, []int{100, 3, 33, 2, 34}, readNumbers(t, server))
	n.SetFilter(ToServer, nil)
	sendNumbers(t, client, 2)
	assert.Equal(t, []int{0, 1}, readNumbers(t, server))
	n.SetHook(ToServer, LoseNth(1))
	sendNumbers(t, client, 3)
	assert.Equal(t, []int{0, 2}, readNumbers(t, server))
	n.SetHook(ToServer, nil)
	sendNumbers(t, client, 1)
	assert.Equal(t, []int{0}, readNumbers(t, server))
}

func TestInjectForgesAnyAddress(t *testing.T) {
	n, server, client := newPair(t)
	for _, d := range []Direction{ToServer, ToClient} {
		n.SetFilter(d, func(Datagram, func([]byte)) { assert.Fail(t, "a filter sees what was injected") })
	}
	buf := make([]byte, 100)
	assert.True(t, n.Inject(otherAddr, serverAddr, []byte("from another")))
	read, from, err := server.ReadFrom(buf)
	require.NoError(t, err)
	assert.Equal(t, "from another", string(buf[:read]))
	assert.Equal(t, otherAddr, AddrPort(from))

	assert.True(t, n.Inject(serverAddr, clientAddr, []byte("in the server's name")))
	read, err = client.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "in the server's name", string(buf[:read]))
	assert.Equal(t, 1, n.Counts(ToClient).Delivered)

	// A connected socket receives from its peer only.
	assert.True(t, n.Inject(otherAddr, clientAddr, []byte("from another")))
	assert.Zero(t, client.Queued())
}

func TestCountsWhatNobodyReceives(t *testing.T) {
	n, server, client := newPair(t)
	for range 3 {
		_, err := server.WriteTo(make([]byte, 10), udpAddr(otherAddr))
		require.NoError(t, err)
	}
	assert.Equal(t, Counts{Sent: 3, SentBytes: 30, Unreachable: 3, UnreachableBytes: 30}, n.Counts(ToClient))
	assert.Zero(t, n.Counts(ToServer))
	require.NoError(t, server.Close())
	Send(t, client, make([]byte, 5))
	assert.Equal(t, Counts{Sent: 1, SentBytes: 5, Unreachable: 1, UnreachableBytes: 5}, n.Counts(ToServer))
	assert.False(t, n.Inject(otherAddr, serverAddr, nil))
}

func TestAddressesAreUnique(t *testing.T) {
	n, _, client := newPair(t)
	assert.Panics(t, func() { n.Listen(serverAddr) })
	assert.Panics(t, func() { n.Dial(clientAddr, serverAddr) })
	require.NoError(t, client.Close())
	assert.NotPanics(t, func() { n.Dial(clientAddr, serverAddr) }, "the address is free again")
	seen := map[netip.AddrPort]bool{}
	for range 1000 {
		addr := n.Dial(netip.AddrPort{}, serverAddr).AddrPort()
		assert.False(t, seen[addr])
		seen[addr] = true
	}
	mapped := netip.AddrPortFrom(netip.AddrFrom16(clientAddr.Addr().As16()), 2)
	assert.Equal(t, clientAddr.Addr(), n.Dial(mapped, serverAddr).AddrPort().Addr())
	assert.Equal(t, "10.1.2.3:5", NthAddr(10, 1<<16+2<<8+3, 5).String())
}

// Closing the network leaves nothing in the bubble: synctest.Test would report it.
func TestCloseLeavesNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, server, client := newPair(t)
		n.SetRoundTrip(time.Hour)
		sendNumbers(t, client, 10)
		slow := n.Listen(otherAddr)
		slow.SetQueue(1, WaitWhenFull)
		n.SetRoundTrip(0)
		var wg sync.WaitGroup
		wg.Go(func() {
			for n.Inject(clientAddr, otherAddr, []byte("x")) {
			}
		})
		wg.Go(func() { _, err := server.Read(make([]byte, 10)); assert.Error(t, err) })
		require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Hour)))
		wg.Go(func() { _, err := client.Read(make([]byte, 10)); assert.Error(t, err) })
		synctest.Wait()
		require.NoError(t, n.Close())
		wg.Wait()
		assert.Panics(t, func() { n.Listen(serverAddr) })
	})
}

// Many senders, delays that change, and Close while they send: for the race detector.
func TestNetworkIsSafeForConcurrentUse(t *testing.T) {
	n, server, _ := newPair(t)
	server.SetQueue(10, WaitWhenFull)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			s := n.Dial(netip.AddrPort{}, serverAddr)
			for j := 0; ; j++ {
				if j%100 == 50 {
					n.SetConditions(ToServer, Conditions{
						Delay: time.Duration(i) * 10 * time.Microsecond, Jitter: 10 * time.Microsecond, Loss: 0.1, Duplication: 0.1,
					})
				}
				if _, err := s.Write([]byte("abcd")); err != nil {
					return
				}
				time.Sleep(time.Microsecond)
			}
		})
	}
	for range 1000 {
		_, from, err := server.ReadFrom(make([]byte, 10))
		require.NoError(t, err)
		_, err = server.WriteTo([]byte("x"), from)
		require.NoError(t, err)
	}
	require.NoError(t, n.Close())
	wg.Wait()
}
