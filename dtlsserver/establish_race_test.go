// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// crowd is a listener with scripted handshakes on a network in memory, and a record of its
// sessions.
type crowd struct {
	*Listener
	network *dtlstest.Network
	addr    netip.AddrPort

	mu sync.Mutex
	// mu guards the following.
	randoms  map[uint64]record.Random // of the clients, by the number of the handshake
	began    map[*Conn]bool
	ended    map[*Conn]Reason
	notified map[uint64]int // close_notify alerts, by the number of the handshake
	faults   []string
}

// The kinds of scripted handshakes.
const (
	kindFails  = iota // at once
	kindStalls        // until its context ends
	kindStallsValidated
	kindTakesTime
	kindTakesTimeValidated
	numSessionKinds // the others are done at once
)

// run is for scriptedHandshaker. The client's random says what kind of handshake it is.
func (x *crowd) run(ctx context.Context, h *scriptedHandshake) error {
	x.mu.Lock()
	x.randoms[h.number] = h.hello.Random
	x.mu.Unlock()
	kind := h.hello.Random[0]
	h.validated.Store(kind == kindStallsValidated || kind == kindTakesTimeValidated)
	switch kind {
	case kindFails:
		return errScripted
	case kindStalls, kindStallsValidated:
		<-ctx.Done()
	case kindTakesTime, kindTakesTimeValidated:
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// newCrowd opens a listener.
func newCrowd(t *testing.T, network *dtlstest.Network, addr netip.AddrPort, cfg Config) *crowd {
	t.Helper()
	x := &crowd{
		network: network, randoms: map[uint64]record.Random{}, began: map[*Conn]bool{}, ended: map[*Conn]Reason{}, notified: map[uint64]int{},
	}
	socket := network.Listen(addr)
	socket.SetQueue(256, dtlstest.WaitWhenFull)
	x.addr = socket.AddrPort()
	cfg.OnEstablished, cfg.OnEnd = x.onEstablished, x.onEnd
	var err error
	x.Listener, err = NewListener([]net.PacketConn{socket}, &scriptedHandshaker{run: x.run}, cfg)
	require.NoError(t, err)
	return x
}

func (x *crowd) fault(text string) { x.faults = append(x.faults, text) }

func (x *crowd) onEstablished(c *Conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.began[c] {
		x.fault("OnEstablished was called twice")
	}
	x.began[c] = true
}

func (x *crowd) onEnd(c *Conn, why Reason) {
	if got := c.EndReason(); got != why {
		x.mu.Lock()
		x.fault("OnEnd says " + why.String() + ", EndReason " + got.String())
		x.mu.Unlock()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.began[c] {
		x.fault("OnEnd was called before OnEstablished")
	}
	if x.ended[c] != 0 {
		x.fault("OnEnd was called twice")
	}
	x.ended[c] = why
}

// see takes a datagram of the server.
func (x *crowd) see(datagram []byte) {
	r, _, fault := record.Next(datagram)
	number := r.Sequence / sequencesPerSession
	x.mu.Lock()
	random, known := x.randoms[number]
	x.mu.Unlock()
	if !known || fault != record.NoFault {
		x.mu.Lock()
		x.fault("a record of no session")
		x.mu.Unlock()
		return
	}
	if r.Type != record.TypeAlert {
		return
	}
	payload, _, err := scriptedRecords(random, true).Open(nil, r)
	alert, ok := record.ParseAlert(payload)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil || !ok || alert.Description != record.CloseNotify {
		x.fault("an alert that is not close_notify")
		return
	}
	x.notified[number]++
}

// newRandom returns the random of a client's next handshake. Most are done at once.
func newRandom(r *rand.Rand) record.Random {
	random := record.Random{byte(r.IntN(8 * numSessionKinds))}
	binary.BigEndian.PutUint64(random[1:], r.Uint64())
	return random
}

// client does n things that clients and attackers can do, each from one of a few
// addresses. It returns early when the listener is closed.
func (x *crowd) client(r *rand.Rand, first, n int) {
	const addresses = 4
	var randoms [addresses]record.Random
	var records [addresses]*record.Session
	for range n {
		i := r.IntN(addresses)
		action := r.IntN(10)
		if action < 4 || records[i] == nil {
			randoms[i] = newRandom(r)
			records[i] = scriptedRecords(randoms[i], true)
			action = 4
		}
		var datagram []byte
		switch action {
		case 4:
			datagram = dtlstest.ClientHello{Random: randoms[i]}.Datagram()
		case 5, 6:
			datagram, _ = records[i].Seal(nil, record.TypeApplicationData, []byte("x"))
		case 7:
			alert := record.Alert{Level: record.LevelWarning, Description: record.CloseNotify}
			datagram, _ = records[i].Seal(nil, record.TypeAlert, alert.Payload())
		case 8:
			datagram = dtlstest.Unauthentic(record.TypeApplicationData, uint64(r.IntN(1000)), 40)
		default:
			// In steps, so that many go on at the same time.
			time.Sleep(time.Duration(r.IntN(4)) * 5 * time.Millisecond)
			continue
		}
		if !x.network.Inject(dtlstest.NthAddr(10, first+i, 5684), x.addr, datagram) {
			return // closed
		}
	}
}

// endSessions ends sessions, and uses them, until done is closed.
func (x *crowd) endSessions(r *rand.Rand, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(5 * time.Millisecond):
		}
		for c := range x.Sessions() {
			switch r.IntN(8) {
			case 0:
				_ = c.Close()
			case 1:
				x.end(c, Expired)
			case 2:
				_, _ = c.Write([]byte("y"))
			case 3:
				c.Done()
			}
		}
	}
}

// watch checks the counts until done is closed.
func (x *crowd) watch(t *testing.T, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
		for range 100 {
			s := x.Stats()
			if err := sumError(s); err != nil || s.Established > x.config.Sessions || s.HalfOpen > x.config.Handshakes {
				t.Errorf("%d sessions and %d handshakes: %v", s.Established, s.HalfOpen, err)
				return
			}
		}
	}
}

