// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/go-dsm/dsm/internal/record"
)

// firstFlight is a datagram with which a client's handshake can begin: its first flight, or if
// the server draws the cookies, its second one.
type firstFlight struct {
	from           route
	datagram       []byte
	cookie         []byte        // which the client has returned; nil: the server draws none
	roundTrip      time.Duration // since the cookie was sent
	key            uint64        // stands for the client's address and its ClientHello
	arrived        time.Time     // when it was received last
	sessionUnknown bool          // Config.Resumption does not know the session that it names

	// The following is of a flight that was refused.
	waited        bool          // it waits in the backlog, or has waited there
	sessionRandom record.Random // the client's random of the session that the address had then, if it had one
}

// size returns what the flight occupies in the backlog, in bytes.
func (f *firstFlight) size() int { return flightOverhead + len(f.datagram) }

// newFirstFlight returns the flight of a datagram for which isClientHello reports true.
func newFirstFlight(from route, datagram []byte, now time.Time) firstFlight {
	r, _, _ := record.Next(datagram)
	return firstFlight{from: from, datagram: datagram, key: flightKey(from.peer, r.Fragment()), arrived: now}
}

// isClientHello reports whether a datagram holds nothing but a ClientHello with a message_seq,
// or fragments of one (RFC 6347 section 4.2.3). A client's first message has message_seq 0.
func isClientHello(datagram []byte, seq uint16) bool {
	length, received := 0, 0
	for len(datagram) > 0 {
		r, after, fault := record.Next(datagram)
		if fault != record.NoFault || r.Type != record.TypeHandshake || r.Epoch != 0 || len(r.Fragment()) == 0 {
			return false
		}
		datagram = after
		for rest := r.Fragment(); len(rest) > 0; {
			f, after, ok := record.NextHandshake(rest)
			if !ok || f.Type != record.MessageClientHello || f.MessageSeq != seq || len(f.Body) == 0 || length != 0 && f.Length != length {
				return false
			}
			if f.Complete() {
				if _, ok := record.ParseClientHelloBody(f.Body); !ok {
					return false
				}
			}
			rest, length = after, f.Length
			if received += len(f.Body); received > length {
				return false
			}
		}
	}
	return length > 0
}

// namesSession reports whether the ClientHello of a first flight names a session that may
// be in Config.Resumption. One in fragments does not say so yet.
func (l *Listener) namesSession(f firstFlight) bool {
	if l.config.Resumption == nil || f.sessionUnknown {
		return false
	}
	r, _, _ := record.Next(f.datagram)
	hello, ok := record.ParseClientHello(r)
	return ok && len(hello.SessionID) > 0
}

// keySeed is the seed of all keys: nobody can choose a ClientHello that has the key of
// another one.
var keySeed = maphash.MakeSeed()

// flightKey returns a hash of an address and of bytes.
func flightKey(peer netip.AddrPort, b []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(keySeed)
	addr := peer.Addr().As16()
	h.Write(addr[:])
	h.WriteByte(byte(peer.Port()))
	h.WriteByte(byte(peer.Port() >> 8))
	h.Write(b)
	return h.Sum64()
}

// isHelloOf reports whether a record is a ClientHello with a client's random.
func isHelloOf(r record.Record, random record.Random) bool {
	hello, ok := record.ParseClientHello(r)
	return ok && hello.Random == random
}
