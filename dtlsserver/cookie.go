// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/record"
)

// A cookie of the server's own (RFC 6347 section 4.2.1) has three parts:
//
//   - when it was sent, in milliseconds since the listener's start, modulo 2^32,
//   - a MAC over that and the client's address and port,
//   - a MAC over all of that and over what both ClientHellos of the client must have in
//     common: version, random, session ID, cipher suites and compression methods.
//
// So nothing is kept for a client until it has returned its cookie. The first MAC alone shows
// that the client receives at its address. If that one is right and the second one is wrong,
// the client has got the cookie for a ClientHello that a stranger has sent in its name.
const (
	cookieTimeSize = 4
	cookieMACSize  = 8
	cookieSize     = cookieTimeSize + 2*cookieMACSize
)

// cookies draws and verifies cookies. Their key changes each cookieKeyPeriod.
type cookies struct {
	secret [sha256.Size]byte // set in init, never changed
	macs   sync.Pool         // of *cookieMAC
}

func (c *cookies) init() {
	_, _ = rand.Read(c.secret[:]) // never fails
	c.macs.New = func() any { return new(cookieMAC) }
}

// cookieMAC has what one goroutine needs to compute a cookie without an allocation.
type cookieMAC struct {
	keyed    [2]hash.Hash // HMACs under the keys of two periods
	period   [2]uint64    // of keyed, plus one; 0: there is none yet
	room     [64]byte
	sum      [sha256.Size]byte
	cookie   [cookieSize]byte
	datagram [128]byte
}

// keyedFor returns the HMAC, reset, under the key of the period that a time is in.
func (m *cookieMAC) keyedFor(c *cookies, ms uint64) hash.Hash {
	period := ms / uint64(cookieKeyPeriod.Milliseconds())
	i := period % uint64(len(m.keyed))
	if m.period[i] != period+1 {
		key := hmac.New(sha256.New, c.secret[:])
		key.Write(binary.BigEndian.AppendUint64(nil, period))
		m.keyed[i], m.period[i] = hmac.New(sha256.New, key.Sum(nil)), period+1
	}
	m.keyed[i].Reset()
	return m.keyed[i]
}

// draw sets m.cookie to the cookie that a client gets at a time.
func (m *cookieMAC) draw(c *cookies, from route, hello *record.ClientHello, ms uint64) {
	mac := m.keyedFor(c, ms)
	binary.BigEndian.PutUint32(m.cookie[:], uint32(ms))
	addr := from.peer.Addr().As16()
	room := append(append(m.room[:0], m.cookie[:cookieTimeSize]...), addr[:]...)
	mac.Write(binary.BigEndian.AppendUint16(room, from.peer.Port()))
	copy(m.cookie[cookieTimeSize:][:cookieMACSize], mac.Sum(m.sum[:0]))
	hello.WriteParameters(mac, m.room[:0])
	copy(m.cookie[cookieTimeSize+cookieMACSize:], mac.Sum(m.sum[:0]))
}

// cookieVerdict says what a cookie shows.
type cookieVerdict uint8

const (
	cookieUnknown        cookieVerdict = iota // not a cookie that the listener has lately sent to the address
	cookieOfAnotherHello                      // it was sent to the address, in answer to another ClientHello
	cookieValid
)

// verify says what the cookie of a ClientHello shows, and how long ago it was sent.
func (c *cookies) verify(from route, hello *record.ClientHello, ms uint64) (verdict cookieVerdict, age time.Duration) {
	if len(hello.Cookie) != cookieSize {
		return cookieUnknown, 0
	}
	sent := uint64(uint32(ms) - binary.BigEndian.Uint32(hello.Cookie))
	age = time.Duration(sent) * time.Millisecond
	if sent > ms || age > cookieLifetime {
		return cookieUnknown, 0
	}
	m := c.macs.Get().(*cookieMAC)
	defer c.macs.Put(m)
	m.draw(c, from, hello, ms-sent)
	const addressEnd = cookieTimeSize + cookieMACSize
	switch {
	case subtle.ConstantTimeCompare(m.cookie[:addressEnd], hello.Cookie[:addressEnd]) == 0:
		return cookieUnknown, 0
	case subtle.ConstantTimeCompare(m.cookie[addressEnd:], hello.Cookie[addressEnd:]) == 0:
		return cookieOfAnotherHello, age
	default:
		return cookieValid, age
	}
}

