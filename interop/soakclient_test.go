// SPDX-License-Identifier: MIT

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	v4 "github.com/pion/dtls/v4"
)

// roamerKind is a kind of client.
type roamerKind struct {
	name     string
	hasID    bool
	id       string // its own, which the server is to write; empty: it wants none
	policy   v4.CIDPathMigrationPolicy
	confirms bool // it returns tokens, so that the application knows where it is
}

var roamerKinds = []roamerKind{
	{name: "without"},
	{name: "check", hasID: true, id: "client's", policy: v4.CIDPathMigrationRRC},
	{name: "check-to-send", hasID: true, policy: v4.CIDPathMigrationRRC},
	{name: "confirmed", hasID: true, id: "client's", policy: v4.CIDPathMigrationReject, confirms: true},
	{name: "never-verified", hasID: true, policy: v4.CIDPathMigrationReject},
}

// roamer is a client behind a NAT, who connects again and again.
type roamer struct {
	*soak
	kind  roamerKind
	name  string
	lasts bool // it never ends a session by itself
	relay *dtlstest.Relay
	store v4Store

	// disturbed rises when datagrams that are on their way can be lost.
	disturbed atomic.Int64
	// muted: what the server sends is lost, for it has crashed.
	muted atomic.Bool

	rebinding sync.Mutex // the relay is rebound by one goroutine at a time

	mu sync.Mutex
	// mu guards the following.
	session *stay    // nil: none
	passed  [][]byte // of the session, in this round
}

func newRoamer(s *soak, kind roamerKind, n int) *roamer {
	r := &roamer{soak: s, kind: kind, name: fmt.Sprint(kind.name, "-", n), lasts: n == 0, relay: dtlstest.StartRelay(s.t, s.server.addr)}
	r.relay.SetIn(r.toServer)
	r.relay.SetOut(func(datagram []byte) bool {
		if bytes.Equal(datagram, endOfCrash) {
			r.muted.Store(false)
			return false
		}
		return !r.muted.Load()
	})
	return r
}

// toServer sees what the client sends. Now and then a stranger on the path holds a record up,
// to send it from another address.
func (r *roamer) toServer(datagram []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session == nil {
		return true
	}
	isStolen := r.kind.hasID && record.Type(datagram[0]) == record.TypeConnectionID && rand.IntN(200) == 0
	if isStolen && r.steal(datagram, r.session.began) {
		r.disturbed.Add(1)
		r.done.stolen.Add(1)
		return false
	}
	r.passed = append(r.passed, bytes.Clone(datagram))
	return true
}

// setSession says which session the client has, or nil.
func (r *roamer) setSession(v *stay) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.session, r.passed = v, nil
}

// endRound gives strangers a datagram of a round, which the server has received.
func (v *stay) endRound() {
	v.roamer.mu.Lock()
	passed := v.passed
	v.passed = nil
	v.roamer.mu.Unlock()
	if len(passed) > 0 {
		v.keep(passed[rand.IntN(len(passed))], v.began)
	}
}

// move rebinds the NAT to a port that no other client's session can have.
func (r *roamer) move() {
	r.roaming.RLock()
	defer r.roaming.RUnlock()
	r.rebinding.Lock()
	defer r.rebinding.Unlock()
	r.disturbed.Add(1)
	defer r.disturbed.Add(1)
	for {
		r.relay.Rebind(r.t)
		if r.claim(r.relay.Outside().Port()) {
			return
		}
	}
}

// claim notes that the client's session can have a port, and reports false if another one's can.
func (r *roamer) claim(port uint16) bool {
	r.soak.mu.Lock()
	defer r.soak.mu.Unlock()
	if owner := r.ports[port]; owner != nil && owner != r {
		return false
	}
	r.ports[port] = r
	return true
}

// releasePorts notes that the client has no session any more.
func (r *roamer) releasePorts() {
	r.soak.mu.Lock()
	defer r.soak.mu.Unlock()
	for port, owner := range r.ports {
		if owner == r {
			delete(r.ports, port)
		}
	}
	r.ports[r.relay.Outside().Port()] = r
}

