// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2/pkg/crypto/prf"
	"github.com/stretchr/testify/require"
)

// kind is a kind of handshake.
type kind struct {
	name         string
	suite        record.SuiteID
	requested    bool // a certificate of the client's is
	certificates int  // in the client's Certificate
	abbreviated  bool
}

var (
	kindPSK         = kind{name: "PSK", suite: 0x00a8}
	kindCertificate = kind{name: "certificate", suite: 0xc02b, requested: true, certificates: 2}
	kindEmpty       = kind{name: "empty Certificate", suite: 0xc030, requested: true}
	kindAbbreviated = kind{name: "abbreviated", suite: 0x00a8, abbreviated: true}

	kinds = []kind{
		kindPSK, {name: "ECDHE_PSK", suite: 0xc037}, {name: "ECDHE", suite: 0xc02c}, kindCertificate, kindEmpty,
		kindAbbreviated, {name: "abbreviated CBC", suite: 0xc00a, abbreviated: true},
	}
)

// forEachKind runs a test for each kind of handshake, in a bubble of its own.
func forEachKind(t *testing.T, test func(s *script)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { inBubble(t, k, test) })
	}
}

func inBubble(t *testing.T, k kind, test func(s *script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newScript(t, k)) })
}

var (
	secret  = bytes.Repeat([]byte{0x5a}, 48)
	limits  = Limits{ClientHello: 4 << 10, PSKIdentity: 128, CertificateChain: 9 << 10, Certificates: 3}
	schemes = []byte{4, 3, 8, 4}
)

const (
	identity = "device"
	point    = 32 // bytes: X25519
)

// script is a client and a pion on the two sides of a gate. Both do what the test says, and
// what an honest one does next is in honest. Each datagram for the client is checked: its
// sequence numbers were not used before, and it does not amplify.
type script struct {
	testing.TB
	kind
	gate *Gate

	mu       sync.Mutex
	sent     []datagram // for the client
	sizes    int        // of those datagrams
	received int        // bytes from the client
	counted  []Verdict
	next     [2]uint64 // by epoch: the lowest sequence number that was not sent
	unsorted bool      // several goroutines send

	// The client.
	random     record.Random
	cookie     []byte
	version    uint16
	sequence   uint64 // of its next record of epoch 0
	messageSeq uint16
	client     *record.Session
	transcript []byte

	// Pion.
	serverRandom record.Random
	pionSequence uint64
	pionMessage  uint16
	pion         *record.Session
	read         [][]byte
}

// datagram is one that was sent.
type datagram struct {
	raw []byte
	at  time.Duration // since the script began
}

func newScript(t testing.TB, k kind) *script {
	s := &script{TB: t, kind: k, random: dtlstest.RandomOf(1), serverRandom: dtlstest.RandomOf(2), version: record.Version12}
	begin := time.Now()
	s.gate = NewGate(Parameters{
		Send:   func(raw []byte) { s.check(datagram{bytes.Clone(raw), time.Since(begin)}) },
		Count:  func(v Verdict) { s.counted = append(s.counted, v) },
		Limits: limits,
		PSK: func(_ context.Context, _ string, id []byte) ([]byte, error) {
			if string(id) != identity {
				return nil, ErrNoKey
			}
			return []byte("key"), nil
		},
	}, Options{})
	var err error
	config := record.Config{Suite: k.suite, MasterSecret: secret, ClientRandom: s.random, ServerRandom: s.serverRandom, Epoch: 1}
	s.pion, err = record.New(config)
	require.NoError(t, err)
	config.IsClient = true
	s.client, err = record.New(config)
	require.NoError(t, err)
	t.Cleanup(s.gate.Abort)
	return s
}

// check takes a datagram for the client. The gate's lock is free.
func (s *script) check(d datagram) {
	s.gate.mu.Lock()
	validated := s.gate.budget.validated.Load()
	s.gate.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, d)
	s.sizes += len(d.raw)
	if !validated && s.sizes > maxAmplification*s.received {
		s.Errorf("%d bytes were sent for %d", s.sizes, s.received)
	}
	for _, r := range dtlstest.Records(d.raw) {
		if r.Sequence < s.next[r.Epoch] && !s.unsorted {
			s.Errorf("sequence number %d of epoch %d again", r.Sequence, r.Epoch)
		}
		s.next[r.Epoch] = r.Sequence + 1
	}
}

// take returns what was sent since the last call, also by timers that are due now.
func (s *script) take() []datagram {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := s.sent
	s.sent = nil
	return sent
}

// one parses a datagram that is one record.
func (s *script) one(raw []byte) record.Record {
	r, rest, fault := record.Next(raw)
	require.Equal(s, record.NoFault, fault)
	require.Empty(s, rest)
	return r
}

