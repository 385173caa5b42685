// SPDX-License-Identifier: MIT

package pionv2

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/packet"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recorder is a socket that keeps what is written.
type recorder struct {
	net.PacketConn
	wrote []string
}

func (r *recorder) WriteTo(p []byte, _ net.Addr) (int, error) {
	r.wrote = append(r.wrote, string(p))
	return len(p), nil
}

// What is sent goes out at once, or, collected, in its order: when it is flushed, there
// are many, or the oldest has waited for long.
func TestSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		socket := &recorder{}
		s := &sender{socket: packet.New(socket)}
		sent := 0
		send := func() {
			s.send([]byte(strconv.Itoa(sent)), netip.MustParseAddrPort("192.0.2.1:1"), packet.Source{})
			sent++
		}
		wrote := func(want int, why string) {
			t.Helper()
			if assert.Len(t, socket.wrote, want, why) {
				for i, got := range socket.wrote {
					assert.Equal(t, strconv.Itoa(i), got, "in order")
				}
			}
		}
		send()
		wrote(1, "at once")
		s.collect(time.Now())
		send()
		send()
		wrote(1, "collected")
		s.flush()
		wrote(3, "flushed")
		send()
		wrote(4, "at once again")

		s.collect(time.Now())
		for range sendBatch {
			wrote(4, "collected")
			send()
		}
		wrote(4+sendBatch, "no more than a batch")
		send()
		time.Sleep(sendDelay + time.Microsecond)
		wrote(4+sendBatch, "collected")
		send()
		wrote(6+sendBatch, "not for long")

		s.collect(time.Now())
		send()
		s.stop()
		wrote(7+sendBatch, "stopped")
		s.collect(time.Now())
		send()
		wrote(8+sendBatch, "at once, for good")
	})
}

// What waits to go out with others when the listener is closed goes out before, and in
// its order: the last answer, then close_notify.
func TestCloseSendsWhatWasCollected(t *testing.T) {
	checkLeaks(t)
	l, s, c, _ := established(t, Config{})
	l.senders[0].collect(time.Now())
	_, err := s.Write([]byte("the last answer"))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	buf := make([]byte, 100)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	n, err := c.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "the last answer", string(buf[:n]))
	requireEOF(t, c.Conn)
}
