// SPDX-License-Identifier: MIT

package interop

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
)

// nth is a datagram of a client's or a server's.
type nth struct {
	fromClient bool
	n          int // counted from 0
}

// nothing is a datagram that nobody sends.
var nothing = nth{n: -1}

func (d nth) String() string {
	if d.fromClient {
		return fmt.Sprint("client's datagram ", d.n)
	}
	return fmt.Sprint("server's datagram ", d.n)
}

// passed is a datagram that came to a relay.
type passed struct {
	nth
	at       time.Duration // since the first one
	contents string
	data     bool // it has a record of application data
}

// lossy is a foreign client behind a relay that loses one datagram.
type lossy struct {
	client  foreign
	process *dtlstest.Process
	lost    nth
	echoed  chan struct{} // closed when the server's first application data has passed

	mu sync.Mutex
	// mu guards the following.
	begin time.Time
	seen  []passed
	count map[bool]int  // of datagrams, by fromClient
	in    time.Duration // from the first datagram to the echo; 0: not yet
}

// startLossy starts the visit of a client. getsIn goes on with it.
func startLossy(t *testing.T, client foreign, server net.Addr, v visit, lost nth) *lossy {
	t.Helper()
	l := &lossy{client: client, lost: lost, echoed: make(chan struct{}), count: map[bool]int{}}
	relay := dtlstest.StartRelay(t, server)
	relay.SetIn(func(datagram []byte) bool { return l.passes(true, datagram) })
	relay.SetOut(func(datagram []byte) bool { return l.passes(false, datagram) })
	l.process = client.start(t, relay.Addr(), v)
	return l
}

// passes notes a datagram, and reports whether it goes on.
func (l *lossy) passes(fromClient bool, datagram []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begin.IsZero() {
		l.begin = time.Now()
	}
	d := passed{
		nth: nth{fromClient, l.count[fromClient]}, at: time.Since(l.begin),
		contents: contents(datagram), data: dtlstest.Has(datagram, record.TypeApplicationData, true),
	}
	l.count[fromClient]++
	l.seen = append(l.seen, d)
	if d.nth == l.lost {
		return false
	}
	if d.data && !fromClient && l.in == 0 {
		l.in = max(d.at, 1)
		close(l.echoed)
	}
	return true
}

// getsIn waits for the echo, and tells the client to end. It reports whether there was an
// echo, and fails the test if not.
func (l *lossy) getsIn(ctx context.Context, t *testing.T) bool {
	t.Helper()
	select {
	case <-l.echoed:
	case <-ctx.Done():
		select {
		case <-l.echoed:
		default:
			t.Errorf("%v lost: the client does not get in\n%v\nit said:\n%s", l.lost, l, l.process.Output())
			return false
		}
	}
	l.client.finish(l.process)
	return true
}

// took returns the time from the client's first datagram to the echo.
func (l *lossy) took() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.in
}

// hasLost reports whether there was a datagram to lose.
func (l *lossy) hasLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[l.lost.fromClient] > l.lost.n
}

// datagrams returns the datagrams of the handshake: each side's until its first application
// data.
func (l *lossy) datagrams() []nth {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []nth
	done := map[bool]bool{}
	for _, d := range l.seen {
		done[d.fromClient] = done[d.fromClient] || d.data
		if !done[d.fromClient] {
			all = append(all, d.nth)
		}
	}
	return all
}

// String returns all datagrams, one a line.
func (l *lossy) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, d := range l.seen {
		fmt.Fprintf(&b, "%8.3f s  %v: %s", d.at.Seconds(), d.nth, d.contents)
		if d.nth == l.lost {
			b.WriteString("  (lost)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// contents returns what a datagram holds, for a person to read.
func contents(datagram []byte) string {
	var all []string
	for _, r := range dtlstest.Records(datagram) {
		name := fmt.Sprint("type ", r.Type)
		switch r.Type {
		case record.TypeChangeCipherSpec:
			name = "ChangeCipherSpec"
		case record.TypeAlert:
			name = "alert"
		case record.TypeApplicationData:
			name = "data"
		case record.TypeHandshake:
			name = "handshake"
			if r.Epoch == 0 {
				name = ""
				for rest := r.Fragment(); len(rest) > 0; {
					m, after, ok := record.NextHandshake(rest)
					if !ok {
						break
					}
					name += fmt.Sprintf(" message %d (type %d, %d+%d of %d)", m.MessageSeq, m.Type, m.Offset, len(m.Body), m.Length)
					rest = after
				}
			}
		}
		all = append(all, fmt.Sprintf("[%d:%d] %s", r.Epoch, r.Sequence, strings.TrimSpace(name)))
	}
	return strings.Join(all, ", ")
}