// checkQuiet checks the counts, the table and the close_notify alerts. Nothing may be
// running.
func (x *crowd) checkQuiet(t *testing.T) {
	t.Helper()
	s := x.Stats()
	assert.LessOrEqual(t, s.Established, x.config.Sessions)
	assert.LessOrEqual(t, s.HalfOpen, x.config.Handshakes)
	assert.NoError(t, sumError(s))
	x.admission.check(t)

	established, halfOpen := 0, 0
	for session, state := range x.table.All() {
		if p := session.Value; p.listener == x.Listener {
			p.mu.Lock()
			if p.conn != nil {
				established++
				assert.Equal(t, dsm.StateEstablished, state)
				assert.Zero(t, p.conn.ended)
			} else {
				assert.NotNil(t, p.pending, "a slot without session and handshake")
				assert.Equal(t, dsm.StateHandshake, state)
			}
			for h := p.pending; h != nil; h = h.next {
				halfOpen++
			}
			p.mu.Unlock()
		}
	}
	assert.Equal(t, s.Established, established)
	assert.Equal(t, s.HalfOpen, halfOpen)

	x.mu.Lock()
	defer x.mu.Unlock()
	assert.Empty(t, x.faults)
	assert.Equal(t, s.Established, len(x.began)-len(x.ended), "OnEnd is called for each session that has ended")
	notified := 0
	for number, n := range x.notified {
		assert.Equal(t, 1, n, "of handshake %d", number)
		notified += n
	}
	assert.EqualValues(t, s.Completed-uint64(s.Established)-s.Replaced, notified, "each session that has ended, and was not replaced, sends close_notify")
	for c, why := range x.ended {
		assert.Equal(t, why.notifies(), x.notified[numberOf(c)] == 1, "a session that was %v", why)
	}
}

// quiet waits until all handshakes have ended and all goroutines wait.
func quiet(x *crowd) {
	time.Sleep(2 * x.config.HandshakeTimeout)
	synctest.Wait()
}

// TestSessionsEndWhileOthersAreEstablished has clients connect, reconnect and close
// from many addresses, while sessions are evicted, closed and expire. The tables are full
// nearly all the time.
func TestSessionsEndWhileOthersAreEstablished(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	for name, cfg := range map[string]Config{
		"evict":              {Sessions: 3, Handshakes: 8},
		"evict the only one": {Sessions: 1, Handshakes: 8},
		"idle":               {Sessions: 4, Handshakes: 8, IdleTimeout: 20 * time.Millisecond},
		"stale":              {Sessions: 2, Handshakes: 8, StaleAfter: 5 * time.Millisecond},
		"keep one available": {Sessions: 4, Handshakes: 8, MinAvailable: 1, MinAvailableAfter: 10 * time.Millisecond},
		"refuse":             {Sessions: 2, Handshakes: 8, WhenFull: RefuseNewcomer},
		"few handshakes":     {Sessions: 4, Handshakes: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.HandshakeTimeout, cfg.HandshakesPerSource = timeout, -1
			synctest.Test(t, func(t *testing.T) {
				network := dtlstest.NewNetwork(1)
				x := newCrowd(t, network, netip.AddrPort{}, cfg)
				network.SetFilter(dtlstest.ToClient, func(d dtlstest.Datagram, _ func([]byte)) { x.see(d.Payload) })
				runCrowds(t, false, x)
				s := x.Stats()
				if cfg.WhenFull == EvictLeastRecentlyUsed && cfg.StaleAfter == 0 {
					assert.Zero(t, s.Refused, "there is always a session to evict")
				}
				if cfg.WhenFull == RefuseNewcomer {
					assert.Zero(t, s.Evicted)
				}
				t.Logf("%+v", s)
			})
		})
	}
}

