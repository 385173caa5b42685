// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gated is a server with one worker, on a network whose round trip is 0.3 s. The worker is in the
// handler of one session until open is called, so that the datagrams of the others are queued
// together.
type gated struct {
	memory
	gate    *dtlstest.Client
	opening chan struct{}
}

const answersRoundTrip = 300 * time.Millisecond

// newGated serves with handler, which gets no datagram of the session that is the gate.
func newGated(t *testing.T, handler func(*dtlsserver.Conn, []byte)) gated {
	l := listenInMemory(t, psk(), dtlsserver.Config{Workers: 1})
	g := gated{memory: l, opening: make(chan struct{})}
	l.network.SetRoundTrip(answersRoundTrip)
	serve(t, l.Listener, func(c *dtlsserver.Conn, datagram []byte) {
		if string(datagram) == "gate" {
			<-g.opening
			return
		}
		handler(c, datagram)
	})
	g.gate = l.dial(t, netip.AddrPort{})
	return g
}

// deliver sends a datagram of each client, in this order, and has the worker handle them
// together.
func (g gated) deliver(t *testing.T, clients []*dtlstest.Client, texts ...string) {
	write(t, g.gate, "gate")
	time.Sleep(time.Millisecond)
	for i, client := range clients {
		write(t, client, texts[i])
		time.Sleep(time.Microsecond)
	}
	time.Sleep(time.Second) // they are queued
	g.opening <- struct{}{}
}

// TestBlockedHandlerDoesNotHoldUpAnswers: the worker has handled a session when the handler of the
// next one blocks. The answer leaves half a millisecond later, and at once when the server knows
// that this handler is slow.
func TestBlockedHandlerDoesNotHoldUpAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, func(c *dtlsserver.Conn, datagram []byte) {
			if string(datagram) == "slow" {
				time.Sleep(10 * time.Second)
			}
			_, err := c.Write(datagram)
			assert.NoError(t, err)
		})
		quick, slow := g.dial(t, netip.AddrPort{}), g.dial(t, netip.AddrPort{})
		both := []*dtlstest.Client{quick, slow}
		for n, want := range []time.Duration{dtlsserver.MaxHold, 0, 0} {
			g.deliver(t, both, "quick", "slow")
			opened := time.Now()
			dtlstest.Expect(t, quick, "quick")
			assert.Equal(t, want+answersRoundTrip/2, time.Since(opened), "time %d", n)
			dtlstest.Expect(t, slow, "slow")
			assert.Equal(t, 10*time.Second+answersRoundTrip/2, time.Since(opened), "time %d", n)
		}
		g.deliver(t, both, "quick", "now quick too")
		dtlstest.Expect(t, slow, "now quick too")
		g.deliver(t, both, "quick", "slow")
		opened := time.Now()
		dtlstest.Expect(t, quick, "quick")
		dtlstest.Expect(t, quick, "quick")
		assert.Equal(t, dtlsserver.MaxHold+answersRoundTrip/2, time.Since(opened), "a handler that was quick again")
	})
}

// TestCloseSendsCollectedAnswers: what was written before Close leaves before close_notify.
func TestCloseSendsCollectedAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g gated
		g = newGated(t, func(c *dtlsserver.Conn, datagram []byte) {
			if string(datagram) == "close" {
				assert.NoError(t, g.Close())
				return
			}
			_, err := c.Write([]byte("the last answer"))
			assert.NoError(t, err)
		})
		clients := []*dtlstest.Client{g.dial(t, netip.AddrPort{}), g.dial(t, netip.AddrPort{})}
		g.deliver(t, clients, "question", "close")
		dtlstest.Expect(t, clients[0], "the last answer")
		dtlstest.RequireEOF(t, clients[0])
		dtlstest.RequireEOF(t, clients[1])
	})
}

// TestCloseNotifyFollowsCollectedAnswer: the handler answers and ends its session, while others
// wait.
func TestCloseNotifyFollowsCollectedAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, func(c *dtlsserver.Conn, datagram []byte) {
			for n := range 3 {
				_, err := c.Write([]byte(fmt.Sprint(n)))
				assert.NoError(t, err)
			}
			assert.NoError(t, c.Close())
		})
		clients := make([]*dtlstest.Client, 40) // more datagrams than leave together
		for i := range clients {
			clients[i] = g.dial(t, netip.AddrPort{})
		}
		g.deliver(t, clients, make([]string, len(clients))...)
		for _, client := range clients {
			for n := range 3 {
				dtlstest.Expect(t, client, fmt.Sprint(n))
			}
			dtlstest.RequireEOF(t, client)
		}
	})
}

// TestAnswersOverRealSockets: the kernel's sockets are read and written in batches, those of
// several sockets too.
func TestAnswersOverRealSockets(t *testing.T) {
	for _, sockets := range []int{1, 4} {
		for _, serving := range []bool{true, false} {
			t.Run(fmt.Sprintf("sockets=%d/serve=%t", sockets, serving), func(t *testing.T) {
				testAnswersOverRealSockets(t, sockets, serving)
			})
		}
	}
}

func testAnswersOverRealSockets(t *testing.T, sockets int, serving bool) {
	l := listen(t, psk(), dtlsserver.Config{Sockets: sockets})
	if serving {
		serve(t, l, echoHandler)
	} else {
		echoServer(t, l)
	}
	var clients sync.WaitGroup
	for range 8 {
		client := dial(t, l, nil)
		clients.Go(func() {
			for n := range 100 {
				for i := range 4 {
					if _, err := fmt.Fprintf(client, "%d.%d", n, i); !assert.NoError(t, err) {
						return
					}
				}
				for i := range 4 {
					dtlstest.Expect(t, client, fmt.Sprintf("%d.%d", n, i))
				}
			}
		})
	}
	clients.Wait()
	require.NoError(t, l.Close())
}
