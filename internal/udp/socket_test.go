// SPDX-License-Identifier: MIT

package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWriteAndReadMoreThanOneBatch(t *testing.T) {
	forEachIO(t, func(t *testing.T, open openFunc, _ bool) {
		from, to := open(t, "udp4", "127.0.0.1:0"), open(t, "udp4", "127.0.0.1:0")
		const count = 2*maxBatch + 7
		var ds []Datagram
		for i := range count {
			ds = append(ds, Datagram{Buf: fmt.Appendf(nil, "%d", i), Peer: addrPort(to.LocalAddr())})
		}
		n, err := from.Write(ds)
		require.NoError(t, err)
		assert.Equal(t, count, n)
		all, _ := readAll(t, to, count, 100)
		for i, d := range all {
			assert.Equal(t, strconv.Itoa(i), string(d.Buf))
			assert.Equal(t, addrPort(from.LocalAddr()), d.Peer)
		}
	})
}

func TestWriteAndReadNoDatagrams(t *testing.T) {
	forEachIO(t, func(t *testing.T, open openFunc, _ bool) {
		s := open(t, "udp4", "127.0.0.1:0")
		n, err := s.Write(nil)
		assert.NoError(t, err)
		assert.Zero(t, n)
		n, err = s.Read(nil)
		assert.NoError(t, err)
		assert.Zero(t, n)
	})
}

func TestReadReportsTruncation(t *testing.T) {
	const room = 100
	forEachIO(t, func(t *testing.T, open openFunc, single bool) {
		s := open(t, "udp4", "127.0.0.1:0")
		client := dial(t, s, "127.0.0.1")
		for _, size := range []int{room - 1, room, room + 1, 1, 0, 2 * room} {
			_, err := client.Write(make([]byte, size))
			require.NoError(t, err)
			ds := newDatagrams(1, room)
			ds[0].Truncated = size <= room // Read must clear it
			n, err := s.Read(ds)
			require.NoError(t, err)
			assert.Equal(t, 1, n)
			assert.Len(t, ds[0].Buf, min(size, room))
			assert.Equal(t, size > room || size == room && single, ds[0].Truncated, "%d bytes", size)
		}

		_, err := client.Write([]byte("no room"))
		require.NoError(t, err)
		ds := []Datagram{{}}
		_, err = s.Read(ds)
		require.NoError(t, err)
		assert.True(t, ds[0].Truncated)
		_, err = client.Write([]byte("next"))
		require.NoError(t, err)
		assert.Equal(t, "next", string(readOne(t, s).Buf))
	})
}

func TestWriteSkipsDatagramsThatCannotBeSent(t *testing.T) {
	forEachIO(t, func(t *testing.T, open openFunc, _ bool) {
		from, to := open(t, "udp4", "127.0.0.1:0"), listenOne(t, "udp4", "127.0.0.1:0")
		peer := addrPort(to.LocalAddr())
		valid := func(text string) Datagram { return Datagram{Buf: []byte(text), Peer: peer} }
		tooLong := Datagram{Buf: make([]byte, 65508), Peer: peer}
		noPeer := Datagram{Buf: []byte("x")}
		ipv6 := Datagram{Buf: []byte("x"), Peer: netip.MustParseAddrPort("[::1]:9")}

		n, err := from.Write([]Datagram{tooLong, valid("1"), noPeer, ipv6, valid("2"), valid("3"), tooLong})
		assert.Equal(t, 3, n)
		if runtime.GOOS != "windows" {
			assert.ErrorIs(t, err, syscall.EMSGSIZE, "the error of the first datagram skipped")
		}
		assert.Error(t, err)
		all, _ := readAll(t, to, 3, 100)
		for i, d := range all {
			assert.Equal(t, strconv.Itoa(i+1), string(d.Buf))
		}

		for _, invalid := range []Datagram{tooLong, noPeer, ipv6} {
			n, err = from.Write([]Datagram{invalid})
			assert.Zero(t, n)
			assert.Error(t, err)
		}
		n, err = from.Write([]Datagram{valid("alone")})
		assert.Equal(t, 1, n)
		assert.NoError(t, err)
		assert.Equal(t, "alone", string(readOne(t, to).Buf))

		n, err = from.Write([]Datagram{noPeer, ipv6, tooLong})
		assert.Zero(t, n)
		assert.Error(t, err)
		if runtime.GOOS != "windows" {
			assert.NotErrorIs(t, err, syscall.EMSGSIZE)
		}

		// Every one of several batches has datagrams to skip.
		var ds []Datagram
		for i := range 3 * maxBatch {
			if i%10 == 9 {
				ds = append(ds, tooLong)
			} else {
				ds = append(ds, valid("x"))
			}
		}
		n, err = from.Write(ds)
		assert.Error(t, err)
		assert.Equal(t, 3*maxBatch-3*maxBatch/10, n)
		readAll(t, to, n, 100)
	})
}

