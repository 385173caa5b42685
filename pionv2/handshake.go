// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"container/list"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
)

// handshake is one that pion runs for a peer.
type handshake struct {
	// Set in Listener.begin, never changed.
	peer      *Peer
	random    record.Random // of the ClientHello that began it
	transport *transport
	cancel    context.CancelFunc

	// proven: the client has returned its cookie, so it is where it says it is.
	proven atomic.Bool

	// The following is guarded by Listener.mu.
	over     bool          // it no longer counts: displaced, or ended
	at       *list.Element // in Listener.halfOpen
	source   *source
	unproven *list.Element // in Listener.unproven, until it is proven
	inSource *list.Element // in source.unproven, likewise

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
	prefix     netip.Prefix
	handshakes int
	unproven   list.List // of *handshake, oldest first
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
	defer h.cancel()
	config := l.dtls
	config.KeyLogWriter = keyLog{h.transport, h.random, l.dtls.KeyLogWriter}
	pion, err := dtls.ServerWithContext(ctx, h.transport, &config)
	if err == nil {
		err = l.takeOver(h, pion)
		_ = pion.Close() // muted
	}
	_ = h.transport.Close()
	if err != nil {
		l.fail(h, ctx, err)
	}
}

// fail ends a handshake that came to nothing.
func (l *Listener) fail(h *handshake, ctx context.Context, err error) {
	l.mu.Lock()
	over := h.over
	l.dropLocked(h)
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

// pionState is what pion's State.MarshalBinary writes: a gob of a struct that is not
// exported, with these fields. pion v2.2.12 is its last version, and a test decodes
// it, so nothing moves under us.
type pionState struct {
	LocalEpoch            uint16
	RemoteEpoch           uint16
	LocalRandom           [32]byte
	RemoteRandom          [32]byte
	CipherSuiteID         uint16
	MasterSecret          []byte
	SequenceNumber        uint64
	SRTPProtectionProfile uint16
	PeerCertificates      [][]byte
	IdentityHint          []byte
	SessionID             []byte
	IsClient              bool
}

// export reads a state's unexported fields.
func export(state *dtls.State) (*pionState, error) {
	raw, err := state.MarshalBinary()
	if err != nil {
		return nil, err
	}
	s := &pionState{}
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(s); err != nil {
		return nil, err
	}
	switch {
	case s.IsClient:
		return nil, errors.New("the state is a client's")
	case s.LocalEpoch == 0 || s.LocalEpoch != s.RemoteEpoch:
		return nil, fmt.Errorf("epochs %d and %d", s.LocalEpoch, s.RemoteEpoch)
	case s.SequenceNumber == 0:
		return nil, errors.New("no Finished was sent")
	}
	return s, nil
}

// state is the inverse of export.
func (s *pionState) state() (*dtls.State, error) {
	var raw bytes.Buffer
	if err := gob.NewEncoder(&raw).Encode(s); err != nil {
		return nil, err
	}
	state := &dtls.State{}
	return state, state.UnmarshalBinary(raw.Bytes())
}

// records is what the record layer needs: ours, or, for a mirror, the client's.
func (s *pionState) records(mirror bool) record.Config {
	return record.Config{
		Suite:        record.SuiteID(s.CipherSuiteID),
		MasterSecret: s.MasterSecret,
		ClientRandom: s.RemoteRandom,
		ServerRandom: s.LocalRandom,
		IsClient:     mirror,
		Epoch:        s.LocalEpoch,
		NextSequence: s.SequenceNumber,
	}
}

// takeOver makes the session of a handshake that is done, and gives it to the user.
//
// The order matters. Pion is muted first, for it may repeat its flight with a
// sequence number that the exported state would give to us. The session is installed
// and what was held for it is opened under one lock, for the client may send already.
func (l *Listener) takeOver(h *handshake, pion *dtls.Conn) error {
	t := h.transport
	t.mute()
	state := pion.ConnectionState()
	exported, err := export(&state)
	if err != nil {
		return fmt.Errorf("pionv2: pion's state cannot be taken over: %w", err)
	}
	if exported.SequenceNumber < t.sealed {
		// Never go on: the same nonce under the same key twice gives the key away.
		return fmt.Errorf("pionv2: pion sent record %d of a state that ends before %d", t.sealed-1, exported.SequenceNumber)
	}
	config := exported.records(false)
	config.ReplayWindow = l.dtls.ReplayProtectionWindow
	for _, nonce := range t.nonces {
		// Pion draws its nonces at random, from among those that we count up.
		if n, ours := nonceNumber(nonce, config.Epoch); ours && n >= config.NextSequence {
			config.Used = append(config.Used, n)
		}
	}
	session, err := record.New(config)
	if err != nil {
		return err
	}
	c := &Conn{
		peer: h.peer, path: t.path, records: session,
		identity: exported, protocol: t.hello.Protocol,
		flight: t.flight, plain: t.plain,
	}
	return l.install(h, c)
}