// milliseconds returns the time since the listener's start.
func (l *Listener) milliseconds(now time.Time) uint64 {
	return uint64(max(0, now.Sub(l.began).Milliseconds()))
}

// askForCookie answers the first ClientHello of a client by a HelloVerifyRequest, which is
// shorter, and keeps nothing. p is the client's peer, or nil if it has no slot. Of a
// ClientHello in fragments the first fragment is answered, if it has everything in front of
// the extensions; RFC 6347 section 4.2.1 asks for no more. A client that sends less in its
// first fragment is not served.
func (l *Listener) askForCookie(from route, datagram []byte, p *Peer, now time.Time) {
	r, _, _ := record.Next(datagram)
	f, _, _ := record.NextHandshake(r.Fragment())
	hello, ok := record.ClientHelloStart(f)
	if f.Complete() { // with its extensions, for refuseVersion
		hello, ok = record.ParseClientHelloBody(f.Body)
	}
	if !ok {
		l.countDrop(from.peer, recordStray)
		return
	}
	hasSession := false
	if p != nil {
		c := p.session()
		if hasSession = c != nil; hasSession && c.records.ClientRandom() == hello.Random {
			l.countDrop(from.peer, recordPlaintext) // a late duplicate
			return
		}
	}
	if cause := l.admission.refusesAll(hasSession); cause != admitted {
		l.refuse(from, cause)
		return
	}
	if l.refuseVersion(from, r, &hello, now) {
		return
	}
	m := l.cookies.macs.Get().(*cookieMAC)
	m.draw(&l.cookies, from, &hello, l.milliseconds(now))
	version := record.Version12
	if hello.Version == record.Version10 {
		version = record.Version10
	}
	l.counters.helloVerifyRequests.Add(1)
	from.send(record.AppendHelloVerifyRequest(m.datagram[:0], version, r.Sequence, m.cookie[:]))
	l.cookies.macs.Put(m)
}

// refuseVersion reports whether a ClientHello is of a client that offers DTLS 1.3 alone. Such a
// client does not understand a HelloVerifyRequest. It is told that it is not served once it has
// repeated its ClientHello: anybody could send one in the name of a client that waits for the
// answer to another one.
func (l *Listener) refuseVersion(from route, r record.Record, hello *record.ClientHello, now time.Time) bool {
	if hello.OffersVersion12() {
		return false
	}
	l.countRefusal(from, helloUnsupportedVersion)
	if l.hellos.isRepeated(flightKey(from.peer, hello.Random[:]), now) && l.stale.allow(from.peer, false, 2*l.admission.roundTrip(), now) {
		from.send(plaintextAlert(record.Alert{Level: record.LevelFatal, Description: record.ProtocolVersion}, r, 0))
	}
	return true
}

// startWithCookie starts the handshake of a client that has returned its cookie, and reports
// whether the datagram is its second ClientHello. p is the client's peer, or nil if it has no
// slot.
func (l *Listener) startWithCookie(from route, datagram []byte, p *Peer, now time.Time) bool {
	r, _, _ := record.Next(datagram)
	m, _, _ := record.NextHandshake(r.Fragment())
	hello, ok := record.ClientHelloStart(m)
	if !ok {
		return false
	}
	verdict, age := l.cookies.verify(from, &hello, l.milliseconds(now))
	if verdict == cookieUnknown {
		return false
	}
	f := newFirstFlight(from, datagram, now)
	switch {
	case verdict == cookieOfAnotherHello && p != nil && p.takeFirstFlight(f):
		return true // it repeats the ClientHello of a handshake in progress
	case verdict == cookieOfAnotherHello && !l.stale.wasTold(from.peer, now.Add(-age)):
		// A stranger sends ClientHellos in the client's name. If that happens again to the client's
		// next attempt, the client is admitted: the cookie shows that it receives at its address. A
		// copy of this ClientHello is of the same attempt, because its cookie was sent before the
		// client was told.
		l.counters.foreignCookies.Add(1)
		l.tellToRestart(from, r, true, age, now)
		return true
	}
	f.cookie, f.roundTrip = bytes.Clone(hello.Cookie), max(age, time.Millisecond)
	l.startOrWait(f)
	return true
}
