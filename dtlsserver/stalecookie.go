// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"math"
	"net/netip"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/record"
)

// staleCookies remembers the cookies of handshakes that have ended before their clients
// returned them. Without an answer a client that returns one repeats its second ClientHello
// until its own timeout.
//
// Each cookie has one place in a fixed array, which a later one may take.
type staleCookies struct {
	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following.
	keys []uint64 // flightKey of the address and the cookie; nil until there is one
	told []told   // who was told; nil until somebody was
	// Those whose cookie is known do not wait for those whose cookie may be made up.
	known, unknown allowance
}

// told is when a client was told to begin anew.
type told struct {
	key         uint64 // flightKey of the address
	first, last time.Time
	pause       time.Duration // between two alerts
	times       int
}

// allowance is how many clients may be told now. It grows by maxRestarts a second.
type allowance struct {
	left float64
	at   time.Time
}

func (a *allowance) take(now time.Time) bool {
	a.left = min(maxRestarts, a.left+now.Sub(a.at).Seconds()*maxRestarts)
	a.at = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

// add remembers the cookie that was sent to a peer, if there is one.
func (s *staleCookies) add(peer netip.AddrPort, cookie []byte) {
	if len(cookie) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = make([]uint64, rememberedCookies)
	}
	key := flightKey(peer, cookie)
	s.keys[key%rememberedCookies] = key
}

// addLastFlight remembers a handshake that has ended after its client had returned the cookie:
// what comes next from the client is its last flight, and is answered with a fatal alert. It
// replaces what is remembered of an earlier handshake of the address.
func (s *staleCookies) addLastFlight(peer netip.AddrPort, description uint8) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = make([]uint64, rememberedCookies)
	}
	key := flightKey(peer, lastFlight)
	s.keys[key%rememberedCookies] = key + uint64(description)
}

// lastFlight returns the alert that answers the last flight of a peer, if it is one that
// addLastFlight was told of.
func (s *staleCookies) lastFlight(peer netip.AddrPort) (description uint8, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		return 0, false
	}
	key := flightKey(peer, lastFlight)
	more := s.keys[key%rememberedCookies] - key
	return uint8(more), more <= math.MaxUint8
}

// has reports whether a cookie that was sent to a peer is remembered.
func (s *staleCookies) has(peer netip.AddrPort, cookie []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := flightKey(peer, cookie)
	return s.keys != nil && s.keys[key%rememberedCookies] == key
}

// allow reports whether a client may be told to begin anew.
//
// Copies of its ClientHello are under way when it begins anew. Another alert, the answer to
// a copy, would end its next handshake. So its address is told again only after a pause. If
// its cookie is not known, anybody can have sent it in the name of a client whose handshake
// is about to begin. Then the address is told twice, and not again for a while. Once is not
// enough: GnuTLS ignores the first alert.
func (s *staleCookies) allow(peer netip.AddrPort, isKnown bool, pause time.Duration, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told == nil {
		s.told = make([]told, rememberedTold)
	}
	left := &s.known
	if !isKnown {
		left = &s.unknown
	}
	key := flightKey(peer, nil)
	t := &s.told[key%rememberedTold]
	if t.key != key || now.Sub(t.first) >= tellAgainAfter && now.Sub(t.last) >= t.pause {
		*t = told{key: key, first: now}
	}
	if t.times == 0 { // not later: the cookie of a copy is older than a round trip
		t.pause = pause
	}
	if t.times > 0 && now.Sub(t.last) < t.pause || t.times == maxTold && !isKnown || !left.take(now) {
		return false
	}
	t.times++
	t.last = now
	return true
}

// wasTold reports whether the last alert to a client was sent less than tellAgainAfter before a
// time, and not after it.
func (s *staleCookies) wasTold(peer netip.AddrPort, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told == nil {
		return false
	}
	key := flightKey(peer, nil)
	t := &s.told[key%rememberedTold]
	return t.key == key && !t.last.After(at) && at.Sub(t.last) < tellAgainAfter
}

