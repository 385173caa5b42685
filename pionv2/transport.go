// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/transport/v2/deadline"
)

// transport is what pion runs a handshake over: records that the listener chose to
// give it come in one by one, and datagrams go out through the listener's socket.
// It watches what goes out, for the takeover must know.
//
// The client's last flight, ChangeCipherSpec and Finished, is held until pion has the
// master secret, and the Finished is opened here first. For pion keeps records that
// come too early in buffers that it has given back; and with a CBC suite it slices
// out of bounds, in a goroutine of its own, if the padding of a record is sound and
// longer than what it should leave for the MAC: a client could end the process.
//
// In an abbreviated handshake (RFC 5246 section 7.3) the server's last flight comes
// first, and the client's ends the handshake.
type transport struct {
	// Set in newTransport, never changed.
	path   path
	random record.Random // the client's
	window int           // dtls.Config.ReplayProtectionWindow
	reads  *deadline.Deadline
	closed chan struct{}
	wake   chan struct{} // has room for one: Read looks again

	closeOnce sync.Once

	mu sync.Mutex
	// mu guards the following.
	in      []inbound // records on their way to pion
	inBytes int
	fed     int // records that ever were
	// previous is the last of them, as it came.
	previous []byte
	// changed: the client's ChangeCipherSpec came. finished is its Finished, as it
	// came, until it is fed; waiting are those that came before we could open them.
	changed  []byte
	finished []byte
	waiting  [][]byte
	last     bool // they were fed
	pause    bool // pion has them

	muted bool // nothing goes out any more: pion's numbers stand still
	// cookie is that of pion's last HelloVerifyRequest.
	cookie  []byte
	resumes *resume.Session    // nil: the handshake is a full one
	hello   record.ServerHello // ours
	session *record.Session    // once pion has the master secret
	// changing: our ChangeCipherSpec went out. What it and the records after it
	// are, is flight.
	changing bool
	flight   []byte
	plain    uint64    // the sequence number after the last that went out in epoch 0
	sealed   uint64    // and in epoch 1
	nonces   [][8]byte // explicit nonces that pion drew for these

	// Until the client has shown that it is where it says it is, no more is sent than
	// amplification times what came.
	shown          bool
	received, sent int // bytes
}

// inbound is a record for pion.
type inbound struct {
	raw  []byte
	last bool // the client's Finished
}

// What a handshake can hold, and cost. An honest client's is a dozen records, or some
// hundred with a long chain of certificates in small fragments.
const (
	maxInBytes   = 64 << 10
	maxInRecords = 256
	maxFed       = 512 // pion's reassembly takes quadratic time
	maxWaiting   = 4   // a Finished and its repetitions
	// finishPause is how long pion gets no record after the client's Finished, if it
	// does not go on: one too many, and it sleeps for a flight interval.
	finishPause = 100 * time.Millisecond
	// amplification is what RFC 9000 section 8.1 allows a server.
	amplification = 3
)

func newTransport(p path, random record.Random, window int) *transport {
	return &transport{
		path: p, random: random, window: window, reads: deadline.New(), closed: make(chan struct{}), wake: make(chan struct{}, 1),
	}
}

// resume makes the handshake an abbreviated one, before it begins.
func (t *transport) resume(session *resume.Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.resumes = session
}

// feed gives pion a record, and says whether there was room for it.
func (t *transport) feed(raw []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.received += len(raw)
	if bytes.Equal(raw, t.previous) {
		return true // the network's duplicate: nothing that pion should answer twice
	}
	t.previous = bytes.Clone(raw)
	return t.feedLocked(inbound{raw: bytes.Clone(raw)})
}

func (t *transport) feedLocked(r inbound) bool {
	if len(t.in) == maxInRecords || t.inBytes+len(r.raw) > maxInBytes || t.fed == maxFed {
		return false
	}
	if rec, _, _ := record.Next(r.raw); rec.Epoch == 0 {
		// Numbers of our own: pion moves its replay window by what anybody can forge,
		// and would then take the client's own records for old ones.
		record.PutHeader(r.raw, rec.Type, 0, uint64(t.fed), len(rec.Fragment()))
	}
	t.fed++
	t.in = append(t.in, r)
	t.inBytes += len(r.raw)
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return true
}

