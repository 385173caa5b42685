// SPDX-License-Identifier: MIT

package dtlstest

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// relayed returns a server's socket, a relay to it and a client's socket to the relay.
func relayed(t *testing.T, delay time.Duration) (server *net.UDPConn, relay *Relay, client *net.UDPConn) {
	t.Helper()
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	require.NoError(t, server.SetDeadline(time.Now().Add(Patience)))
	relay = StartSlowRelay(t, server.LocalAddr(), delay)
	client, err = net.DialUDP("udp", nil, relay.Addr().(*net.UDPAddr))
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return server, relay, client
}

func TestRelay(t *testing.T) {
	CheckLeaks(t)
	server, relay, client := relayed(t, 0)

	seen := make(chan string, 10)
	pass := func(datagram []byte) bool {
		seen <- string(datagram)
		return string(datagram) != "lost"
	}
	relay.SetIn(pass)
	relay.SetOut(pass)
	for _, text := range []string{"lost", "question"} {
		_, err := client.Write([]byte(text))
		require.NoError(t, err)
	}
	buf := make([]byte, 100)
	n, from, err := server.ReadFromUDP(buf)
	require.NoError(t, err)
	assert.Equal(t, "question", string(buf[:n]))
	for _, text := range []string{"lost", "answer"} {
		_, err = server.WriteToUDP([]byte(text), from)
		require.NoError(t, err)
	}
	Expect(t, client, "answer")
	for _, text := range []string{"lost", "question", "lost", "answer"} {
		assert.Equal(t, text, Receive(t, seen))
	}
	assert.Empty(t, seen)
}

func TestSlowRelay(t *testing.T) {
	CheckLeaks(t)
	const delay, count = 20 * time.Millisecond, 100
	server, relay, client := relayed(t, delay)
	var received atomic.Int32
	relay.SetIn(func([]byte) bool { received.Add(1); return true })
	begin := time.Now()
	for n := range count {
		_, err := client.Write([]byte{byte(n)})
		require.NoError(t, err)
	}
	buf := make([]byte, 100)
	for n := range count {
		length, from, err := server.ReadFromUDP(buf)
		require.NoError(t, err)
		require.Equal(t, []byte{byte(n)}, buf[:length], "the order is kept")
		_, err = server.WriteToUDP(buf[:length], from)
		require.NoError(t, err)
	}
	assert.GreaterOrEqual(t, time.Since(begin), delay)
	for n := range count {
		Expect(t, client, string([]byte{byte(n)}))
	}
	assert.GreaterOrEqual(t, time.Since(begin), 2*delay)
	assert.EqualValues(t, count, received.Load())
}

// A relay that closes does not wait for what is under way, and holds a bounded number of
// datagrams.
func TestSlowRelayLosesWhatIsTooMuch(t *testing.T) {
	CheckLeaks(t)
	line := newDelayLine(time.Hour, func([]byte) { t.Error("it was sent") })
	closed, done := make(chan struct{}), make(chan struct{}, 1)
	go func() {
		line.run(closed)
		done <- struct{}{}
	}()
	line.pass(nil)
	Eventually(t, func() bool { return len(line.underWay) == 0 }, "run waits for the first one")
	for range 2 * maxUnderWay {
		line.pass([]byte("text"))
	}
	assert.Len(t, line.underWay, maxUnderWay)
	close(closed)
	Receive(t, done)
}

func TestRelayForges(t *testing.T) {
	CheckLeaks(t)
	server, relay, client := relayed(t, time.Millisecond)
	relay.SetIn(func(datagram []byte) bool { return string(datagram) != "forged" })
	_, err := client.Write([]byte("genuine"))
	require.NoError(t, err)
	buf := make([]byte, 100)
	n, from, err := server.ReadFromUDP(buf)
	require.NoError(t, err)
	assert.Equal(t, "genuine", string(buf[:n]))
	relay.Forge([]byte("forged"))
	n, forger, err := server.ReadFromUDP(buf)
	require.NoError(t, err)
	assert.Equal(t, "forged", string(buf[:n]))
	assert.Equal(t, from, forger)
	_, err = server.WriteToUDP([]byte("answer"), forger)
	require.NoError(t, err)
	Expect(t, client, "answer")
}

func TestRelayRebinds(t *testing.T) {
	CheckLeaks(t)
	server, relay, client := relayed(t, 0)
	buf := make([]byte, 100)
	var before *net.UDPAddr
	for _, text := range []string{"before", "after"} {
		_, err := client.Write([]byte(text))
		require.NoError(t, err)
		n, from, err := server.ReadFromUDP(buf)
		require.NoError(t, err)
		assert.Equal(t, text, string(buf[:n]))
		assert.Equal(t, relay.Outside(), from.AddrPort())
		if before == nil {
			before = from
			relay.Rebind(t)
			continue
		}
		assert.NotEqual(t, before, from)
		_, _ = server.WriteToUDP([]byte("lost"), before)
		_, err = server.WriteToUDP([]byte("answer"), from)
		require.NoError(t, err)
		Expect(t, client, "answer")
	}
	other, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close() })
	require.NoError(t, other.SetDeadline(time.Now().Add(Patience)))
	relay.Redirect(t, other.LocalAddr())
	_, err = client.Write([]byte("to another server"))
	require.NoError(t, err)
	n, from, err := other.ReadFromUDP(buf)
	require.NoError(t, err)
	assert.Equal(t, "to another server", string(buf[:n]))
	assert.Equal(t, relay.Outside(), from.AddrPort())
}
