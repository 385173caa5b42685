// SPDX-License-Identifier: MIT

package udp

import (
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Senders wait in a pool. There they must not keep the memory of datagrams alive, and the next
// datagram must not leave with the Source of an earlier one.
func TestSenderKeepsNothingOfDatagrams(t *testing.T) {
	socket := listenOne(t, "udp4", "0.0.0.0:0")
	d := Datagram{
		Buf: []byte("x"), Peer: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), portOf(socket)),
		Source: socket.SourceOf(netip.MustParseAddr("127.0.0.2")),
	}
	s := newSender()
	n, err := s.send(socket.io.(*batchIO).raw, []Datagram{d, {Buf: []byte("no peer")}, d})
	assert.Equal(t, 2, n)
	var kernel *os.SyscallError
	require.ErrorAs(t, err, &kernel)
	assert.Equal(t, "sendmmsg", kernel.Syscall)
	assert.Equal(t, [maxBatch]unix.Iovec{}, s.iovecs)
	assert.Empty(t, s.pending)
	for i := range s.messages {
		assert.Nil(t, s.messages[i].hdr.Control)
	}

	withoutSource := d
	withoutSource.Source = Source{}
	n, err = s.send(socket.io.(*batchIO).raw, []Datagram{withoutSource})
	assert.Equal(t, 1, n)
	assert.NoError(t, err)
	all, _ := readAll(t, socket, 3, 10)
	for i, want := range []string{"127.0.0.2", "127.0.0.2", "127.0.0.1"} {
		assert.Equal(t, want, all[i].Peer.Addr().String())
	}
}