// feedLast takes a record of the client's last flight, and gives it to pion once it
// is whole.
func (t *transport) feedLast(r record.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.received += len(r.Raw)
	switch {
	case r.Type == record.TypeChangeCipherSpec:
		if len(r.Fragment()) == 1 && r.Fragment()[0] == 1 && t.changed == nil {
			t.changed = bytes.Clone(r.Raw)
		}
	case t.session == nil:
		if len(t.waiting) == maxWaiting {
			t.waiting = t.waiting[1:]
		}
		t.waiting = append(t.waiting, bytes.Clone(r.Raw))
	default:
		t.checkLocked(r.Raw)
	}
	t.feedLastLocked()
}

// checkLocked notes a Finished if it is the client's.
func (t *transport) checkLocked(raw []byte) {
	r, _, _ := record.Next(raw)
	if payload, err := t.session.Open(nil, r); err == nil && t.finished == nil {
		if h, _, ok := record.NextHandshake(payload); ok && h.Type == record.MessageFinished {
			t.finished = bytes.Clone(raw)
			t.shown = true // no other has the keys
		}
	}
}

func (t *transport) feedLastLocked() {
	if t.changed != nil && t.finished != nil && !t.last {
		t.last = t.feedLocked(inbound{raw: t.changed}) && t.feedLocked(inbound{t.finished, true})
	}
}

// Read gives pion one record.
func (t *transport) Read(p []byte) (int, error) {
	for {
		raw, pause, over := t.next()
		if raw != nil {
			return copy(p, raw), nil
		}
		var timer <-chan time.Time
		if pause {
			timer = time.After(finishPause)
		}
		wake := t.wake
		if pause || over {
			wake = nil
		}
		select {
		case <-wake:
		case <-timer:
			t.mu.Lock()
			if !t.muted {
				// Pion waits for something else: let the client repeat it all.
				t.last, t.pause = false, false
				t.changed, t.finished = nil, nil
			}
			t.mu.Unlock()
		case <-t.reads.Done():
			return 0, os.ErrDeadlineExceeded
		case <-t.closed:
			return 0, net.ErrClosed
		}
	}
}

// next takes the next record for pion. There is none for a while after the client's
// Finished, and never when pion has said all that it has to say.
func (t *transport) next() (raw []byte, pause, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	over = t.changing && t.resumes == nil
	if over || t.pause || len(t.in) == 0 {
		return nil, t.pause && !over, over
	}
	r := t.in[0]
	t.in = t.in[1:]
	t.inBytes -= len(r.raw)
	t.pause = r.last
	return r.raw, false, false
}

// Write sends a datagram. What the network does not take is lost, as on the way.
func (t *transport) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.muted || !t.shown && t.sent+len(p) > amplification*t.received {
		return len(p), nil
	}
	t.sent += len(p)
	t.watch(p)
	t.path.send(p)
	return len(p), nil
}

// watch notes what the takeover must know of a datagram that goes out.
func (t *transport) watch(datagram []byte) {
	for rest := datagram; len(rest) > 0; {
		r, after, fault := record.Next(rest)
		if fault != record.NoFault {
			return // pion writes none
		}
		rest = after
		switch {
		case r.Epoch > 0:
			t.sealed = max(t.sealed, r.Sequence+1)
			if f := r.Fragment(); len(f) >= 8 {
				t.nonces = append(t.nonces, [8]byte(f))
			}
		default:
			t.plain = max(t.plain, r.Sequence+1)
		}
		if r.Type == record.TypeChangeCipherSpec {
			t.changing = true
			t.flight = t.flight[:0]
		}
		if t.changing {
			t.flight = append(t.flight, r.Raw...)
		}
		if r.Epoch == 0 && r.Type == record.TypeHandshake {
			h, _, ok := record.NextHandshake(r.Fragment())
			switch {
			case !ok || !h.Complete():
			case h.Type == record.MessageHelloVerifyRequest && len(h.Body) > 3:
				t.cookie = bytes.Clone(h.Body[3:])
			case h.Type == record.MessageServerHello && t.hello == (record.ServerHello{}):
				t.hello, _ = record.ParseServerHello(h.Body)
				if t.resumes != nil {
					t.keysLocked(t.resumes.Secret)
				}
			}
		}
	}
}

// mute lets nothing out any more: what the transport has noted stays as it is.
func (t *transport) mute() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.muted = true
}

// isFinishing is whether pion has all that the handshake needs: what comes from now
// on is the session's.
func (t *transport) isFinishing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.resumes != nil {
		return t.last
	}
	return t.changing
}

