// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The template makes the very hello that pion's client has sent.
func TestRecordHelloIsThatOfPion(t *testing.T) {
	for _, suite := range []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM_8, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256} {
		config := PSKConfig("key", suite)
		config.ServerName = ServerName
		template, err := RecordHello(config)
		require.NoError(t, err)
		n := NewNetwork(1)
		server := n.Listen(netip.AddrPort{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = dtls.ClientWithContext(ctx, n.Dial(netip.AddrPort{}, serverAddr), config) })
		buf := make([]byte, maxDatagram)
		size, err := server.Read(buf)
		require.NoError(t, err)
		cancel()
		wg.Wait()
		template.Random = record.Random(buf[randomAt:])
		assert.Equal(t, buf[:size], template.Datagram())
		require.NoError(t, n.Close())
	}
}

// verifier is a server that answers each first ClientHello with a HelloVerifyRequest, and
// notes all hellos.
type verifier struct {
	mu            sync.Mutex
	first, second map[netip.AddrPort]record.ClientHello
	repeated      int
}

func (v *verifier) serve(t *testing.T, s *Socket) {
	buf := make([]byte, maxDatagram)
	for {
		n, addr, err := s.ReadFrom(buf)
		if err != nil {
			return
		}
		hello, ok := record.ParseClientHello(Records(bytes.Clone(buf[:n]))[0])
		if !assert.True(t, ok) {
			return
		}
		hellos, from := v.first, AddrPort(addr)
		if len(hello.Cookie) > 0 {
			hellos = v.second
			assert.Equal(t, from.String(), string(hello.Cookie))
			assert.EqualValues(t, 1, hello.MessageSeq)
		} else {
			cookie := []byte(from.String())
			body := append([]byte{0xfe, 0xff, byte(len(cookie))}, cookie...)
			_, err = s.WriteTo(Plaintext(record.TypeHandshake, 0, Message(record.MessageHelloVerifyRequest, 0, body...)...), addr)
			assert.NoError(t, err)
		}
		v.mu.Lock()
		if _, known := hellos[from]; known {
			v.repeated++
		}
		hellos[from] = hello
		v.mu.Unlock()
	}
}

func TestStrangers(t *testing.T) {
	template, err := RecordHello(PSKConfig("key"))
	require.NoError(t, err)
	for _, oneNetwork := range []bool{false, true} {
		for _, cookies := range []bool{false, true} {
			for _, sessions := range []bool{false, true} {
				for _, rate := range []int{20, 1000} {
					name := fmt.Sprintf("one network=%t/cookies=%t/sessions=%t/rate=%d", oneNetwork, cookies, sessions, rate)
					t.Run(name, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							n := NewNetwork(1)
							n.SetRoundTrip(rtt)
							socket := n.Listen(serverAddr)
							v := &verifier{first: map[netip.AddrPort]record.ClientHello{}, second: map[netip.AddrPort]record.ClientHello{}}
							var wg sync.WaitGroup
							wg.Go(func() { v.serve(t, socket) })
							s := &Strangers{
								Network: n, Server: serverAddr, Hello: template, Rate: rate, OneNetwork: oneNetwork,
								ReturnCookies: cookies, NameSessions: sessions, Seed: 7,
							}
							const during = 3 * time.Second
							ctx, cancel := context.WithTimeout(t.Context(), during)
							defer cancel()
							s.Run(ctx)
							time.Sleep(2 * rtt)
							require.NoError(t, n.Close())
							wg.Wait()
							v.check(t, s, during)
						})
					})
				}
			}
		}
	}
}

