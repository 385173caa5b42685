// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"
	"encoding/hex"
	"net"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/record"
)

// Backoff is the transport of a client of pion v2 that repeats its flights as another
// implementation does. Pion's own timer must not run out: its FlightInterval is
// IdleFlightInterval, or longer than the test.
//
// A repeated record has a sequence number of its own. For a protected one that takes the
// session's keys: KeyLog is the KeyLogWriter of the client's config, or SetMasterSecret
// is called before an abbreviated handshake. Without the keys the record is repeated as
// it was, which a server takes for a replay if it has received it before.
//
// A ClientHello is a flight of its own, in one datagram. Everything from the first other
// handshake message on is the client's last flight. It is repeated until Established is
// called. In an abbreviated handshake it is repeated only when the server repeats its
// own; pion does not see that repetition, because it would wait for its own timer.
type Backoff struct {
	net.Conn
	timer Timer

	mu sync.Mutex
	// mu guards the following.
	sequence    uint64   // of the next plaintext record
	shift       uint64   // what is added to the sequence numbers of pion's protected records
	flight      [][]byte // the datagrams of the current flight, as pion has made them
	last        bool     // the flight is the client's last one
	abbreviated bool     // and there is no other answer to it than data
	repeated    int      // how often the flight was repeated by the timer
	clock       *time.Timer
	established bool
	closed      bool
	gaveUp      bool
	refused     bool // the server has sent a fatal alert in plaintext
	helloDone   bool // the server has sent ServerHelloDone
	total       int  // repetitions of all flights

	suite                      record.SuiteID
	clientRandom, serverRandom record.Random
	masterSecret               []byte
	client                     *record.Session // nil until a protected record is sealed anew
}

// IdleFlightInterval is a dtls.Config.FlightInterval that lets a Backoff do the
// repetitions.
const IdleFlightInterval = time.Hour

// NewBackoff returns a Backoff over a connected socket. The records of everything that is
// written to it are renumbered, forged ones too.
func NewBackoff(conn net.Conn, timer Timer) *Backoff { return &Backoff{Conn: conn, timer: timer} }

// KeyLog takes the master secret from a line in the format of NSS's key log.
func (b *Backoff) KeyLog() WriterFunc {
	return func(line []byte) {
		if fields := bytes.Fields(line); len(fields) == 3 {
			secret, _ := hex.DecodeString(string(fields[2]))
			b.SetMasterSecret(secret)
		}
	}
}

// SetMasterSecret sets the master secret, such as that of the session to be resumed.
func (b *Backoff) SetMasterSecret(secret []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.masterSecret, b.client = bytes.Clone(secret), nil
}

// Established ends the repetitions: the handshake is done. The last flight of an
// abbreviated handshake is still repeated when the server repeats its own.
func (b *Backoff) Established() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.established = true
	b.stopLocked()
	if !b.abbreviated {
		b.flight = nil
	}
}

// Refused reports whether the server has sent a fatal alert in plaintext.
func (b *Backoff) Refused() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// GaveUp reports whether the client has given up, as Timer.Repeats says.
func (b *Backoff) GaveUp() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gaveUp
}

// Repetitions returns how many flights were repeated.
func (b *Backoff) Repetitions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

// Read reads the next datagram that is for pion.
func (b *Backoff) Read(p []byte) (int, error) {
	for {
		n, err := b.Conn.Read(p)
		if err != nil {
			return n, err
		}
		repeat, forPion := b.hear(p[:n])
		if repeat {
			b.repeat(false)
		}
		if forPion {
			return n, nil
		}
	}
}

