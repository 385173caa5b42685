// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/record"
)

// Gate is the layer of handshake messages between a client and pion. Pion gets no record
// of the network. It gets whole messages, in their order, each one that this handshake may
// have now, parsed to its last byte and within the bounds of Limits; then the
// ChangeCipherSpec and a Finished whose verify_data is right. The client gets no record of
// pion. It gets pion's messages in records of the gate, with the gate's sequence numbers,
// sealed by the session's own record layer.
//
// A Gate is most of a Handshake: an adapter embeds it, and adds Run and Close. It calls
//
//   - Next for what pion is to read, Wake and Failed to wait for it,
//   - FromPion with what pion writes,
//   - MasterSecret when pion has the master secret of a full handshake, or Resume before
//     pion begins an abbreviated one,
//   - NameGroup before pion v2 begins a full handshake without ECDHE,
//   - Result when pion is done, or Refuse when pion has failed.
//
// The steps of a handshake are in step.go, reassembly in reassembly.go, what is sent and
// sent again in flight.go and repetition.go.
type Gate struct {
	// Set in NewGate, never changed.
	parameters Parameters
	options    Options

	helloReady chan struct{} // closed when the first ClientHello is there
	wake       chan struct{} // has room for one: there is something for pion, or a change for Refuse
	failed     chan struct{} // closed when the gate has ended the handshake

	mu lockorder.Mutex[lockorder.Handshake]
	// mu guards the following.

	// What the client sends.
	step         step
	nextSeq      uint16 // message_seq of the client's next message
	partials     [maxAhead]partial
	hello        record.ClientHello // the last one that was accepted
	helloBody    []byte             // hello refers to it
	serverName   string             // in the client's first ClientHello, which is what pion looks at
	psk          []byte             // the client's key; nil: pion has not asked for it, or there is none
	certificates int                // in the client's Certificate
	changeCipher bool               // ChangeCipherSpec was received
	early        []record.Record    // protected handshake records that came before the keys
	earlyBytes   int
	verifyData   []byte // of the client's Finished, which is right; nil: not received

	// What pion sends.
	server  serverMessages
	flight  flight
	repeats repetition

	// What both make of it.
	transcript transcript
	resuming   []byte          // the master secret of the session to resume; nil: a full handshake
	records    *record.Session // nil until the master secret is known
	queue      [][]byte        // datagrams that pion has not read yet
	apart      bool            // pion gets the next datagram by itself
	sequence   uint64          // of the next plaintext record for pion
	plaintext  uint64          // sequence number of the next record of epoch 0 for the client
	muted      bool            // nothing more is sent
	outcome    outcome
	budget     amplification
}

// Options is what an adapter says of its handshakes.
type Options struct {
	// ReplayWindow is that of the session: see record.Config.
	ReplayWindow int
	// Interval is the time until a flight is repeated. Zero means DefaultInterval.
	Interval time.Duration
	// MaxDatagram bounds the datagrams for pion, in bytes, at least 512: pion has a buffer of that
	// size. Zero means 8192, which is what pion v2 reads at a time.
	MaxDatagram int
}

// NewGate returns the gate of one handshake.
func NewGate(p Parameters, o Options) *Gate {
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.MaxDatagram == 0 {
		o.MaxDatagram = maxForPion
	}
	g := &Gate{
		parameters: p, options: o,
		helloReady: make(chan struct{}), wake: make(chan struct{}, 1), failed: make(chan struct{}),
	}
	if p.Cookie != nil {
		g.step, g.nextSeq, g.server.cookie = awaitCookie, g.firstSeq(), p.Cookie
		g.budget.validated.Store(true)
	}
	return g
}

// HandleRecord is part of Handshake.
func (g *Gate) HandleRecord(r record.Record) Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	verdict := g.handleRecordLocked(r)
	if verdict == Accepted || verdict == ForSession { // another handshake of the address may count the others
		g.budget.received += len(r.Raw)
	}
	return verdict
}

func (g *Gate) handleRecordLocked(r record.Record) Verdict {
	switch {
	case r.Epoch > epoch:
		return WrongEpoch
	case r.Epoch == epoch:
		return g.handleProtectedLocked(r)
	case r.Type == record.TypeHandshake:
		return g.handleMessagesLocked(r)
	case r.Type == record.TypeChangeCipherSpec:
		return g.handleChangeCipherSpecLocked(r)
	case r.Type == record.TypeAlert:
		g.noteAlertLocked(r)
	}
	return Unexpected
}