// run connects and talks until ctx has ended.
func (r *roamer) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil && !r.t.Failed(); n++ {
		r.releasePorts()
		v := r.connect(ctx, n)
		if v == nil {
			return
		}
		rounds := 1 + rand.IntN(100)
		if r.lasts {
			rounds = math.MaxInt
		}
		isAlive := true
		for ; rounds > 0 && isAlive && ctx.Err() == nil && !r.t.Failed(); rounds-- {
			select {
			case <-ctx.Done(): // and one round after everything else
			case <-time.After(rand.N(maxPause)):
			}
			isAlive = v.round()
		}
		r.setSession(nil)
		end := rand.IntN(4)
		if isAlive && (end > 1 || ctx.Err() != nil) {
			r.done.closes.Add(1)
			_ = v.client.Close()
			v.client.transport.Kill()
			continue
		}
		v.client.kill()
		if !isAlive {
			continue
		}
		r.done.deaths.Add(1)
		if end == 0 {
			r.done.reboots.Add(1) // it comes back on its port
			continue
		}
		r.move()
	}
}

// connect connects, and says the first lines: only the first echo shows a client that has
// resumed its session that its own Finished has arrived. It returns nil if ctx has ended.
func (r *roamer) connect(ctx context.Context, n int) *stay {
	for limit := time.Now().Add(dtlstest.Patience); ; {
		v := &stay{roamer: r, n: n, began: r.lastCrash.Load(), token: noToken}
		disturbed, restarts := r.disturbed.Load(), r.server.restarts.Load()
		var err error
		if v.client, err = r.dial(ctx); err == nil {
			v.entered = r.lastCrash.Load()
			v.mayHaveFailed = func() bool { return r.disturbed.Load() != disturbed || r.server.restarts.Load() != restarts }
			r.setSession(v)
			if v.round() {
				return v
			}
			r.setSession(nil)
			v.client.kill()
			err = errors.New("no echo")
		}
		r.done.failedConnects.Add(1)
		if ctx.Err() != nil || r.t.Failed() {
			return nil
		}
		if time.Now().After(limit) {
			r.t.Errorf("%s does not get in: %v; %+v", r.name, err, r.server.current().Stats())
			return nil
		}
	}
}