// handle gives the gate a record of the client's.
func (s *script) handle(r record.Record) Verdict {
	s.mu.Lock()
	s.received += len(r.Raw)
	s.mu.Unlock()
	return s.gate.HandleRecord(r)
}

// plaintext gives the gate a record of epoch 0.
func (s *script) plaintext(t record.Type, payload ...byte) Verdict {
	s.sequence++
	return s.handle(s.one(dtlstest.Plaintext(t, s.sequence-1, payload...)))
}

// messages gives the gate messages or fragments in one record.
func (s *script) messages(messages ...record.Handshake) Verdict {
	var payload []byte
	for _, m := range messages {
		payload = m.Append(payload)
	}
	return s.plaintext(record.TypeHandshake, payload...)
}

// protected gives the gate a record that the client seals.
func (s *script) protected(t record.Type, payload []byte) Verdict {
	return s.handle(s.seal(t, payload))
}

func (s *script) seal(t record.Type, payload []byte) record.Record {
	raw, err := s.client.Seal(nil, t, payload)
	require.NoError(s, err)
	return s.one(raw)
}

func whole(t uint8, seq uint16, body []byte) record.Handshake {
	return record.Handshake{Type: t, Length: len(body), MessageSeq: seq, Body: body}
}

// fragment returns the bytes [from, to) of a message.
func fragment(m record.Handshake, from, to int) record.Handshake {
	m.Offset, m.Body = from, m.Body[from:to]
	return m
}

// helloBody returns the body of a ClientHello.
func (s *script) helloBody(cookie []byte) []byte {
	h := dtlstest.ClientHello{Random: s.random, Cookie: cookie, Suites: []record.SuiteID{s.suite}}
	if s.abbreviated {
		h.SessionID = []byte("session")
	}
	body := h.Datagram()[record.HeaderSize+record.HandshakeHeaderSize:]
	copy(body, record.AppendVersion(nil, s.version))
	return body
}

// clientMessage returns the client's next message of a type, with a body that an honest
// client sends, and counts it.
func (s *script) clientMessage(t uint8) record.Handshake {
	m := whole(t, s.messageSeq, s.bodyOf(t))
	s.messageSeq++
	if t == record.MessageClientHello {
		s.transcript = nil
	}
	s.transcript = m.Append(s.transcript)
	return m
}

// bodyOf returns the body of a client's message that may come.
func (s *script) bodyOf(t uint8) []byte {
	var body []byte
	switch t {
	case record.MessageClientHello:
		return s.helloBody(s.cookie)
	case record.MessageCertificate:
		for n := range s.certificates {
			der := bytes.Repeat([]byte{byte(n), 0x30, 7}, 1350)
			body = append(append(body, 0, byte(len(der)>>8), byte(len(der))), der...)
		}
		return append([]byte{0, byte(len(body) >> 8), byte(len(body))}, body...)
	case record.MessageClientKeyExchange:
		if s.suite.PSK() {
			body = append([]byte{0, byte(len(identity))}, identity...)
		}
		if s.suite.ECDHE() {
			body = append(append(body, point), bytes.Repeat([]byte{9}, point)...)
		}
		return body
	case record.MessageCertificateVerify:
		return append([]byte{4, 3, 0, 70}, bytes.Repeat([]byte{3}, 70)...)
	case record.MessageFinished:
		verify, err := prf.VerifyDataClient(secret, s.transcript, s.suite.NewHash)
		require.NoError(s, err)
		return verify
	default:
		return []byte{1, 2, 3, 4}
	}
}

// lastFlight returns the plaintext messages of the client's last flight.
func (s *script) lastFlight() (flight []record.Handshake) {
	if s.abbreviated {
		return nil
	}
	types := []uint8{record.MessageClientKeyExchange}
	if s.requested {
		types = []uint8{record.MessageCertificate, record.MessageClientKeyExchange}
	}
	if s.certificates > 0 {
		types = append(types, record.MessageCertificateVerify)
	}
	for _, t := range types {
		flight = append(flight, s.clientMessage(t))
	}
	return flight
}

// finish sends the client's ChangeCipherSpec and Finished, both honest.
func (s *script) finish() Verdict {
	require.Equal(s, Accepted, s.plaintext(record.TypeChangeCipherSpec, 1))
	return s.protected(record.TypeHandshake, s.finishedMessage())
}

func (s *script) finishedMessage() []byte {
	return whole(record.MessageFinished, s.messageSeq, s.bodyOf(record.MessageFinished)).Append(nil)
}

// pionRecord returns a plaintext record of pion's.
func (s *script) pionRecord(t record.Type, payload ...byte) []byte {
	s.pionSequence++
	return dtlstest.Plaintext(t, s.pionSequence-1, payload...)
}