// TestListenerClosesWhileSessionsComeAndGo is the same with a Close in the middle.
func TestListenerClosesWhileSessionsComeAndGo(t *testing.T) {
	t.Parallel()
	for range dtlstest.Scaled(10, 100) {
		synctest.Test(t, func(t *testing.T) {
			network := dtlstest.NewNetwork(1)
			x := newCrowd(t, network, netip.AddrPort{}, Config{
				Sessions: 4, Handshakes: 8, HandshakeTimeout: 200 * time.Millisecond, HandshakesPerSource: -1,
			})
			network.SetFilter(dtlstest.ToClient, func(d dtlstest.Datagram, _ func([]byte)) { x.see(d.Payload) })
			runCrowds(t, true, x)
		})
	}
}

// TestSharedTableWhileSessionsComeAndGo is the same with two listeners in one table. The
// table has half of the slots that they could use.
func TestSharedTableWhileSessionsComeAndGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const sessions, handshakes = 4, 6
		table, err := dsm.New[*Peer](sessions + handshakes)
		require.NoError(t, err)
		cfg := Config{Table: table, Sessions: sessions, Handshakes: handshakes, HandshakeTimeout: 200 * time.Millisecond, HandshakesPerSource: -1}
		network := dtlstest.NewNetwork(1)
		x := newCrowd(t, network, netip.MustParseAddrPort("192.0.2.1:5684"), cfg)
		y := newCrowd(t, network, netip.MustParseAddrPort("192.0.2.1:5685"), cfg)
		network.SetFilter(dtlstest.ToClient, func(d dtlstest.Datagram, _ func([]byte)) {
			if d.From == x.addr {
				x.see(d.Payload)
			} else {
				y.see(d.Payload)
			}
		})
		runCrowds(t, false, x, y)
		assert.Equal(t, table.MaxSlots(), table.AvailableSlots())
		t.Logf("%+v\n%+v", x.Stats(), y.Stats())
	})
}

// runCrowds runs clients and other goroutines against the listeners, checks these, closes
// them and checks them again. If early is set the listeners are closed while clients
// connect.
func runCrowds(t *testing.T, early bool, crowds ...*crowd) {
	t.Helper()
	const clients, enders = 12, 2
	actions := dtlstest.Scaled(600, 6000)
	done := make(chan struct{})
	var working, others sync.WaitGroup
	for _, x := range crowds {
		others.Go(func() { _ = x.Serve(context.Background(), func(c *Conn, datagram []byte) { _, _ = c.Write(datagram) }) })
		for i := range clients {
			working.Go(func() {
				r := rand.New(rand.NewPCG(rand.Uint64(), 0))
				x.client(r, 256*i, actions)
			})
		}
		for range enders {
			others.Go(func() { x.endSessions(rand.New(rand.NewPCG(rand.Uint64(), 0)), done) })
		}
		others.Go(func() { x.watch(t, done) })
	}
	if early {
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
	} else {
		working.Wait()
		close(done)
		quiet(crowds[0])
		for _, x := range crowds {
			x.checkQuiet(t)
		}
	}
	for _, x := range crowds {
		assert.NoError(t, x.Close())
		assert.Zero(t, x.admission.running, "handshakes have ended when Close returns")
	}
	working.Wait()
	if early {
		close(done)
	}
	others.Wait()
	for _, x := range crowds {
		s := x.Stats()
		assert.Zero(t, s.Established)
		assert.Zero(t, s.HalfOpen)
		x.checkQuiet(t)
		assert.Equal(t, x.table.MaxSlots(), x.table.AvailableSlots(), "every slot is free")
	}
}