// answerStaleCookie answers a ClientHello whose cookie belongs to no handshake, if its
// client has to begin anew, and reports whether the client was told so.
//
// Nobody but the client knows the cookie that was sent to it, so a cookie that is
// remembered comes from the client. A listener that was started lately does not know the
// cookies of the one before it, so it believes any cookie of a stranger: of an address
// that has no session and no handshake here. It is answered in the same way if it goes on
// with a handshake that was displaced after the client had returned its cookie.
func (l *Listener) answerStaleCookie(from route, r record.Record, stranger bool, now time.Time) bool {
	if stranger && l.answerLastFlight(from, r, now) {
		return true
	}
	hasCookie, isKnown := l.cookieIn(from, r)
	if !hasCookie || !isKnown && (!stranger || now.Sub(l.began) >= staleCookieTime) {
		return false
	}
	if !isKnown && l.drawsCookies && !l.hellos.isRepeated(flightKey(from.peer, r.Fragment()), now) {
		// A client of this listener, for which nothing is kept yet, could be at the address. By
		// the time that a client repeats its ClientHello it would have a handshake.
		return false
	}
	return l.tellToRestart(from, r, isKnown, 0, now)
}

// answerLastFlight answers a client's last flight in a full handshake that has ended, and
// reports whether the client was told. Anybody can have sent it in the client's name.
func (l *Listener) answerLastFlight(from route, r record.Record, now time.Time) bool {
	if !isLastFlight(r) {
		return false
	}
	description, ok := l.stale.lastFlight(from.peer)
	if !ok || !l.stale.allow(from.peer, false, 2*l.admission.roundTrip(), now) {
		return false
	}
	if description == record.HandshakeFailure {
		l.counters.toldToRestart.Add(1)
	}
	from.send(plaintextAlert(record.Alert{Level: record.LevelFatal, Description: description}, r, lastFlightSequence))
	return true
}

// lastFlight stands for the cookie of a client that has returned it.
var lastFlight = []byte("last flight")

// isLastFlight reports whether a record is the first one of a client's last flight in a full
// handshake.
func isLastFlight(r record.Record) bool {
	if r.Type != record.TypeHandshake || r.Epoch != 0 {
		return false
	}
	m, _, ok := record.NextHandshake(r.Fragment())
	return ok && m.MessageSeq == 2 && (m.Type == record.MessageCertificate || m.Type == record.MessageClientKeyExchange)
}

// cookieIn reports whether a record is a ClientHello with a cookie, and whether that is
// remembered as one that was sent to its peer.
func (l *Listener) cookieIn(from route, r record.Record) (hasCookie, isKnown bool) {
	if r.Type != record.TypeHandshake || r.Epoch != 0 {
		return false, false
	}
	f, _, ok := record.NextHandshake(r.Fragment())
	if !ok {
		return false, false
	}
	hello, ok := record.ClientHelloStart(f)
	if !ok || len(hello.Cookie) == 0 {
		return false, false
	}
	return true, l.stale.has(from.peer, hello.Cookie)
}

// tellToRestart has a client begin its handshake anew, by a fatal alert in answer to a record
// of the client. It reports false if the client, or too many clients, were told already.
func (l *Listener) tellToRestart(from route, r record.Record, isKnown bool, roundTrip time.Duration, now time.Time) bool {
	if !l.stale.allow(from.peer, isKnown, 2*max(l.admission.roundTrip(), min(roundTrip, longPatience)), now) {
		return false
	}
	l.counters.toldToRestart.Add(1)
	// A client takes a record with the sequence number of an earlier one for a replay, such as
	// that of a HelloVerifyRequest.
	from.send(plaintextAlert(record.Alert{Level: record.LevelFatal, Description: record.HandshakeFailure}, r, restartSequence))
	return true
}

// plaintextAlert returns a datagram with an alert that answers a record. Its sequence number is
// the record's plus offset.
func plaintextAlert(alert record.Alert, r record.Record, offset uint64) []byte {
	payload := alert.Payload()
	datagram := record.AppendHeader(nil, record.TypeAlert, 0, min(r.Sequence+offset, record.LastSequence), len(payload))
	datagram = append(datagram, payload...)
	if hello, ok := record.ParseClientHello(r); ok && hello.Version == record.Version10 {
		record.PutVersion(datagram, record.Version10)
	}
	return datagram
}