// handleMessagesLocked takes a plaintext record of handshake messages, or of fragments of
// them, up to one that is malformed.
func (g *Gate) handleMessagesLocked(r record.Record) Verdict {
	if !wellFormed(r.Fragment()) {
		return Malformed
	}
	verdict := Unexpected
	if g.parameters.Cookie != nil && g.helloBody == nil {
		// The ServerHello has the sequence number of the ClientHello that it answers (RFC 6347
		// section 4.2.1). The bound leaves numbers for the records after it.
		g.plaintext = min(r.Sequence, record.MaxSequence/2)
	}
	for rest := r.Fragment(); len(rest) > 0; {
		var f record.Handshake
		f, rest, _ = record.NextHandshake(rest)
		switch v := g.handleFragmentLocked(f); v {
		case NewClientHello, AnotherHello, ForeignCookie, Malformed:
			return v
		case Accepted:
			verdict = v
			g.outcome.clientAlert = nil // the client goes on, or repeats its flight
		}
	}
	return verdict
}

// wellFormed reports whether the payload of a record is a sequence of handshake messages
// or fragments. A fragment without a byte is none: it says nothing.
func wellFormed(payload []byte) bool {
	if len(payload) == 0 {
		return false
	}
	for len(payload) > 0 {
		f, rest, ok := record.NextHandshake(payload)
		if !ok || len(f.Body) == 0 {
			return false
		}
		payload = rest
	}
	return true
}

// handleFragmentLocked takes a fragment of a plaintext message.
func (g *Gate) handleFragmentLocked(f record.Handshake) Verdict {
	if f.Type == record.MessageClientHello && f.MessageSeq < g.nextSeq {
		return g.handleRepeatedHelloLocked(f)
	}
	if f.MessageSeq < g.nextSeq {
		if !g.step.fromClient() {
			return Unexpected
		}
		g.outcome.noteRepetition(f)
		return Accepted // the client repeats its flight, of which a part was lost
	}
	ahead := int(f.MessageSeq - g.nextSeq)
	switch {
	case g.isForeignCookieLocked(f):
		return ForeignCookie
	case ahead >= maxAhead || f.Type == record.MessageFinished || !g.step.mayCome(ahead, f.Type),
		f.Type == record.MessageCertificateVerify && g.server.schemes == nil:
		return Unexpected
	case f.Length > g.maxLength(f.Type):
		g.outcome.malformed = f.Type
		return Malformed
	}
	p := &g.partials[ahead]
	if g.helloBody == nil && !p.fits(f) {
		return NewClientHello
	}
	if !p.add(f) {
		return Accepted
	}
	return g.advanceLocked()
}

// handleRepeatedHelloLocked takes a fragment of a ClientHello that was accepted before.
// If it is the first one, and the client has sent nothing since, the client misses the
// server's flight. It must have bytes of the random, which a stranger does not know. If
// it is another ClientHello, the client has begun anew.
func (g *Gate) handleRepeatedHelloLocked(f record.Handshake) Verdict {
	same := f.MessageSeq == g.hello.MessageSeq && g.repeatsHelloLocked(f)
	switch {
	case !same && f.MessageSeq == g.firstSeq() && g.isAnotherHelloLocked(f):
		return NewClientHello
	case !same:
		return Unexpected
	}
	if f.MessageSeq+1 == g.nextSeq && f.Offset == 0 && len(f.Body) >= minRepeated {
		g.repeatNowLocked()
	}
	return Accepted
}

// firstSeq returns the message_seq of the ClientHello with which a handshake begins.
func (g *Gate) firstSeq() uint16 {
	if g.parameters.Cookie != nil {
		return 1
	}
	return 0
}

// isAnotherHelloLocked reports whether a fragment of a first ClientHello is of another
// handshake than this one. Once the client has returned its cookie, the first ClientHello is
// forgotten, and only the random tells.
func (g *Gate) isAnotherHelloLocked(f record.Handshake) bool {
	random, ok := record.RandomIn(f)
	return !g.budget.validated.Load() || ok && random != g.hello.Random
}

