// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
)

// finalFlight is the server's last flight in a full handshake, ChangeCipherSpec and
// Finished. The session sends it once it is established, and again when the client repeats
// its own (RFC 6347 section 4.2.4).
type finalFlight struct {
	nextPlaintext uint64 // the next sequence number of epoch 0
	finished      [finishedSize]byte
}

// finishedSize is the size of a Finished with its header, in bytes.
const finishedSize = record.HandshakeHeaderSize + record.VerifyDataSize

// newFinalFlight takes over the flight that a handshake has left. It returns nil if there is
// none.
func newFinalFlight(flight *handshake.Flight) *finalFlight {
	f := new(finalFlight)
	if flight == nil || copy(f.finished[:], flight.Finished) != finishedSize {
		return nil
	}
	f.nextPlaintext = flight.NextPlaintext
	return f
}

// next returns a datagram with the flight. It returns nil if f is nil. Each one has new records: a client may
// take a repeated one for a replay.
func (f *finalFlight) next(records *record.Session) []byte {
	if f == nil {
		return nil
	}
	datagram := make([]byte, record.HeaderSize, flightBuffer)
	record.PutHeader(datagram, record.TypeChangeCipherSpec, 0, f.nextPlaintext, 1)
	f.nextPlaintext++
	datagram, err := records.Seal(append(datagram, 1), record.TypeHandshake, f.finished[:])
	if err != nil {
		return nil
	}
	return datagram
}
