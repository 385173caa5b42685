// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"container/list"
	"context"
	"encoding/gob"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
)

// handshake is one that pion runs for a peer.
type handshake struct {
	// Set in Listener.beginLocked, never changed.
	peer      *Peer
	began     time.Time
	transport *transport
	cancel    context.CancelFunc
	hello     record.ClientHello // the client's first, if there is something to resume
	source    *source

	psk []byte // the client's key, once pion has asked for it, if sessions are kept; pion's own until it is done

	// proven: the client has returned its cookie, or sealed its Finished with the
	// keys of the session that it resumes, so it is where it says it is.
	proven atomic.Bool

	// The following is guarded by Listener.mu.
	over     bool          // it no longer counts: displaced, or ended
	at       *list.Element // in Listener.halfOpen
	unproven *list.Element // in Listener.unproven, until it is proven
	inSource *list.Element // in source.all
	inShare  *list.Element // in source.unproven, until it is proven

	// The following is guarded by Peer.mu.
	held  []heldRecord // what came under the session's keys before we had them
	bytes int
}

type heldRecord struct {
	from path
	raw  []byte
}

// hold keeps a sealed record until the takeover, and says whether there was room.
func (h *handshake) hold(from path, r record.Record) bool {
	if len(h.held) == heldRecords || h.bytes+len(r.Raw) > heldBytes {
		return false
	}
	h.held = append(h.held, heldRecord{from, bytes.Clone(r.Raw)})
	h.bytes += len(r.Raw)
	return true
}

// source is a network that handshakes come from, for HandshakesPerSource.
type source struct {
	prefix   netip.Prefix
	all      list.List // of *handshake, oldest first
	unproven list.List // likewise, those not proven
}

// sourceOf is the network of an address: a /24 or a /64.
func sourceOf(addr netip.Addr) netip.Prefix {
	bits := 64
	if addr.Is4() {
		bits = 24
	}
	prefix, _ := addr.WithZone("").Prefix(bits)
	return prefix
}

// run runs the handshake and takes the session over.
func (l *Listener) run(ctx context.Context, h *handshake) {
	defer l.running.Done()
	config := l.pionConfig(ctx, h)
	pion, err := dtls.ServerWithContext(ctx, h.transport, config)
	var c *Conn
	if err == nil {
		c, err = l.takeOver(h, pion)
		_ = pion.Close() // muted
	}
	_ = h.transport.Close()
	if err != nil {
		l.fail(h, ctx, err)
	}
	h.cancel()
	l.mu.Lock()
	l.runs--
	l.mu.Unlock()
	if c != nil {
		c.remember() // which can take a while
	}
}

// pionConfig is what pion gets for a handshake: the listener's, and what there is to
// resume.
func (l *Listener) pionConfig(ctx context.Context, h *handshake) *dtls.Config {
	config := l.dtls
	config.KeyLogWriter = keyLog{h.transport, l.dtls.KeyLogWriter}
	if l.config.Resumption == nil {
		return &config
	}
	config.SessionStore = pionStore{}
	if psk := l.dtls.PSK; psk != nil {
		config.PSK = func(identity []byte) ([]byte, error) {
			key, err := psk(identity)
			h.psk = bytes.Clone(key)
			return key, err
		}
	}
	if session := l.lookUp(ctx, h); session != nil {
		if resuming := resumingConfig(config, h, session); resuming != nil {
			h.transport.resume(session)
			return resuming
		}
	}
	return &config
}

// fail ends a handshake that came to nothing.
func (l *Listener) fail(h *handshake, ctx context.Context, err error) {
	l.mu.Lock()
	over := h.over
	l.stopHandshakeLocked(h, true)
	l.mu.Unlock()
	switch {
	case over:
		return // counted by who ended it
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		l.counters.timedOut.Add(1)
	default:
		l.counters.failed.Add(1)
	}
	l.log.Info("DTLS handshake failed", "peer", h.peer.addr, "error", err)
}

// epoch is that of every session: pion does not renegotiate.
const epoch = 1

// identity is who the peer of a session is, beside its secrets. A PSK identity of
// usual length is in place: one more small piece of memory among a handshake's garbage
// would keep a page of it.
type identity struct {
	short [47]byte
	size  uint8 // of short
	more  *more // nil: nothing
}

// more is what few sessions have.
type more struct {
	hint         []byte // a PSK identity that is longer than short
	certificates [][]byte
	verified     time.Time // when the certificates were
	protocol     string    // what ALPN chose
	kept         *kept     // nil: the session cannot be resumed
}

