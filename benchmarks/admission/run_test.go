// SPDX-License-Identifier: MIT

package admission

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
)

func TestMain(m *testing.M) { dtlstest.Main(m) }

// maxJitter is the part of a datagram's delay that is drawn, at most.
const maxJitter = 5 * time.Millisecond

var serverAddr = netip.MustParseAddrPort("192.0.2.1:5684")

// clientConfig is that of a client of its own session store.
func clientConfig(store dtls.SessionStore) *dtls.Config {
	config := serverConfig()
	config.SessionStore = store
	return config
}

// measure runs a Cell in a bubble of its own.
func (c Cell) measure(t *testing.T) Result {
	t.Helper()
	r := Result{Cell: c}
	hello, err := dtlstest.RecordHello(clientConfig(nil))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	synctest.Test(t, func(t *testing.T) { c.run(t, hello, &r) })
	r.Took = time.Since(begin)
	return r
}

func (c Cell) run(t *testing.T, hello dtlstest.ClientHello, r *Result) {
	network := dtlstest.NewNetwork(1 + c.Seed)
	s := &sessions{}
	l := c.listen(t, network.Listen(serverAddr), s)
	defer l.close()
	stores := c.visit(t, network, l, s)
	residents := c.settle(t, network, s)
	// Strangers send in bursts, a millisecond apart. On their way the hellos mix: otherwise
	// the hello of a client that comes between two bursts would be the latest for so long.
	jitter := min(maxJitter, c.RoundTrip/4)
	network.SetConditions(dtlstest.ToServer, dtlstest.Conditions{Delay: c.RoundTrip/2 - jitter, Jitter: jitter, Loss: c.Loss})
	network.SetConditions(dtlstest.ToClient, dtlstest.Conditions{Delay: c.RoundTrip / 2, Loss: c.Loss})

	heapBefore := heapBytes()
	ctx, cancel := context.WithCancel(t.Context())
	var background, clients sync.WaitGroup
	defer background.Wait()
	defer cancel()
	if c.Strangers > 0 {
		f := &dtlstest.Strangers{
			Network: network, Server: serverAddr, Hello: hello, Rate: c.Strangers, Seed: 1 + c.Seed,
			OneNetwork: c.Flood.OneNetwork, ReturnCookies: c.Flood.ReturnCookies, NameSessions: c.Flood.NameSessions,
			Repeat: c.Flood.Repeat,
		}
		background.Go(func() { f.Run(ctx) })
	}
	background.Go(func() { r.HalfOpen = most(ctx, l.halfOpen) })
	background.Go(func() { r.Residents = exchange(ctx, residents, c.RoundTrip) })
	heap := time.AfterFunc(c.After+c.Over/2+2*c.RoundTrip+10*time.Millisecond, func() { r.HeapBytes = heapBytes() - heapBefore })
	defer heap.Stop()

	var mu sync.Mutex
	begin, random := time.Now().Add(c.After), rand.New(rand.NewPCG(2, 3+c.Seed))
	for n := range c.Clients {
		at := begin.Add(time.Duration((float64(n) + random.Float64()) / float64(c.Clients) * float64(c.Over)))
		time.Sleep(time.Until(at))
		clients.Go(func() {
			v := c.connect(ctx, network, s, n, stores[n])
			mu.Lock()
			defer mu.Unlock()
			if stores[n] != nil {
				r.Returning.add(v)
			} else {
				r.New.add(v)
			}
		})
	}
	clients.Wait()
	slices.Sort(r.New.In)
	slices.Sort(r.Returning.In)
	r.Stats = l.stats()
	if o, ok := l.(*ours); ok {
		r.Counts = o.Stats()
	}
	cancel()
	background.Wait()
}

// visit has each client that is to return do a full handshake and go away. The network
// has no delay.
func (c Cell) visit(t *testing.T, network *dtlstest.Network, l server, s *sessions) []dtls.SessionStore {
	stores := make([]dtls.SessionStore, c.Clients)
	if c.Returning == 0 {
		return stores
	}
	for n := c.Returning - 1; n < c.Clients; n += c.Returning {
		stores[n] = &dtlstest.ClientStore{}
		p := dtlstest.Persistent{
			Network: network, From: c.address(n, 0), Server: serverAddr, Config: clientConfig(stores[n]), Timer: c.Timer,
		}
		client, _, err := p.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-s.of(p.From)
		_ = client.Close()
	}
	time.Sleep(time.Minute) // no handshake of theirs is left
	if n := l.halfOpen(); n > 1 {
		t.Fatalf("%d handshakes before the measurement", n)
	}
	return stores
}

// visited is how a client's visit went.
type visited struct {
	done     bool // the client has done its handshake
	in       bool // and the server has a session with it
	after    time.Duration
	attempts dtlstest.Attempts
}

// connect has the n-th client try until it is in.
func (c Cell) connect(ctx context.Context, network *dtlstest.Network, s *sessions, n int, store dtls.SessionStore) (v visited) {
	begin := time.Now()
	until := begin.Add(c.horizon())
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	p := dtlstest.Persistent{
		Network: network, From: c.address(n, 1), Server: serverAddr, Config: clientConfig(store), Timer: c.Timer,
	}
	client, attempts, err := p.Connect(ctx)
	v.attempts = attempts
	if err != nil {
		return v
	}
	defer client.Kill()
	v.done = true
	v.in = await(s.of(p.From), until) && (!c.Echo || echo(client, n, until))
	v.after = time.Since(begin)
	return v
}

func (g *Group) add(v visited) {
	g.Clients++
	switch {
	case v.in:
		g.In = append(g.In, v.after)
	case v.done:
		g.Deceived++
	}
	g.Attempts.Handshakes += v.attempts.Handshakes
	g.Attempts.Refused += v.attempts.Refused
	g.Attempts.GivenUp += v.attempts.GivenUp
	g.Attempts.Repetitions += v.attempts.Repetitions
}

// most returns the largest value that was seen until ctx ended.
func most(ctx context.Context, value func() int) int {
	largest := 0
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		largest = max(largest, value())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return largest
		}
	}
}

// heapBytes returns the size of the live heap and of the stacks.
func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