// Every second datagram is the hello of a second ago, with the next sequence number.
func TestStrangersRepeat(t *testing.T) {
	template, err := RecordHello(PSKConfig("key"))
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		socket := n.Listen(serverAddr)
		s := &Strangers{Network: n, Server: serverAddr, Hello: template, Rate: 100, Repeat: true}
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		type sight struct {
			at     time.Time
			hello  record.ClientHello
			number uint64
		}
		seen := map[netip.AddrPort][]sight{}
		var wg sync.WaitGroup
		wg.Go(func() {
			buf := make([]byte, maxDatagram)
			for {
				size, addr, err := socket.ReadFrom(buf)
				if err != nil {
					return
				}
				r := Records(bytes.Clone(buf[:size]))[0]
				hello, ok := record.ParseClientHello(r)
				assert.True(t, ok)
				seen[AddrPort(addr)] = append(seen[AddrPort(addr)], sight{time.Now(), hello, r.Sequence})
			}
		})
		s.Run(ctx)
		require.NoError(t, n.Close())
		wg.Wait()
		assert.InDelta(t, 200, len(seen), 2)
		twice := 0
		for _, sights := range seen {
			require.LessOrEqual(t, len(sights), 2)
			if len(sights) == 2 {
				twice++
				assert.InDelta(t, time.Second, sights[1].at.Sub(sights[0].at), float64(20*time.Millisecond))
				assert.Equal(t, sights[0].hello.Random, sights[1].hello.Random)
				assert.EqualValues(t, 1, sights[1].number)
			}
		}
		assert.InDelta(t, 150, twice, 2)
	})
}

// check checks what a server has got of strangers.
func (v *verifier) check(t *testing.T, s *Strangers, during time.Duration) {
	t.Helper()
	assert.InDelta(t, float64(s.Rate)*during.Seconds(), s.Sent(), 2)
	assert.Len(t, v.first, s.Sent(), "each one has another address")
	assert.Zero(t, v.repeated)
	randoms, networks := map[record.Random]bool{}, map[netip.Prefix]bool{}
	for from, hello := range v.first {
		randoms[hello.Random] = true
		network, _ := from.Addr().Prefix(24)
		networks[network] = true
		assert.Equal(t, s.NameSessions, len(hello.SessionID) == sessionIDSize)
		assert.True(t, s.owns(from))
	}
	assert.Len(t, randoms, s.Sent())
	if s.OneNetwork {
		assert.Len(t, networks, 1)
	} else {
		assert.Greater(t, len(networks), s.Sent()*9/10)
	}
	if !s.ReturnCookies {
		assert.Empty(t, v.second)
		return
	}
	// Cookies that arrive after Run has returned are not answered.
	assert.GreaterOrEqual(t, s.Returned(), int(float64(s.Rate)*(during-rtt-10*time.Millisecond).Seconds()))
	assert.Len(t, v.second, s.Returned())
	for from, hello := range v.second {
		assert.True(t, record.SameParameters(v.first[from], hello))
	}
}

func TestUnclaimedDatagrams(t *testing.T) {
	n, server, client := newPair(t)
	var got []Datagram
	n.SetUnclaimed(func(d Datagram) { got = append(got, d) })
	nobody := NthAddr(10, 1, 1)
	for _, to := range []netip.AddrPort{nobody, client.AddrPort()} {
		_, err := server.WriteTo([]byte("x"), udpAddr(to))
		require.NoError(t, err)
	}
	assert.Equal(t, []Datagram{{server.AddrPort(), nobody, []byte("x")}}, got)
	n.SetUnclaimed(nil)
	_, err := server.WriteTo([]byte("x"), udpAddr(nobody))
	require.NoError(t, err)
	assert.Len(t, got, 1)
	assert.Equal(t, 2, n.Counts(ToClient).Unreachable)
}

// BenchmarkStrangers measures the time for each hello that a server reads.
func BenchmarkStrangers(b *testing.B) {
	template, err := RecordHello(PSKConfig("key"))
	if err != nil {
		b.Fatal(err)
	}
	n := NewNetwork(1)
	socket := n.Listen(serverAddr)
	s := &Strangers{Network: n, Server: serverAddr, Hello: template, Rate: 1}
	first, buf := s.firstHello(), make([]byte, maxDatagram)
	for number := uint64(0); b.Loop(); number++ {
		from := s.address(number)
		s.fill(first, from)
		n.Inject(from, serverAddr, first)
		if _, _, err := socket.ReadFrom(buf); err != nil {
			b.Fatal(err)
		}
	}
}
