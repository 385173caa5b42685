// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// TestConnPassesNettest runs x/net's tests of a net.Conn between a Conn and a client of
// pion's. They expect that nothing is lost, so the queue has no bound.
func TestConnPassesNettest(t *testing.T) {
	t.Parallel()
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		network := dtlstest.NewNetwork(1)
		l := listenOn(t, network.Listen(netip.AddrPort{}), psk(), dtlsserver.Config{QueueDatagrams: 1 << 20, QueueBytes: 1 << 30})
		client, err := dtlstest.Handshake(network.Dial(netip.AddrPort{}, dtlstest.AddrPort(l.Addr())), psk())
		if err != nil {
			return nil, nil, nil, err
		}
		c, err := l.Accept()
		if err != nil {
			return nil, nil, nil, err
		}
		return c, client.Conn, func() {
			_ = client.Close()
			_ = c.Close()
			_ = l.Close()
		}, nil
	})
}

func TestConnKeepsMessageBoundaries(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		write(t, client, "0123456789", "abcde", "", "f")
		synctest.Wait()
		// A buffer that is too short: the head, an error, and never another datagram's
		// bytes.
		buf := make([]byte, 100)
		n, err := s.Read(buf[:4])
		assert.Equal(t, "0123", string(buf[:n]))
		assert.ErrorIs(t, err, io.ErrShortBuffer)
		assert.Equal(t, "abcde", read(t, s))
		assert.Equal(t, "", read(t, s), "an empty datagram is one")
		n, err = s.Read(nil)
		assert.Zero(t, n)
		assert.ErrorIs(t, err, io.ErrShortBuffer)

		for _, text := range []string{"one", "two"} {
			n, err := s.Write([]byte(text))
			require.NoError(t, err)
			require.Equal(t, len(text), n)
		}
		dtlstest.Expect(t, client, "one")
		dtlstest.Expect(t, client, "two")
	})
}

// TestWriteIsBoundedByMTU writes what just fits into a datagram, and one byte more.
func TestWriteIsBoundedByMTU(t *testing.T) {
	t.Parallel()
	config := psk()
	config.MTU = 1200
	inBubbleWith(t, config, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		n, err := s.Write(make([]byte, 1200))
		assert.Zero(t, n)
		assert.ErrorContains(t, err, "at most 1163 fit")
		_, err = s.Write(make([]byte, 1164))
		assert.ErrorContains(t, err, "at most 1163 fit")
		before := l.network.Counts(dtlstest.ToClient)
		n, err = s.Write(make([]byte, 1163))
		assert.NoError(t, err)
		assert.Equal(t, 1163, n)
		after := l.network.Counts(dtlstest.ToClient)
		assert.Equal(t, 1200, after.SentBytes-before.SentBytes)
		dtlstest.Expect(t, client, string(make([]byte, 1163)))
		assert.Equal(t, dsm.StateEstablished, s.State())
	})
}

// TestWriteIsBoundedByRecord has an MTU that is larger than a record (RFC 5246 section
// 6.2.1). A Write that does not fit ends no session.
func TestWriteIsBoundedByRecord(t *testing.T) {
	t.Parallel()
	config := psk()
	config.MTU = 1 << 15
	inBubbleWith(t, config, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, s := l.connect(t)
		for _, size := range []int{17000, 16385} {
			_, err := s.Write(make([]byte, size))
			assert.ErrorContains(t, err, "at most 16384 fit")
		}
		for _, size := range []int{16384, 1} {
			_, err := s.Write(make([]byte, size))
			assert.NoError(t, err)
		}
		assert.Zero(t, s.EndReason())
	})
}

// TestExhaustedSessionEnds: a session ends before its sequence numbers wrap (RFC 6347
// section 4.1).
func TestExhaustedSessionEnds(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		s.SetNextSequence(record.LastSequence)
		_, err := s.Write([]byte("the last"))
		require.NoError(t, err)
		_, err = s.Write([]byte("one more"))
		require.ErrorIs(t, err, dtlsserver.ErrExhausted)
		require.ErrorIs(t, err, net.ErrClosed)
		assert.Equal(t, dsm.StateNone, s.State())
		assert.Equal(t, dtlsserver.Exhausted, s.EndReason())
		assert.EqualValues(t, 1, l.Stats().Exhausted)
		assert.Zero(t, l.Stats().Established)
		_, err = s.Write([]byte("again"))
		assert.ErrorIs(t, err, dtlsserver.ErrExhausted)
		_, err = s.Read(nil)
		assert.ErrorIs(t, err, dtlsserver.ErrExhausted)
		dtlstest.Expect(t, client, "the last")
		dtlstest.RequireEOF(t, client) // close_notify has a number of its own
	})
}