func newIdentity(hint []byte, m more) identity {
	var who identity
	if len(hint) > len(who.short) {
		m.hint = hint
	} else {
		who.size = uint8(copy(who.short[:], hint))
	}
	if m.hint != nil || len(m.certificates) > 0 || m.protocol != "" {
		who.more = &m
	}
	return who
}

// identityOf is that of a session that is resumed. What ALPN chooses is chosen anew
// (RFC 7301 section 3.1).
func identityOf(s *resume.Session, protocol string) identity {
	return newIdentity(s.PSKIdentity, more{certificates: s.Certificates, verified: s.Verified, protocol: protocol})
}

// all is the identity in one piece.
func (who *identity) all() more {
	m := more{}
	if who.more != nil {
		m = *who.more
	}
	if who.size > 0 {
		m.hint = who.short[:who.size]
	}
	return m
}

// pionState is what pion's State.UnmarshalBinary reads: a gob of a struct that is not
// exported, with these fields among others. v2.2.12 is pion's last v2, and a test
// compares what comes of it, so nothing moves under us.
type pionState struct {
	LocalEpoch, RemoteEpoch   uint16
	LocalRandom, RemoteRandom [32]byte
	CipherSuiteID             uint16
	MasterSecret              []byte
	SequenceNumber            uint64
	PeerCertificates          [][]byte
	IdentityHint              []byte
}

// state makes pion's State of a session's secrets and identity.
func state(secrets record.Config, who *identity) (*dtls.State, error) {
	m := who.all()
	var raw bytes.Buffer
	if err := gob.NewEncoder(&raw).Encode(pionState{
		LocalEpoch: secrets.Epoch, RemoteEpoch: secrets.Epoch,
		LocalRandom: secrets.ServerRandom, RemoteRandom: secrets.ClientRandom,
		CipherSuiteID: uint16(secrets.Suite), MasterSecret: secrets.MasterSecret, SequenceNumber: secrets.NextSequence,
		PeerCertificates: m.certificates, IdentityHint: m.hint,
	}); err != nil {
		return nil, err
	}
	s := &dtls.State{}
	if err := s.UnmarshalBinary(raw.Bytes()); err != nil {
		return nil, err
	}
	s.NegotiatedProtocol = m.protocol
	return s, nil
}

// takeOver makes the session of a handshake that is done, and gives it to the user.
//
// The order matters. Pion is muted first, for it may repeat its flight at any time;
// our numbers begin after all that went out before. The session is installed and what
// was held for it is opened under one lock, for the client may send already.
func (l *Listener) takeOver(h *handshake, pion *dtls.Conn) (*Conn, error) {
	h.transport.mute()
	c := h.peer.newConn()
	if err := l.fillConn(c, h, pion); err != nil {
		return nil, err
	}
	if err := l.install(h, c); err != nil {
		return nil, err
	}
	return c, nil
}

// fillConn moves a session from its handshake into a Conn.
func (l *Listener) fillConn(c *Conn, h *handshake, pion *dtls.Conn) error {
	t := h.transport
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.changing || t.sealed == 0 || t.session == nil {
		// Never go on: the same nonce twice under one key gives the key away.
		return errors.New("pionv2: pion's last flight was not seen, so its numbers are not known")
	}
	t.session.SetNextSequence(t.sealed)
	for _, nonce := range t.nonces {
		// Pion draws its nonces at random, from among those that we count up. That we
		// should ever come to one of them happens once in 2^24 handshakes; the client
		// must try again.
		if n, ours := nonceNumber(nonce, epoch); ours && n <= record.LastSequence+1 {
			return errors.New("pionv2: pion has used a nonce that would be ours")
		}
	}
	c.socket, c.records = t.path.number, *t.session
	t.session = nil // what comes late for it does not touch the Conn's
	if t.resumes != nil {
		c.identity = identityOf(t.resumes, t.hello.Protocol) // pion has forgotten it
	} else {
		state := pion.ConnectionState()
		m := more{certificates: state.PeerCertificates, protocol: t.hello.Protocol}
		if len(m.certificates) > 0 && l.dtls.ClientAuth >= dtls.VerifyClientCertIfGiven {
			m.verified = time.Now()
		}
		c.identity = newIdentity(state.IdentityHint, m)
		c.flight.keep(t, &c.records) // the last one, which the client may miss
	}
	if k := l.newKept(h, &c.identity, c.records.Config().MasterSecret); k != nil {
		m := c.identity.all()
		m.kept = k
		c.identity.more = &m
	}
	c.setSource(t.path.source)
	return nil
}