// pionMessageRecord returns a record with pion's next message.
func (s *script) pionMessageRecord(t uint8, body ...byte) []byte {
	m := whole(t, s.pionMessage, body)
	s.pionMessage++
	if t != record.MessageHelloVerifyRequest {
		s.transcript = m.Append(s.transcript)
	}
	return s.pionRecord(record.TypeHandshake, m.Append(nil)...)
}

// askForCookie is pion's HelloVerifyRequest.
func (s *script) askForCookie() { s.gate.FromPion(s.cookieRequest()) }

func (s *script) cookieRequest() []byte {
	s.cookie = bytes.Repeat([]byte{7}, 20)
	return s.pionMessageRecord(record.MessageHelloVerifyRequest, append([]byte{254, 253, 20}, s.cookie...)...)
}

// serverHello returns the body of pion's ServerHello.
func (s *script) serverHello() []byte {
	body := append([]byte{254, 253}, s.serverRandom[:]...)
	id := []byte("new session")
	if s.abbreviated {
		id = []byte("session")
	}
	body = append(append(body, byte(len(id))), id...)
	return append(body, byte(s.suite>>8), byte(s.suite), 0)
}

// flight returns the records of pion's answer to a ClientHello.
func (s *script) flight() [][]byte {
	records := [][]byte{s.pionMessageRecord(record.MessageServerHello, s.serverHello()...)}
	if s.abbreviated {
		return append(records, s.pionFinished()...)
	}
	if !s.suite.PSK() {
		records = append(records, s.pionMessageRecord(record.MessageCertificate, append([]byte{0, 0, 103, 0, 0, 100}, make([]byte, 100)...)...))
	}
	if s.suite.ECDHE() {
		var body []byte
		if s.suite.PSK() {
			body = []byte{0, 0}
		}
		body = append(append(body, 3, 0, 29, point), make([]byte, point)...)
		if !s.suite.PSK() {
			body = append(body, 4, 3, 0, 2, 5, 5)
		}
		records = append(records, s.pionMessageRecord(record.MessageServerKeyExchange, body...))
	}
	if s.requested {
		body := append([]byte{1, 64, 0, byte(len(schemes))}, schemes...)
		records = append(records, s.pionMessageRecord(record.MessageCertificateRequest, append(body, 0, 0)...))
	}
	return append(records, s.pionMessageRecord(record.MessageServerHelloDone))
}

// pionFinished returns pion's ChangeCipherSpec and Finished.
func (s *script) pionFinished() [][]byte {
	m := whole(record.MessageFinished, s.pionMessage, bytes.Repeat([]byte{0xf}, record.VerifyDataSize))
	s.pionMessage++
	s.transcript = m.Append(s.transcript)
	sealed, err := s.pion.Seal(nil, record.TypeHandshake, m.Append(nil))
	require.NoError(s, err)
	return [][]byte{s.pionRecord(record.TypeChangeCipherSpec, 1), sealed}
}

// honest does what comes next in an honest handshake. Each message is in a record of its
// own.
func (s *script) honest() {
	send := func(t uint8) { require.Equal(s, Accepted, s.messages(s.clientMessage(t))) }
	switch s.gate.step {
	case awaitHello, awaitCookie:
		send(record.MessageClientHello)
	case awaitServer:
		switch {
		case s.abbreviated:
			s.gate.Resume(secret)
			s.gate.FromPion(bytes.Join(s.flight(), nil))
		case s.cookie == nil:
			s.askForCookie()
		default:
			s.gate.FromPion(bytes.Join(s.flight(), nil))
		}
	case awaitCertificate:
		send(record.MessageCertificate)
	case awaitKeyExchange:
		send(record.MessageClientKeyExchange)
	case awaitVerify:
		send(record.MessageCertificateVerify)
	case awaitFinished:
		s.gate.MasterSecret(secret)
		require.Equal(s, Accepted, s.finish())
	}
}

// to does an honest handshake up to a step.
func (s *script) to(target step) *script {
	for s.gate.step != target {
		at := s.gate.step
		require.NotEqual(s, finished, at, "the handshake has no step %d", target)
		s.honest()
		require.NotEqual(s, at, s.gate.step)
	}
	return s
}

// toFlight does an honest handshake until pion has sent its flight.
func (s *script) toFlight() *script {
	for s.gate.server.hello == (record.ServerHello{}) {
		s.honest()
	}
	return s
}

// toKeys does an honest handshake until only the client's last records are missing.
func (s *script) toKeys() *script {
	s.to(awaitFinished)
	s.gate.MasterSecret(secret)
	return s
}

// result is what pion does when it has read the client's Finished.
func (s *script) result() *Result {
	if !s.abbreviated {
		s.gate.FromPion(bytes.Join(s.pionFinished(), nil))
	}
	result, err := s.gate.Result()
	require.NoError(s, err)
	return result
}
