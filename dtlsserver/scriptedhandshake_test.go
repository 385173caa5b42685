// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
)

// scriptedHandshaker makes handshakes that consist of the ClientHello alone. The keys are
// derived from the client's random.
type scriptedHandshaker struct {
	// run, if not nil, is called by Run, which fails if it does. It can wait, and can
	// note that the client has validated its address.
	run func(ctx context.Context, h *scriptedHandshake) error

	connectionIDs bool   // negotiated by all clients
	clientID      []byte // in the records to them; nil: none
	rrc           bool   // negotiated, too

	identityOf func(record.Random) string // the client's PSK identity; nil: dtlstest.Identity

	handshakes atomic.Uint64
}

var _ handshake.Handshaker = (*scriptedHandshaker)(nil)

func (f *scriptedHandshaker) New(p handshake.Parameters) handshake.Handshake {
	return &scriptedHandshake{maker: f, number: f.handshakes.Add(1), connectionID: p.ConnectionID}
}

func (*scriptedHandshaker) MaxDatagram() int      { return 0 }
func (*scriptedHandshaker) StatelessCookie() bool { return false }
func (*scriptedHandshaker) PolicyID() string      { return "scripted" }
func (f *scriptedHandshaker) ConnectionIDs() bool { return f.connectionIDs }
func (*scriptedHandshaker) CheckResumable(*resume.Session, record.ClientHello) error {
	return nil
}

// Cookie returns none: nobody is asked for one.
func (*scriptedHandshake) Cookie() []byte { return nil }

// scriptedHandshake is a handshake of a scriptedHandshaker.
type scriptedHandshake struct {
	maker        *scriptedHandshaker
	number       uint64
	connectionID []byte
	validated    atomic.Bool

	mu lockorder.Mutex[lockorder.Handshake]
	// mu guards the following.
	hello   record.ClientHello // the first record
	started bool
	aborted bool
	closed  bool
}

// HandleRecord accepts repetitions of the ClientHello. A protected alert counts as fatal
// and authentic if the client wants to resume a session.
func (h *scriptedHandshake) HandleRecord(r record.Record) handshake.Verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch hello, ok := record.ParseClientHello(r); {
	case !h.started:
		kept, _, _ := record.Next(bytes.Clone(r.Raw))
		h.hello, _ = record.ParseClientHello(kept)
		h.started = true
		return handshake.Accepted
	case ok && hello.Random == h.hello.Random:
		return handshake.Accepted
	case ok && !h.validated.Load():
		return handshake.NewClientHello
	case r.Epoch == 0:
		return handshake.Unexpected
	case r.Type == record.TypeAlert && len(h.hello.SessionID) > 0:
		return handshake.FatalAlert
	default:
		return handshake.ForSession
	}
}

// Hello returns the ClientHello, which is the first record of a scripted handshake.
func (h *scriptedHandshake) Hello(context.Context) (record.ClientHello, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hello, nil
}

func (h *scriptedHandshake) AddressValidated() bool { return h.validated.Load() }

func (h *scriptedHandshake) Run(ctx context.Context, session *resume.Session) (*handshake.Result, error) {
	if h.maker.run != nil {
		if err := h.maker.run(ctx, h); err != nil {
			return nil, err
		}
	}
	h.validated.Store(true)
	records := scriptedRecords(h.hello.Random, false)
	records.SetNextSequence(h.number * sequencesPerSession)
	if h.maker.connectionIDs {
		records.SetConnectionIDs(h.connectionID, h.maker.clientID)
	}
	identity := dtlstest.Identity
	if h.maker.identityOf != nil {
		identity = h.maker.identityOf(h.hello.Random)
	}
	return &handshake.Result{
		Records: records, Identity: handshake.Identity{PSKIdentity: []byte(identity)},
		Resumed: session != nil, ServerHello: record.ServerHello{SessionID: string(h.hello.SessionID), Suite: dtlstest.Suite, RoutabilityCheck: h.maker.rrc}, PSK: []byte("key"),
	}, nil
}

func (h *scriptedHandshake) Abort() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.aborted = true
}

func (h *scriptedHandshake) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		panic("closed twice")
	}
	h.closed = true
}

var errScripted = errors.New("scripted handshake has failed")

// sequencesPerSession is how many sequence numbers a session of a scripted handshake has. Its
// first one is the number of the handshake times this, so that each record of the
// server tells which session it is of.
const sequencesPerSession = 1 << 16

// numberOf returns the number of the handshake that has made a session.
func numberOf(c *Conn) uint64 { return c.secrets().NextSequence / sequencesPerSession }

// scriptedRecords returns one side's record layer of the session of a scripted handshake.
func scriptedRecords(random record.Random, isClient bool) *record.Session {
	records, err := record.New(record.Config{
		Suite: dtlstest.Suite, MasterSecret: append(make([]byte, 16), random[:]...), ClientRandom: random, IsClient: isClient, Epoch: 1,
	})
	if err != nil {
		panic(err)
	}
	return records
}
