// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/require"
)

// visitor is an honest client of pion, which repeats its flights every second. It begins
// anew, from the same address, when its handshake has failed, and when nothing is echoed.
type visitor struct {
	network      *dtlstest.Network
	from, server netip.AddrPort
	config       *dtls.Config
	limit        time.Duration // for all of its handshakes

	// What came of it.
	handshakes int
	took       time.Duration // until its text was echoed; 0: it is not in
	client     *dtlstest.Client
}

// getIn returns when the visitor is in, or has no time left.
func (c *visitor) getIn() {
	const forEcho = 10 * time.Second
	begin := time.Now()
	for c.took == 0 {
		left := c.limit - time.Since(begin)
		if left <= 0 {
			return
		}
		c.handshakes++
		config := *c.config
		client, err := dtlstest.Handshake(c.network.Dial(c.from, c.server), dtlstest.WithTimeout(&config, left))
		if err != nil {
			continue
		}
		if isHeard(client, min(forEcho, left)) {
			c.took, c.client = max(time.Since(begin), 1), client
			return
		}
		client.Kill()
	}
}

// isHeard has a client write for some time, and reports whether something is echoed.
func isHeard(client *dtlstest.Client, limit time.Duration) bool {
	buf := make([]byte, 100)
	for begin, n := time.Now(), 0; time.Since(begin) < limit; n++ {
		if _, err := fmt.Fprint(client, n); err != nil {
			return false
		}
		_ = client.SetReadDeadline(time.Now().Add(2 * time.Second))
		switch _, err := client.Read(buf); {
		case err == nil:
			return true
		case !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded):
			return false
		}
	}
	return false
}

// leave ends the visitor's session, if it is in.
func (c *visitor) leave() {
	if c.client != nil {
		_ = c.client.Close()
		c.client.Kill()
	}
}

// visits has a visitor get in, and returns a channel that receives it.
func (v *victim) visits(c *visitor) <-chan *visitor {
	done := make(chan *visitor, 1)
	c.network = v.network
	if !c.server.IsValid() {
		c.server = v.addr()
	}
	if c.config == nil {
		c.config = v.config
	}
	go func() { c.getIn(); done <- c }()
	return done
}

// skipResuming skips a test under the race detector if its visitors resume sessions. A client
// of pion v2 keeps records for which it has no keys yet in buffers that it has given back to
// a pool, which all of pion's Conns of the process share.
func skipResuming(t *testing.T, resumes bool) {
	t.Helper()
	if resumes && dtlstest.RaceEnabled {
		t.Skip("pion's client has a data race")
	}
}

// returning returns a visitor that has been in, and will resume its session.
func (v *victim) returning(t *testing.T, from netip.AddrPort, limit time.Duration) *visitor {
	t.Helper()
	config := pskWith()
	config.SessionStore = &dtlstest.ClientStore{}
	first := <-v.visits(&visitor{from: from, limit: limit, config: config})
	require.NotZero(t, first.took)
	first.leave()
	return &visitor{from: from, limit: limit, config: config}
}

// visitor returns a visitor with its own address: one that resumes, or one that does not.
func (v *victim) visitor(t *testing.T, resumes bool, limit time.Duration) *visitor {
	t.Helper()
	from := dtlstest.NthAddr(10, 1, 5684)
	if resumes {
		return v.returning(t, from, limit)
	}
	return &visitor{from: from, limit: limit}
}

// requireIn requires that a visitor gets in. It leaves when the test ends.
func (v *victim) requireIn(t *testing.T, c *visitor) {
	t.Helper()
	<-v.visits(c)
	t.Cleanup(c.leave)
	t.Logf("in after %v, %d handshakes, %d told", c.took, c.handshakes, v.Stats().ToldToRestart)
	require.NotZero(t, c.took, "%+v", v.Stats())
}

// everyone waits for visitors, which leave when the test ends, and returns how many are in,
// how long the slowest of them took, and how many handshakes all have begun.
func everyone(t *testing.T, waiting []<-chan *visitor) (in int, slowest time.Duration, handshakes int) {
	t.Helper()
	for _, done := range waiting {
		c := <-done
		t.Cleanup(c.leave)
		handshakes += c.handshakes
		slowest = max(slowest, c.took)
		if c.took > 0 {
			in++
		}
	}
	return in, slowest, handshakes
}

// resumable is a store for sessions of a test's own.
func resumable(t *testing.T) *resume.Store {
	t.Helper()
	return newStore(t, resume.Config{})
}

// forgedHello is a first ClientHello of nobody: with a suite that the listener has, or
// with one that it has not.
func forgedHello(random record.Random, possible bool) []byte {
	hello := dtlstest.ClientHello{Random: random, Extensions: append(dtlstest.ExtendedMasterSecret(), dtlstest.CurveP256()...)}
	if !possible {
		hello.Suites = []record.SuiteID{0x1301}
	}
	return hello.Datagram()
}

// numbered returns the n-th of ever new randoms.
func numbered(n int) record.Random { return record.Random{1, byte(n >> 16), byte(n >> 8), byte(n)} }

// injects sends datagrams in the name of others, one in each interval, until stop is called.
// next returns the n-th one, and the address that it comes from.
func (v *victim) injects(interval time.Duration, next func(n int) (from netip.AddrPort, datagram []byte)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ctx.Err() == nil; n++ {
			from, datagram := next(n)
			v.network.Inject(from, v.addr(), datagram)
			time.Sleep(interval)
		}
	}()
	return func() { cancel(); <-done }
}

// forges injects forged first ClientHellos, so many a second, until stop is called. The n-th
// one has an address and a random.
func (v *victim) forges(perSecond int, from func(n int) netip.AddrPort, random func(n int) record.Random) (stop func()) {
	return v.injects(time.Second/time.Duration(perSecond), func(n int) (netip.AddrPort, []byte) {
		return from(n), forgedHello(random(n), true)
	})
}