// hear looks at a datagram of the server.
func (b *Backoff) hear(datagram []byte) (repeat, forPion bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	handshake := false
	for _, r := range Records(datagram) {
		switch {
		case r.Type == record.TypeHandshake:
			handshake = true
			if r.Epoch == 0 && b.hearMessagesLocked(r.Fragment()) {
				repeat = true
			}
		case r.Type == record.TypeAlert && r.Epoch == 0:
			if alert, ok := record.ParseAlert(r.Fragment()); ok && alert.Level == record.LevelFatal {
				b.refused = true
			}
		}
	}
	if handshake && b.last && b.abbreviated {
		return true, false
	}
	return repeat && b.last && b.timer.Answers, true
}

// hearMessagesLocked notes what keys are derived from. It reports whether the server has
// repeated the end of its flight.
func (b *Backoff) hearMessagesLocked(payload []byte) (repeated bool) {
	for len(payload) > 0 {
		m, rest, ok := record.NextHandshake(payload)
		if !ok {
			break
		}
		switch m.Type {
		case record.MessageServerHello:
			if hello, ok := record.ParseServerHello(m.Body); ok {
				b.suite, b.serverRandom = hello.Suite, hello.Random
			}
		case record.MessageServerHelloDone:
			repeated = b.helloDone
			b.helloDone = true
		}
		payload = rest
	}
	return repeated
}

// Write sends a datagram of pion's. It begins a flight, or is a further one of it, or
// neither.
func (b *Backoff) Write(p []byte) (int, error) {
	b.mu.Lock()
	b.noteLocked(p)
	datagram := b.renumberLocked(p)
	b.mu.Unlock()
	if _, err := b.Conn.Write(datagram); err != nil {
		return 0, err
	}
	return len(p), nil
}

// noteLocked keeps a datagram of a flight, and starts the timer.
func (b *Backoff) noteLocked(datagram []byte) {
	records := Records(datagram)
	if len(records) == 0 || b.established || b.closed {
		return
	}
	first := records[0]
	hello, isHello := record.ParseClientHello(first)
	switch {
	case isHello:
		b.clientRandom = hello.Random
		b.flight, b.last = nil, false
	case first.Type != record.TypeHandshake && first.Type != record.TypeChangeCipherSpec:
		return
	case !b.last:
		b.flight, b.last = nil, true
		b.abbreviated = first.Type == record.TypeChangeCipherSpec
	}
	b.flight = append(b.flight, bytes.Clone(datagram))
	b.repeated = 0
	if b.last && b.abbreviated {
		b.stopLocked()
		return
	}
	b.startLocked()
}

func (b *Backoff) startLocked() {
	wait := b.timer.Wait(b.repeated)
	if b.clock == nil {
		b.clock = time.AfterFunc(wait, b.due)
		return
	}
	b.clock.Reset(wait)
}

func (b *Backoff) stopLocked() {
	if b.clock != nil {
		b.clock.Stop()
	}
}

// due is called when the wait is over.
func (b *Backoff) due() {
	b.mu.Lock()
	done := b.established || b.closed
	b.gaveUp = !done && b.timer.Repeats > 0 && b.repeated >= b.timer.Repeats
	gaveUp := b.gaveUp
	b.mu.Unlock()
	switch {
	case gaveUp:
		_ = b.Close()
	case !done:
		b.repeat(true)
	}
}

// repeat sends the current flight again.
func (b *Backoff) repeat(due bool) {
	b.mu.Lock()
	if b.closed || len(b.flight) == 0 {
		b.mu.Unlock()
		return
	}
	var datagrams [][]byte
	for _, d := range b.flight {
		datagrams = append(datagrams, b.repeatedLocked(d))
	}
	b.total++
	if due {
		b.repeated++
	}
	if !b.abbreviated && !b.established {
		b.startLocked()
	}
	b.mu.Unlock()
	for _, d := range datagrams {
		_, _ = b.Conn.Write(d)
	}
}

// Close closes the socket and ends the repetitions.
func (b *Backoff) Close() error {
	b.mu.Lock()
	b.closed = true
	b.stopLocked()
	b.flight = nil
	b.mu.Unlock()
	return b.Conn.Close()
}