func (r *roamer) dial(ctx context.Context) (*client, error) {
	socket, err := net.DialUDP("udp", nil, r.relay.Addr().(*net.UDPAddr))
	if err != nil {
		return nil, err
	}
	transport := dtlstest.NewTransport(socket)
	options := []v4.ClientOption{v4.WithSessionStore(&r.store)}
	if r.kind.hasID {
		options = append(options, v4.WithConnectionID(func() []byte { return []byte(r.kind.id) }, r.kind.policy))
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if rand.IntN(10) == 0 { // it moves during the handshake, or soon after it
		moved := make(chan struct{})
		timer := time.AfterFunc(rand.N(20*time.Millisecond), func() {
			defer close(moved)
			r.move()
		})
		defer func() {
			if !timer.Stop() {
				<-moved
			}
		}()
	}
	who := credentials{identity: r.name, psk: key, suites: []uint16{uint16(gcm)}}
	conn, _, _, err := dialV4With(ctx, transport, who, options...)
	if err != nil {
		transport.Kill()
		return nil, err
	}
	return &client{Conn: conn, transport: transport}, nil
}

// stay is a client with a session.
type stay struct {
	*roamer
	client   *client
	n        int        // of the client's
	number   int64      // of all, once there was an echo
	began    *soakCrash // the last one before the handshake
	entered  *soakCrash // the last one before its end, which can be a later one
	lines    int
	attempts int
	token    []byte
	onTheWay []attempt // in their order

	// mayHaveFailed reports whether the handshake was disturbed.
	mayHaveFailed func() bool
}

// attempt is a line that was said once.
type attempt struct {
	line, number int
	disturbed    int64
}

// round says a few lines and waits for their echoes. It reports whether the session goes on.
func (v *stay) round() bool {
	outlives, unanswered := v.lastCrash.Load().closes != v.entered.closes, map[int]bool{}
	for range 1 + rand.IntN(2) {
		v.lines++
		unanswered[v.lines] = true
		v.say(v.lines)
	}
	moves := v.kind.hasID && rand.IntN(20) == 0
	if moves {
		v.move()
		v.done.moves.Add(1)
	}
	begin := time.Now()
	repeat, every := begin, firstRepeat
	buf, forgotten := make([]byte, 1000), false
	for len(unanswered) > 0 {
		_ = v.client.SetReadDeadline(repeat.Add(every))
		n, err := v.client.Read(buf)
		forgotten = forgotten || v.mayBeForgotten()
		switch {
		case err == nil:
			v.receive(buf[:n], unanswered)
			continue
		case !errors.Is(err, os.ErrDeadlineExceeded) && !isTimeout(err):
			return v.closed(err)
		case v.number == 0 && v.mayHaveFailed() && time.Since(begin) > forgottenAfter:
			return false
		case forgotten && time.Since(begin) > forgottenAfter:
			v.done.forgotten.Add(1)
			return false
		case moves && v.isClosed() && time.Since(begin) > forgottenAfter: // close_notify was on its way
			v.done.untold.Add(1)
			return false
		case time.Since(begin) > dtlstest.Patience:
			v.t.Errorf("%s, visit %d: the session is lost, without an answer to %v: %+v\n%+v", v.name, v.n, unanswered, v.onTheWay, v.server.current().Stats())
			return false
		}
		repeat, every = time.Now(), min(2*every, maxRepeat)
		for line := range unanswered {
			v.done.repeated.Add(1)
			v.say(line)
		}
	}
	if outlives {
		v.t.Errorf("%s, visit %d: the session has outlived a crash\n%+v", v.name, v.n, v.server.current().Stats())
	}
	v.endRound()
	return true
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// mayBeForgotten reports whether there was a crash for which the session was too young.
func (v *stay) mayBeForgotten() bool {
	last := v.lastCrash.Load()
	return last != v.began && (v.number == 0 || v.number > last.known)
}

// isClosed reports whether there was a crash that the session may not have outlived.
func (v *stay) isClosed() bool { return v.lastCrash.Load().closes != v.began.closes }

// closed is called when the session was ended.
func (v *stay) closed(err error) bool {
	if !v.isClosed() {
		v.t.Errorf("%s, visit %d: the session has ended: %v\n%+v", v.name, v.n, err, v.server.current().Stats())
	}
	v.done.closedByCrash.Add(1)
	return false
}

func (v *stay) say(line int) {
	v.attempts++
	v.onTheWay = append(v.onTheWay, attempt{line, v.attempts, v.disturbed.Load()})
	token := noToken
	if v.kind.confirms {
		token = v.token
	}
	_, _ = fmt.Fprintf(v.client, "%s %d %d %d %40d %s", v.name, v.n, line, v.attempts, 0, token) // Read has the error
}

// receive takes an answer. The answers to earlier lines were lost: the network keeps the order,
// except when a client moves.
func (v *stay) receive(answer []byte, unanswered map[int]bool) {
	var name string
	var n, line, number int
	if _, err := fmt.Sscanf(string(answer), "%s %d %d %d", &name, &n, &line, &number); err != nil || name != v.name || n != v.n {
		v.t.Errorf("%s, visit %d: the answer is %q", v.name, v.n, answer)
		return
	}
	v.token = bytes.Clone(answer[len(answer)-tokenSize:])
	disturbed := v.disturbed.Load()
	for i, a := range v.onTheWay {
		if a.number > number {
			break
		}
		if a.number < number {
			continue
		}
		for _, lost := range v.onTheWay[:i] {
			v.done.lost.Add(1)
			if lost.disturbed == disturbed {
				v.t.Errorf("%s, visit %d: the answer to %+v is lost, before that to %+v\n%+v", v.name, v.n, lost, a, v.server.current().Stats())
			}
		}
		v.onTheWay = v.onTheWay[i+1:]
		break
	}
	if v.number == 0 {
		v.number = v.done.connects.Add(1)
	}
	if unanswered[line] {
		delete(unanswered, line)
		v.done.echoes.Add(1)
	}
}