// isForeignCookieLocked reports whether a fragment is the whole second ClientHello of the
// client, which was not asked for a cookie here. In an abbreviated handshake it is not.
func (g *Gate) isForeignCookieLocked(f record.Handshake) bool {
	if f.Type != record.MessageClientHello || f.MessageSeq != 1 || g.nextSeq != 1 || g.server.cookie != nil || !f.Complete() {
		return false
	}
	hello, ok := record.ParseClientHelloBody(f.Body)
	return ok && len(hello.Cookie) > 0 && record.SameParameters(g.hello, hello)
}

// repeatsHelloLocked reports whether a fragment is of the last ClientHello that was accepted.
func (g *Gate) repeatsHelloLocked(f record.Handshake) bool {
	hello := wholePartial(record.MessageClientHello, g.helloBody)
	return hello.fits(f)
}

// advanceLocked accepts the client's messages that are complete, in their order.
func (g *Gate) advanceLocked() Verdict {
	for g.partials[0].complete() {
		p := g.partials[0]
		m := record.Handshake{Type: p.kind, Length: len(p.body), MessageSeq: g.nextSeq, Body: p.body}
		if verdict := g.acceptLocked(m); verdict != Accepted {
			g.partials[0].reset() // the client repeats its message, if this is not its own
			if verdict == Malformed {
				g.outcome.malformed = m.Type
			}
			return verdict
		}
		copy(g.partials[:], g.partials[1:])
		g.partials[maxAhead-1] = partial{}
		g.nextSeq++
	}
	return Accepted
}

// handleChangeCipherSpecLocked takes a plaintext ChangeCipherSpec (RFC 5246 section 7.1).
func (g *Gate) handleChangeCipherSpecLocked(r record.Record) Verdict {
	switch body := r.Fragment(); {
	case !g.step.fromClient():
		return Unexpected
	case len(body) != 1 || body[0] != 1:
		return Malformed
	}
	g.changeCipher = true
	g.finishLocked()
	return Accepted
}

// handleProtectedLocked takes a record of epoch 1.
func (g *Gate) handleProtectedLocked(r record.Record) Verdict {
	switch {
	case g.step < awaitCertificate:
		return WrongEpoch // there are no keys that the client could have
	case (r.Type == record.TypeHandshake || r.Type == record.TypeConnectionID) && g.verifyData == nil:
		if g.records == nil {
			return g.keepEarlyLocked(r)
		}
		return g.openFinishedLocked(r)
	case g.resuming == nil || g.records == nil:
		return ForSession // the keys are not known yet, or not any more
	}
	// The keys of an abbreviated handshake are known before it is done. A record that
	// they open shows where the client is. It can come before the client's Finished, or
	// instead of a Finished that was lost.
	payload, t, err := g.records.Peek(r)
	if err != nil {
		return VerdictOf(err)
	}
	return g.forSessionLocked(t, payload)
}

// forSessionLocked returns the verdict on a record that the keys have opened and that is not
// the Finished. The session handles an alert of a full handshake: see ForSession.
func (g *Gate) forSessionLocked(t record.Type, payload []byte) Verdict {
	g.budget.validated.Store(true)
	if alert, ok := record.ParseAlert(payload); ok && t == record.TypeAlert && alert.Level == record.LevelFatal && g.resuming != nil {
		return FatalAlert
	}
	return ForSession
}

// keepEarlyLocked keeps a record that may be the client's Finished until the keys are
// known. When there is no room the oldest one goes: the client repeats its own.
func (g *Gate) keepEarlyLocked(r record.Record) Verdict {
	if len(r.Raw) > maxEarlyBytes/2 {
		return Unexpected // no Finished is as long
	}
	for len(g.early) == maxEarly || g.earlyBytes+len(r.Raw) > maxEarlyBytes {
		g.earlyBytes -= len(g.early[0].Raw)
		g.early = g.early[1:]
	}
	r = r.Clone()
	g.early = append(g.early, r)
	g.earlyBytes += len(r.Raw)
	return Accepted
}

