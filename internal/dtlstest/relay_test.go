// SPDX-License-Identifier: MIT

package dtlstest

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRelay(t *testing.T) {
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer server.Close()
	require.NoError(t, server.SetDeadline(time.Now().Add(Patience)))
	relay := StartRelay(t, server.LocalAddr())
	client, err := net.DialUDP("udp", nil, relay.Addr().(*net.UDPAddr))
	require.NoError(t, err)
	defer client.Close()

	seen := make(chan string, 10)
	pass := func(datagram []byte) bool {
		seen <- string(datagram)
		return string(datagram) != "lost"
	}
	relay.SetIn(pass)
	relay.SetOut(pass)
	for _, text := range []string{"lost", "question"} {
		_, err = client.Write([]byte(text))
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