func TestConnMethods(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		assert.Equal(t, dtlstest.AddrPort(client.Addr()), s.Peer())
		assert.Equal(t, client.Addr().String(), s.RemoteAddr().String())
		assert.Equal(t, l.Addr(), s.LocalAddr())
		assert.Same(t, l.Listener, s.Listener())
		assert.Equal(t, dsm.StateEstablished, s.State())
		assert.Zero(t, s.EndReason())

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		assert.NoError(t, s.HandshakeContext(t.Context()))
		assert.NoError(t, s.HandshakeContext(ended), "the handshake is done")
		require.NoError(t, s.Close())
		assert.NoError(t, s.HandshakeContext(t.Context()))
		assert.Equal(t, dsm.StateNone, s.State())
	})
}

func TestSecondCloseGivesErrClosed(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, s := l.connect(t)
		require.NoError(t, s.Close())
		assert.ErrorIs(t, s.Close(), net.ErrClosed)

		// The first Close of a session that the peer has ended gives no error.
		client, s := l.connect(t)
		require.NoError(t, client.Close())
		synctest.Wait()
		require.Equal(t, dtlsserver.ClosedByPeer, s.EndReason())
		assert.NoError(t, s.Close())
		assert.ErrorIs(t, s.Close(), net.ErrClosed)
		assert.Equal(t, dtlsserver.ClosedByPeer, s.EndReason(), "the first reason stands")
		assert.EqualValues(t, 1, l.Stats().ClosedByUs)
		assert.EqualValues(t, 1, l.Stats().ClosedByPeer)
	})
}

// TestCloseDropsWhatWasNotRead also ends a Read that waits.
func TestCloseDropsWhatWasNotRead(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		write(t, client, "x", "y")
		synctest.Wait()
		require.Equal(t, 2, s.Unread())
		require.NoError(t, s.Close())
		assert.Zero(t, s.Unread())
		_, err := s.Read(make([]byte, 10))
		assert.ErrorIs(t, err, net.ErrClosed)

		_, s = l.connect(t)
		errs := make(chan error)
		for range 3 {
			go func() { _, err := s.Read(nil); errs <- err }()
		}
		synctest.Wait()
		require.Equal(t, 3, s.Readers())
		require.NoError(t, s.Close())
		for range 3 {
			assert.ErrorIs(t, <-errs, net.ErrClosed)
		}
	})
}

func TestValueIsKeptForTheConn(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, a := l.connect(t)
		_, b := l.connect(t)
		assert.Nil(t, a.Value())
		a.SetValue(nil)
		assert.Nil(t, a.Value())
		assert.False(t, a.HasExtras(), "nothing costs nothing")
		a.SetValue("of a")
		assert.Equal(t, "of a", a.Value())
		assert.Nil(t, b.Value())
		done := a.Done()
		a.SetValue(7)
		assert.Equal(t, done, a.Done(), "Done is not touched")
		require.NoError(t, a.Close())
		<-done
		assert.Equal(t, 7, a.Value(), "a hook can want it")
		a.SetValue(nil)
		assert.Nil(t, a.Value())
	})
}

// TestValueIsNotInheritedByTheNextSession replaces a session: the application state of
// the old one is not the new one's.
func TestValueIsNotInheritedByTheNextSession(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, old := l.connect(t)
		old.SetValue("old")
		client.Kill()
		l.dial(t, old.Peer())
		fresh, err := l.AcceptConn(t.Context())
		require.NoError(t, err)
		require.Equal(t, dtlsserver.Replaced, old.EndReason())
		assert.Nil(t, fresh.Value())
		assert.Equal(t, "old", old.Value())
	})
}

// TestDoneIsClosedWhenTheSessionEnds waits in several goroutines, before and after the
// end.
func TestDoneIsClosedWhenTheSessionEnds(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		done := s.Done()
		assert.Equal(t, done, s.Done(), "each call returns the same channel")
		told := make(chan dtlsserver.Reason)
		for range 3 {
			go func() { <-s.Done(); told <- s.EndReason() }()
		}
		synctest.Wait()
		write(t, client, "x")
		synctest.Wait()
		select {
		case <-done:
			require.FailNow(t, "the session is established")
		case <-told:
			require.FailNow(t, "the session is established")
		default:
		}
		require.NoError(t, client.Close())
		for range 3 {
			assert.Equal(t, dtlsserver.ClosedByPeer, <-told)
		}
		<-done
		<-s.Done()
		require.NoError(t, s.Close())
		<-s.Done()
	})
}