func TestCloseEndsReadAndFreesPort(t *testing.T) {
	checkGoroutines(t)
	forEachIO(t, func(t *testing.T, open openFunc, _ bool) {
		for range 20 { // Close comes before, during and after the call of Read
			s := open(t, "udp4", "127.0.0.1:0")
			result := make(chan error, 1)
			go func() {
				_, err := s.Read(newDatagrams(4, 100))
				result <- err
			}()
			require.NoError(t, s.Close())
			assert.ErrorIs(t, <-result, net.ErrClosed)

			_, err := s.Read(newDatagrams(1, 100))
			assert.ErrorIs(t, err, net.ErrClosed)
			self := addrPort(s.LocalAddr())
			n, err := s.Write([]Datagram{{Buf: []byte("x"), Peer: self}, {Buf: []byte("x"), Peer: self}})
			assert.ErrorIs(t, err, net.ErrClosed)
			assert.Zero(t, n)
			assert.ErrorIs(t, s.Close(), net.ErrClosed)

			second, err := net.ListenPacket("udp4", self.String())
			require.NoError(t, err, "the port is free")
			require.NoError(t, second.Close())
		}
	})
}

func TestReadReturnsDeadlineExceeded(t *testing.T) {
	s := listenOne(t, "udp4", "127.0.0.1:0")
	require.NoError(t, s.pc.SetReadDeadline(time.Now()))
	_, err := s.Read(newDatagrams(1, 100))
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestWriteReturnsDeadlineExceeded(t *testing.T) {
	forEachIO(t, func(t *testing.T, open openFunc, _ bool) {
		s := open(t, "udp4", "127.0.0.1:0")
		require.NoError(t, s.pc.SetWriteDeadline(time.Now()))
		d := Datagram{Buf: []byte("x"), Peer: addrPort(s.LocalAddr())}
		n, err := s.Write([]Datagram{d, d, d})
		assert.Zero(t, n)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

// TestConcurrentWritesKeepDatagramsApart also gives the race detector concurrent
// calls of Write.
func TestConcurrentWritesKeepDatagramsApart(t *testing.T) {
	checkGoroutines(t)
	from, to := listenOne(t, "udp4", "127.0.0.1:0"), listenOne(t, "udp4", "127.0.0.1:0")
	const writers, each = 4, 20
	errs := make(chan error, writers)
	for w := range writers {
		go func() {
			ds := make([]Datagram, each)
			for i := range ds {
				ds[i] = Datagram{Buf: fmt.Appendf(nil, "%d/%d", w, i), Peer: addrPort(to.LocalAddr())}
			}
			_, err := from.Write(ds[1:])
			_, one := from.Write(ds[:1])
			errs <- errors.Join(err, one)
		}()
	}
	for range writers {
		require.NoError(t, <-errs)
	}
	got := map[string]bool{}
	all, _ := readAll(t, to, writers*each, 100)
	for _, d := range all {
		got[string(d.Buf)] = true
	}
	assert.Len(t, got, writers*each)
}

func TestReadAndWriteAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	needIPv6(t)
	const count = 32
	for _, tc := range []struct {
		name    string
		open    openFunc
		network string
		address string
		client  string
	}{
		{"batch/udp4", listenOne, "udp4", "0.0.0.0:0", "127.0.0.1"},
		{"batch/udp6", listenOne, "udp6", "[::]:0", "::1"},
		{"batch/mapped", listenOne, "udp", "[::]:0", "127.0.0.1"},
		{"batch/link-local", listenOne, "udp6", "[::]:0", linkLocalHost()},
		{"batch/bound", listenOne, "udp4", "127.0.0.1:0", "127.0.0.1"},
		{"single/udp4", listenSingle, "udp4", "127.0.0.1:0", "127.0.0.1"},
		{"single/udp6", listenSingle, "udp6", "[::1]:0", "::1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if strings.HasPrefix(tc.name, "batch") && !isLinux {
				t.Skip("only Linux has batches")
			}
			if tc.client == "" {
				t.Skip("no link-local IPv6 address on this machine")
			}
			s := tc.open(t, tc.network, tc.address)
			client := dial(t, s, tc.client)
			_, err := client.Write([]byte("hello"))
			require.NoError(t, err)
			d := readOne(t, s)
			out := make([]Datagram, count)
			for i := range out {
				out[i] = Datagram{Buf: make([]byte, 100), Peer: d.Peer, Source: d.Source}
			}
			for _, ds := range [][]Datagram{out, out[:1]} {
				assert.Zero(t, testing.AllocsPerRun(100, func() {
					if n, err := s.Write(ds); n != len(ds) || err != nil {
						t.Errorf("%d written, %v", n, err)
					}
				}), "Write")
			}

			// The socket sends to itself, so that it has datagrams to read.
			self := netip.AddrPortFrom(netip.MustParseAddr(tc.client), portOf(s))
			for i := range out {
				out[i].Peer, out[i].Source = self, Source{}
			}
			in := newDatagrams(count, 200)
			allocs := testing.AllocsPerRun(100, func() {
				if _, err := s.Write(out); err != nil {
					t.Error(err)
				}
				for n := 0; n < count; {
					m, err := s.Read(in[n:])
					if err != nil {
						t.Error(err)
						return
					}
					n += m
				}
			})
			assert.Zero(t, allocs, "Read")
		})
	}
}