// openFinishedLocked opens a protected record that is to have the client's Finished, or a
// fragment of it.
func (g *Gate) openFinishedLocked(r record.Record) Verdict {
	if r.Type == record.TypeConnectionID { // only the open record shows the type that was sealed
		if payload, t, err := g.records.Peek(r); err == nil && t != record.TypeHandshake {
			return g.forSessionLocked(t, payload)
		}
	}
	payload, _, err := g.records.Open(nil, r)
	switch {
	case errors.Is(err, record.ErrNotAuthentic):
		return g.noteWrongFinishedLocked(WrongKey)
	case err != nil:
		return VerdictOf(err)
	case !wellFormed(payload):
		return Malformed
	}
	g.budget.validated.Store(true) // nobody else has the keys
	verdict := Unexpected
	for len(payload) > 0 {
		var f record.Handshake
		f, payload, _ = record.NextHandshake(payload)
		if g.step != awaitFinished || f.MessageSeq != g.nextSeq || f.Type != record.MessageFinished || f.Length != record.VerifyDataSize {
			continue
		}
		p := &g.partials[0]
		if p.add(f); !p.complete() {
			verdict = Accepted
			continue
		}
		body := p.body
		*p = partial{}
		if !hmac.Equal(body, g.records.ClientVerifyData(g.transcript.sum())) {
			return g.noteWrongFinishedLocked(WrongFinished)
		}
		g.verifyData, verdict = body, Accepted
		g.finishLocked()
		break
	}
	return verdict
}

// finishLocked gives pion the client's ChangeCipherSpec and Finished once both are there.
// Until then pion does not get either of them:
//
//   - Pion v2 keeps records that come too early in buffers that it has given back to a
//     pool.
//   - With a CBC suite pion v2 slices out of bounds, in a goroutine of its own, if the
//     padding of a record is valid and longer than what it should leave for the MAC.
//
// The Finished is sealed anew, with the client's keys, as pion's own first record.
func (g *Gate) finishLocked() {
	if g.verifyData == nil || !g.changeCipher || g.step != awaitFinished {
		return
	}
	m := record.Handshake{Type: record.MessageFinished, Length: record.VerifyDataSize, MessageSeq: g.nextSeq, Body: g.verifyData}
	datagram := append(g.headerForPionLocked(nil, record.TypeChangeCipherSpec, 1), 1)
	datagram, err := g.records.SealAsPeer(datagram, record.TypeHandshake, 0, m.Append(nil))
	if err != nil {
		g.failLocked(fmt.Errorf("dsm: the client's Finished was not sealed anew: %w", err))
		return
	}
	g.handOnLocked(datagram)
	g.step = finished
	g.repeats.stop()
}

// passOnLocked gives pion a whole message, in records of at most maxRecord bytes.
func (g *Gate) passOnLocked(m record.Handshake) {
	most := min(maxRecord, g.options.MaxDatagram) - record.HeaderSize - record.HandshakeHeaderSize
	for body := m.Body; ; {
		m.Body = body[:min(len(body), most)]
		length := record.HandshakeHeaderSize + len(m.Body)
		datagram := g.headerForPionLocked(make([]byte, 0, record.HeaderSize+length), record.TypeHandshake, length)
		g.handOnLocked(m.Append(datagram))
		m.Offset += len(m.Body)
		if body = body[len(m.Body):]; len(body) == 0 {
			return
		}
	}
}

// headerForPionLocked appends the header of a record of epoch 0 for pion. Its sequence
// number is the gate's own: pion moves its replay window by what anybody could forge.
func (g *Gate) headerForPionLocked(dst []byte, t record.Type, length int) []byte {
	dst = record.AppendHeader(dst, t, 0, g.sequence, length)
	g.sequence++
	return dst
}

// handOnLocked queues a datagram for pion, together with what pion has not read yet if
// both fit into what pion reads at a time.
func (g *Gate) handOnLocked(datagram []byte) {
	if last := len(g.queue) - 1; last >= 0 && !g.apart && len(g.queue[last])+len(datagram) <= g.options.MaxDatagram {
		g.queue[last] = append(g.queue[last], datagram...)
	} else {
		g.queue = append(g.queue, datagram)
	}
	g.apart = false
	g.signal()
}

func (g *Gate) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Next returns the next datagram for pion, or nil if there is none.
func (g *Gate) Next() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		return nil
	}
	next := g.queue[0]
	g.queue = slices.Delete(g.queue, 0, 1) // the next datagram needs no new slice
	return next
}

