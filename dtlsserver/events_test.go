// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
)

// eventListener returns a listener that tells events, and what it has written.
func eventListener(level slog.Level) (*Listener, *strings.Builder) {
	var out strings.Builder
	l := &Listener{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))}
	l.events.init()
	l.noteLevel()
	return l, &out
}

func eventFrom(network, host int, w word) event {
	return event{
		what: w.event(), level: slog.LevelInfo, text: "refused", refuses: true,
		peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(network >> 8), byte(network), byte(host)}), 5684),
	}
}

// TestEventsOfNetworkAreLimited: each network has its own rate for each word, and what is left
// out is told with the next event, or when nothing follows.
func TestEventsOfNetworkAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, out := eventListener(slog.LevelInfo)
		for host := range 100 {
			l.tell(eventFrom(1, host, helloNoRoom))
		}
		l.tell(eventFrom(2, 1, helloNoRoom))
		l.tell(eventFrom(1, 1, helloClosing))
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		assert.Len(t, lines, eventBurst+2)
		assert.Equal(t, "level=INFO msg=refused peer=10.0.1.0:5684 reason=no_room", lines[0])
		assert.Equal(t, "level=INFO msg=refused peer=10.0.1.1:5684 reason=closing", lines[eventBurst+1])

		out.Reset()
		l.tellWaiting(time.Now())
		assert.Empty(t, out.String(), "the interval is not over")
		time.Sleep(eventInterval)
		l.tell(eventFrom(1, 200, helloNoRoom))
		assert.Equal(t, "level=INFO msg=refused peer=10.0.1.200:5684 reason=no_room left_out=95\n", out.String())

		for host := range 100 {
			l.tell(eventFrom(1, host, helloNoRoom))
		}
		out.Reset()
		time.Sleep(eventInterval)
		l.tellWaiting(time.Now())
		assert.Equal(t, "level=INFO msg=\"left out of the log\" kind=refusal reason=no_room network=10.0.1.0/24 left_out=96\n", out.String())
		assert.Empty(t, l.events.windows)
		assert.Zero(t, l.events.networks)
		assert.Zero(t, l.events.others)
	})
}

// TestEventsOfManyNetworksAreLimited: addresses that somebody makes up do not fill the log or
// the memory.
func TestEventsOfManyNetworksAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, out := eventListener(slog.LevelInfo)
		const networks = 10_000
		for n := range networks {
			l.events.note(eventFrom(n, 1, helloNoRoom), time.Now())
		}
		assert.Len(t, l.events.windows, eventNetworks)
		assert.Len(t, l.events.waiting, eventNetworks+eventBurst)
		assert.Empty(t, out.String(), "another goroutine writes")
		l.tellWaiting(time.Now())
		assert.Equal(t, eventNetworks+eventBurst, strings.Count(out.String(), "\n"))
		out.Reset()
		time.Sleep(eventInterval)
		l.tellWaiting(time.Now())
		assert.Contains(t, out.String(), fmt.Sprintf("network=others left_out=%d", networks-eventNetworks-eventBurst))
		assert.Equal(t, 1, strings.Count(out.String(), "\n"))
		assert.Empty(t, l.events.windows)
	})
}

// TestRefusals: they are the last ones, newest first, whether there is a log or not.
func TestRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, out := eventListener(slog.LevelError)
		assert.Empty(t, l.Refusals())
		const n = maxRefusals + 50
		for network := range n {
			v := eventFrom(network, 1, helloNoRoom+word(network/50))
			v.err = errors.New("what\nhas happened")
			l.tell(v)
			time.Sleep(time.Second)
		}
		v := eventFrom(0, 1, recordForged)
		v.refuses = false
		l.tell(v)
		got := l.Refusals()
		assert.Len(t, got, maxRefusals)
		assert.Equal(t, Refusal{
			Time: time.Now().Add(-time.Second), Peer: eventFrom(n-1, 1, 0).peer, Kind: HelloRefusal, Word: "address_share", Detail: `"what\nhas happened"`,
		}, got[0])
		assert.Equal(t, eventFrom(n-maxRefusals, 1, 0).peer, got[maxRefusals-1].Peer)
		assert.Empty(t, out.String())
	})
}

// TestDropsAreToldAtDebugOnly: the readers of the sockets do not count what nobody reads.
func TestDropsAreToldAtDebugOnly(t *testing.T) {
	t.Parallel()
	for level, want := range map[slog.Level]string{slog.LevelInfo: "", slog.LevelDebug: "level=DEBUG msg=\"record dropped\" peer=10.0.0.1:5684 reason=forged\n"} {
		l, out := eventListener(level)
		l.countDrop(dtlstest.NthAddr(10, 1, 5684), recordForged)
		l.tellWaiting(time.Now())
		assert.Equal(t, want, out.String())
		assert.EqualValues(t, 1, l.counters.words[recordForged].Load())
		assert.Equal(t, want == "", len(l.events.windows) == 0)
	}
}

// BenchmarkNoteOfNewNetwork measures what an event of a flood costs that is not told.
func BenchmarkNoteOfNewNetwork(b *testing.B) {
	l, _ := eventListener(slog.LevelInfo)
	now, n := time.Now(), 0
	b.ReportAllocs()
	for b.Loop() {
		l.events.note(eventFrom(n, 1, helloNoRoom), now)
		n++
	}
}
