// SPDX-License-Identifier: MIT

package dtlstest

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func udpAddr(a netip.AddrPort) *net.UDPAddr { return net.UDPAddrFromAddrPort(a) }

func TestReadDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, server, client := newPair(t)
		buf := make([]byte, 10)
		begin := time.Now()
		require.NoError(t, server.SetReadDeadline(begin.Add(time.Second)))
		_, _, err := server.ReadFrom(buf)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var netErr net.Error
		require.ErrorAs(t, err, &netErr)
		assert.True(t, netErr.Timeout())
		assert.Equal(t, time.Second, time.Since(begin))

		Send(t, client, []byte("x"))
		_, err = server.Read(buf)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded, "a deadline that has passed comes first")
		require.NoError(t, server.SetReadDeadline(time.Time{}))
		n, err := server.Read(buf)
		assert.NoError(t, err)
		assert.Equal(t, 1, n)

		// A new deadline reaches a Read that waits.
		errs := make(chan error, 1)
		go func() { _, err := server.Read(buf); errs <- err }()
		synctest.Wait()
		require.NoError(t, server.SetDeadline(time.Now()))
		assert.ErrorIs(t, <-errs, os.ErrDeadlineExceeded)

		// A deadline that is put off does not end one.
		require.NoError(t, server.SetDeadline(time.Now().Add(time.Second)))
		go func() { _, err := server.Read(buf); errs <- err }()
		synctest.Wait()
		require.NoError(t, server.SetDeadline(time.Now().Add(time.Hour)))
		time.Sleep(time.Minute)
		Send(t, client, []byte("x"))
		assert.NoError(t, <-errs)
	})
}

func TestWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, server, client := newPair(t)
		server.SetQueue(1, WaitWhenFull)
		Send(t, client, []byte("x"))
		require.NoError(t, client.SetWriteDeadline(time.Now().Add(time.Second)))
		begin := time.Now()
		_, err := client.Write([]byte("does not fit"))
		assert.NoError(t, err, "a network tells nobody that it drops")
		assert.Equal(t, time.Second, time.Since(begin))
		_, err = client.Write([]byte("too late"))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, client.SetWriteDeadline(time.Time{}))
		assert.Equal(t, 1, n.Counts(ToServer).Overflowed)
	})
}

func TestCloseOfSocket(t *testing.T) {
	_, server, client := newPair(t)
	errs := make(chan error, 1)
	go func() { _, err := client.Read(make([]byte, 10)); errs <- err }()
	require.NoError(t, client.Close())
	assert.ErrorIs(t, <-errs, net.ErrClosed)
	assert.ErrorIs(t, client.Close(), net.ErrClosed)
	_, err := client.Write([]byte("x"))
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorIs(t, client.SetDeadline(time.Now()), net.ErrClosed)
	_, err = server.WriteTo([]byte("x"), client.LocalAddr())
	assert.NoError(t, err)
	require.NoError(t, server.Close())
	_, _, err = server.ReadFrom(make([]byte, 10))
	assert.ErrorIs(t, err, net.ErrClosed)
}

func TestFullQueueDropsTheNewest(t *testing.T) {
	n, server, client := newPair(t)
	server.SetQueue(3, DropWhenFull)
	sendNumbers(t, client, 10)
	assert.Equal(t, upTo(3), readNumbers(t, server))
	assert.Equal(t, 7, n.Counts(ToServer).Overflowed)
	sendNumbers(t, client, 2)
	assert.Equal(t, upTo(2), readNumbers(t, server))
	server.SetQueue(0, DropWhenFull)
	sendNumbers(t, client, 1000)
	assert.Len(t, readNumbers(t, server), 1000)
}

func TestFullQueueMakesSendersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, server, client := newPair(t)
		server.SetQueue(3, WaitWhenFull)
		done := make(chan struct{})
		go func() { defer close(done); sendNumbers(t, client, 100) }()
		numbers := []int{}
		for len(numbers) < 100 {
			synctest.Wait()
			require.LessOrEqual(t, server.Queued(), 3)
			numbers = append(numbers, readNumbers(t, server)...)
		}
		<-done
		assert.Equal(t, upTo(100), numbers)
		assert.Zero(t, n.Counts(ToServer).Overflowed)

		// What was delayed is neither dropped nor held up.
		n.SetRoundTrip(time.Second)
		sendNumbers(t, client, 10)
		time.Sleep(time.Second)
		assert.Equal(t, upTo(10), readNumbers(t, server))
	})
}

func TestLongDatagramIsCut(t *testing.T) {
	_, server, client := newPair(t)
	Send(t, client, []byte("abcdef"))
	Send(t, client, []byte("x"))
	buf := make([]byte, 3)
	n, err := server.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "abc", string(buf[:n]))
	n, err = server.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "x", string(buf[:n]), "the rest is lost")
}

func TestSocketThatIsNotConnected(t *testing.T) {
	_, server, client := newPair(t)
	assert.Nil(t, server.RemoteAddr())
	_, err := server.Write([]byte("x"))
	assert.Error(t, err)
	_, err = server.WriteTo([]byte("x"), Addr("nowhere"))
	assert.Error(t, err)
	assert.Equal(t, server.LocalAddr(), client.RemoteAddr())
}

func TestListenerGivesWhatWasPut(t *testing.T) {
	near, far := Pipe(Addr("client"), Addr("server"))
	defer near.Close()
	l := NewListener(Addr("server"))
	l.Put(far)
	conns := ServeEcho[net.Conn](t, l)
	Echo(t, near, "hello")
	c := Receive(t, conns)
	assert.Equal(t, "client", c.RemoteAddr().String())
	assert.Equal(t, "server", c.LocalAddr().String())
	assert.Equal(t, Addr("server"), l.Addr())
	require.NoError(t, far.Close())
	require.NoError(t, l.Close())
	_, err := l.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
}