// returned notes whether a ClientHello has the cookie that pion asked for.
func (t *transport) returned(hello record.ClientHello) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hasCookieLocked(hello) {
		t.shown = true
	}
}

// hasCookieLocked is whether a ClientHello has the cookie that pion asked for.
func (t *transport) hasCookieLocked(hello record.ClientHello) bool {
	return len(t.cookie) > 0 && bytes.Equal(t.cookie, hello.Cookie)
}

// wants is whether a plaintext record can be the client's. Pion keeps what else comes,
// and takes it into account: one message that nobody sent, and the client's Finished
// is none. A client's ClientHello is its first one, again, or the one with the cookie.
// In an abbreviated handshake there is nothing else but its ChangeCipherSpec, and alerts
// until it has shown that it has the keys.
func (t *transport) wants(r record.Record, hello record.ClientHello, isHello bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case r.Type == record.TypeChangeCipherSpec:
		return true
	case isHello && hello.MessageSeq == 0:
		return hello.Random == t.random && len(hello.Cookie) == 0
	case isHello:
		return hello.Random == t.random && hello.MessageSeq == 1 && t.resumes == nil && t.hasCookieLocked(hello)
	default:
		return t.resumes == nil || r.Type == record.TypeAlert && !t.shown
	}
}

// witness looks at a sealed record of an abbreviated handshake, whose keys are known:
// it is an error if it is not the client's. If it is, the client is where it says it
// is. It can come before the client's Finished, or in the place of one that is lost.
func (t *transport) witness(r record.Record) (fatal bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.received += len(r.Raw)
	if t.resumes == nil || t.session == nil {
		return false, nil // not known yet, or not any more
	}
	payload, err := t.session.Peek(r)
	if err != nil {
		return false, err
	}
	t.shown = true
	if r.Type != record.TypeAlert {
		return false, nil
	}
	alert, ok := record.ParseAlert(payload)
	return ok && alert.Level == record.LevelFatal, nil
}

// hasShown is whether the client has shown that it is where it says it is.
func (t *transport) hasShown() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shown
}

func (t *transport) Close() error {
	t.closeOnce.Do(func() { close(t.closed) })
	return nil
}

func (t *transport) LocalAddr() net.Addr  { return t.path.socket.LocalAddr() }
func (t *transport) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(t.path.peer) }

func (t *transport) SetReadDeadline(at time.Time) error {
	t.reads.Set(at)
	return nil
}

// SetWriteDeadline does nothing: a Write never waits.
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

func (t *transport) SetDeadline(at time.Time) error { return t.SetReadDeadline(at) }

// keysLocked makes the record layer of the session.
func (t *transport) keysLocked(secret []byte) {
	if t.session != nil {
		return
	}
	// Without a session nothing reaches pion, and the handshake times out.
	t.session, _ = record.New(record.Config{
		Suite: t.hello.Suite, MasterSecret: secret, ClientRandom: t.random, ServerRandom: t.hello.Random,
		Epoch: epoch, ReplayWindow: t.window,
	})
	if t.session == nil {
		return
	}
	for _, raw := range t.waiting {
		t.checkLocked(raw)
	}
	t.waiting = nil
	t.feedLastLocked()
}

// keyLog gets each line that pion writes for dtls.Config.KeyLogWriter, which is how
// the master secret of a full handshake is known while it runs, and without decoding
// pion's gob after it. The lines are passed on to the user's writer.
type keyLog struct {
	transport *transport
	user      io.Writer // may be nil
}

func (k keyLog) Write(line []byte) (int, error) {
	t := k.transport
	t.mu.Lock()
	if fields := bytes.Fields(line); len(fields) == 3 {
		if t.resumes != nil {
			// Pion writes its own random in the place of the client's there.
			line = fmt.Appendf(nil, "%s %x %s\n", fields[0], t.random, fields[2])
		} else if secret, err := hex.DecodeString(string(fields[2])); err == nil {
			t.keysLocked(secret)
		}
	}
	t.mu.Unlock()
	if k.user != nil {
		return k.user.Write(line)
	}
	return len(line), nil
}

// nonceNumber is the sequence number whose nonce, as our record layer makes it, a
// nonce of pion's happens to be.
func nonceNumber(nonce [8]byte, epoch uint16) (uint64, bool) {
	n := binary.BigEndian.Uint64(nonce[:])
	return n & record.MaxSequence, uint16(n>>48) == epoch
}