// TestDoneOfEndedConnIsClosed calls Done for the first time after the end.
func TestDoneOfEndedConnIsClosed(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, s := l.connect(t)
		require.NoError(t, s.Close())
		<-s.Done()
		<-s.Done()
		assert.False(t, s.HasExtras(), "nothing is allocated for it")
		s.SetValue(1)
		<-s.Done()
	})
}

// skipIfChecksAllocate skips a test that counts allocations in a build whose checks
// allocate by themselves.
func skipIfChecksAllocate(t *testing.T) {
	t.Helper()
	if dtlstest.RaceEnabled || lockorder.Checked {
		t.Skip("the race detector and the check of the lock order allocate")
	}
}

// TestDoneCostsNothingUntilCalled also counts the allocations of what can be asked of
// every session at any time.
func TestDoneCostsNothingUntilCalled(t *testing.T) {
	skipIfChecksAllocate(t)
	network := dtlstest.NewNetwork(1)
	l := memory{listenOn(t, network.Listen(netip.AddrPort{}), psk(), dtlsserver.Config{}), network}
	client, s := l.connect(t)
	dtlstest.Eventually(t, func() bool { return l.Stats().HalfOpen == 0 }, "the handshake is over")
	write(t, client, "x")
	require.Equal(t, "x", read(t, s))
	_, err := s.Write([]byte("y"))
	require.NoError(t, err)
	ask := func() {
		_ = s.EndReason()
		_ = s.State()
		_ = s.Value()
		_ = s.HandshakeContext(context.Background())
		s.SetValue(nil)
	}
	ask()
	assert.False(t, s.HasExtras())
	assert.Zero(t, testing.AllocsPerRun(100, ask))
	assert.False(t, s.HasExtras())
	_ = s.Done()
	assert.True(t, s.HasExtras())
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = s.Done() }))
}

// TestNothingIsAllocatedForADatagram counts the allocations between the socket and the
// user, in both directions. (Pion's CCM and CBC allocate.)
func TestNothingIsAllocatedForADatagram(t *testing.T) {
	skipIfChecksAllocate(t)
	l := listen(t, psk(), dtlsserver.Config{})
	client := dial(t, l, nil)
	s, err := l.AcceptConn(t.Context())
	require.NoError(t, err)
	records, err := dtlstest.ClientRecords(client.Conn, 100)
	require.NoError(t, err)
	now := time.Now()
	datagram, buf := make([]byte, 0, 2048), make([]byte, 2048)
	for _, size := range []int{0, 100, 1000, 1400, 1900} { // buffers of five sizes
		text := make([]byte, size)
		assert.Zero(t, testing.AllocsPerRun(1000, func() {
			sealed, err := records.Seal(datagram, record.TypeApplicationData, text)
			if err != nil {
				t.Fatal(err)
			}
			s.ReceiveFromPeer(sealed, now)
			n, err := s.Read(buf)
			if err != nil || n != len(text) {
				t.Fatal(n, err)
			}
			if _, err := s.Write(buf[:n]); err != nil {
				t.Fatal(err)
			}
		}))
	}
}

// TestErrorsAreOpErrors: like those of package net, errors name the operation and the
// addresses. io.EOF is compared, and stays as it is.
func TestErrorsAreOpErrors(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, s := l.connect(t)
		require.NoError(t, s.SetDeadline(time.Now()))
		check := func(op string, err error) {
			t.Helper()
			var got *net.OpError
			if assert.ErrorAs(t, err, &got) {
				assert.Equal(t, op, got.Op)
				assert.Equal(t, s.LocalAddr(), got.Source)
				assert.Equal(t, s.RemoteAddr(), got.Addr)
			}
		}
		_, err := s.Read(nil)
		check("read", err)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var timeout net.Error
		if assert.ErrorAs(t, err, &timeout) {
			assert.True(t, timeout.Timeout())
		}
		_, err = s.Write(nil)
		check("write", err)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, s.Close())
		_, err = s.Read(nil)
		check("read", err)
		_, err = s.Write(nil)
		check("write", err)
		check("close", s.Close())
		check("set", s.SetDeadline(time.Time{}))
		check("set", s.SetReadDeadline(time.Time{}))
		check("set", s.SetWriteDeadline(time.Time{}))
	})
}
