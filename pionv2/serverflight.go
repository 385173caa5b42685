// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
)

// epoch is that of the records of every session: pion does not renegotiate.
const epoch = 1

// serverFlight is what was seen of the records that pion has sent: what the session must
// know to go on after them.
type serverFlight struct {
	cookie []byte             // of the last HelloVerifyRequest
	hello  record.ServerHello // the zero ServerHello: not sent yet

	lastStarted   bool      // pion has sent its ChangeCipherSpec
	last          []byte    // the records of its last flight, from the ChangeCipherSpec on
	nextPlaintext uint64    // the sequence number after the last one that was sent in epoch 0
	nextProtected uint64    // and in epoch 1
	nonces        [][8]byte // the explicit nonces that pion has drawn
}

// watch notes what the session must know of a datagram that pion sends.
func (f *serverFlight) watch(datagram []byte) {
	for rest := datagram; len(rest) > 0; {
		r, after, fault := record.Next(rest)
		if fault != record.NoFault {
			return // pion sends none
		}
		rest = after
		if r.Epoch > 0 {
			f.nextProtected = max(f.nextProtected, r.Sequence+1)
			if b := r.Fragment(); len(b) >= 8 {
				f.nonces = append(f.nonces, [8]byte(b))
			}
		} else {
			f.nextPlaintext = max(f.nextPlaintext, r.Sequence+1)
		}
		if r.Type == record.TypeChangeCipherSpec {
			f.lastStarted = true
			f.last = f.last[:0]
		}
		if f.lastStarted {
			f.last = append(f.last, r.Raw...)
		}
		if r.Epoch == 0 && r.Type == record.TypeHandshake {
			f.watchMessage(r)
		}
	}
}

// watchMessage notes the cookie and the ServerHello.
func (f *serverFlight) watchMessage(r record.Record) {
	message, _, ok := record.NextHandshake(r.Fragment())
	switch {
	case !ok || !message.Complete():
	case message.Type == record.MessageHelloVerifyRequest && len(message.Body) > 3:
		f.cookie = bytes.Clone(message.Body[3:]) // after the version and the length
	case message.Type == record.MessageServerHello && f.hello == (record.ServerHello{}):
		f.hello, _ = record.ParseServerHello(message.Body)
	}
}

// continueAfter makes a session's record layer begin after what pion has sent.
func (f *serverFlight) continueAfter(records *record.Session) error {
	if !f.lastStarted || f.nextProtected == 0 || records == nil {
		// The same nonce twice under one key would give the key away.
		return errors.New("pionv2: pion's last flight was not seen, so its sequence numbers are not known")
	}
	for _, nonce := range f.nonces {
		// Pion draws its nonces at random. One of them is a nonce that the session could
		// come to once in 2^24 handshakes. There is no session then, and the client must
		// try again.
		if n, ours := nonceSequence(nonce); ours && n <= record.LastSequence+1 {
			return errors.New("pionv2: pion has used a nonce that the session could use")
		}
	}
	records.SetNextSequence(f.nextProtected)
	return nil
}

// repeatable returns the last flight for the case that the client misses it.
func (f *serverFlight) repeatable(records *record.Session) *handshake.Flight {
	for rest := f.last; len(rest) > 0; {
		r, after, fault := record.Next(rest)
		if fault != record.NoFault {
			return nil
		}
		if rest = after; r.Epoch > 0 {
			finished, err := records.OpenOwn(r)
			if err != nil {
				return nil
			}
			return &handshake.Flight{NextPlaintext: f.nextPlaintext, Finished: finished}
		}
	}
	return nil
}

// nonceSequence returns the sequence number whose nonce, as the record layer makes it, a
// nonce of pion's is, and whether it is one.
func nonceSequence(nonce [8]byte) (uint64, bool) {
	n := binary.BigEndian.Uint64(nonce[:])
	return n & record.MaxSequence, uint16(n>>48) == epoch
}