// Wake returns a channel that receives after something was queued for Next.
func (g *Gate) Wake() <-chan struct{} { return g.wake }

// Failed returns a channel that is closed when the gate has ended the handshake.
func (g *Gate) Failed() <-chan struct{} { return g.failed }

// Hello is part of Handshake.
func (g *Gate) Hello(ctx context.Context) (record.ClientHello, error) {
	select {
	case <-g.helloReady:
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		return record.ClientHello{}, g.outcome.explain(ctx.Err())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hello, nil
}

// AddressValidated is part of Handshake.
func (g *Gate) AddressValidated() bool { return g.budget.validated.Load() }

// Cookie is part of Handshake.
func (g *Gate) Cookie() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.server.cookie
}

// PSK asks for the client's pre-shared key. It remembers the key for Result, and if there is
// none, for pion's alert does not say so.
func (g *Gate) PSK(ctx context.Context, identity []byte) ([]byte, error) {
	g.mu.Lock()
	serverName := g.serverName
	g.mu.Unlock()
	key, err := g.parameters.PSK(ctx, serverName, identity)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.psk, g.outcome.psk = bytes.Clone(key), err
	return key, err
}

// Resume makes the handshake an abbreviated one, with the master secret of the session
// that the ClientHello names. It is called before pion gets the ClientHello.
func (g *Gate) Resume(secret []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.resuming = secret
}

// MasterSecret takes the master secret of a full handshake, with which the client's
// Finished can be opened.
func (g *Gate) MasterSecret(secret []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.setMasterSecretLocked(secret)
}

// setMasterSecretLocked makes the session's record layer, once.
func (g *Gate) setMasterSecretLocked(secret []byte) {
	if g.records != nil || g.server.hello == (record.ServerHello{}) {
		return
	}
	records, err := record.New(record.Config{
		Suite: g.server.hello.Suite, MasterSecret: secret, ClientRandom: g.hello.Random, ServerRandom: g.server.hello.Random,
		Epoch: epoch, ReplayWindow: g.options.ReplayWindow,
		ConnectionID: []byte(g.server.hello.ConnectionID), PeerConnectionID: g.peerConnectionIDLocked(),
	})
	if err != nil {
		g.failLocked(err)
		return
	}
	g.records = records
	early := g.early
	g.early, g.earlyBytes = nil, 0
	for _, r := range early {
		if g.verifyData == nil {
			g.parameters.Count(g.openFinishedLocked(r))
		}
	}
}

// peerConnectionIDLocked returns the connection ID that the client has asked for, if pion has
// agreed (RFC 9146 section 3).
func (g *Gate) peerConnectionIDLocked() []byte {
	if !g.server.hello.HasConnectionID {
		return nil
	}
	return g.hello.ConnectionID
}

// Result returns what a handshake leaves that pion is done with. Of the client's identity it has
// all except the certificates of a full handshake, and nothing in an abbreviated one. It mutes
// the gate: the sequence numbers of the session, and of the last flight of a full handshake,
// begin after all that was sent before.
func (g *Gate) Result() (*Result, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.muteLocked()
	if g.step != finished || g.records == nil || g.server.finished == nil {
		return nil, errors.New("dsm: pion is done with a handshake of which the gate has not seen the end")
	}
	result := &Result{Records: g.records, ServerHello: g.server.hello, Resumed: g.resuming != nil, PSK: g.psk}
	if !result.Resumed {
		result.Identity = Identity{PSKIdentity: g.outcome.identity, Protocol: g.server.hello.Protocol}
		result.ClientCertificates = g.certificates > 0
		result.Flight = &Flight{NextPlaintext: g.plaintext, Finished: g.server.finished}
	}
	g.records = nil // what comes late for the handshake does not touch the session
	return result, nil
}

// Abort is part of Handshake.
func (g *Gate) Abort() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.muteLocked()
}

func (g *Gate) muteLocked() {
	g.muted = true
	g.repeats.stop()
}

// failLocked ends the handshake.
func (g *Gate) failLocked(err error) {
	if g.outcome.err == nil {
		g.outcome.err = err
		close(g.failed)
	}
}
