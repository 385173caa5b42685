// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"math"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
)

// finalFlight is the server's last flight in a full handshake, ChangeCipherSpec and
// Finished. The session sends it once it is established, and again when the client repeats
// its own (RFC 6347 section 4.2.4). The zero value means that there is no flight. It has only
// what is not the same in each flight: every session has room for it.
type finalFlight struct {
	nextPlaintext uint32 // the next sequence number of epoch 0; 0: no flight
	messageSeq    uint16 // of Finished
	verifyData    [record.VerifyDataSize]byte
}

// finishedSize is the size of a Finished with its header, in bytes.
const finishedSize = record.HandshakeHeaderSize + record.VerifyDataSize

// newFinalFlight takes over the flight that a handshake has left. It returns the zero value if
// there is none.
func newFinalFlight(flight *handshake.Flight) finalFlight {
	if flight == nil {
		return finalFlight{}
	}
	return finalFlightOf(flight.NextPlaintext, flight.Finished)
}

// finalFlightOf returns the flight with a Finished. It returns the zero value if that is none.
func finalFlightOf(nextPlaintext uint64, finished []byte) finalFlight {
	m, rest, ok := record.NextHandshake(finished)
	if !ok || len(rest) > 0 || m.Type != record.MessageFinished || !m.Complete() || m.Length != record.VerifyDataSize || nextPlaintext > math.MaxUint32 {
		return finalFlight{}
	}
	return finalFlight{uint32(nextPlaintext), m.MessageSeq, [record.VerifyDataSize]byte(m.Body)}
}

// finished returns the Finished with its header.
func (f *finalFlight) finished() []byte {
	m := record.Handshake{Type: record.MessageFinished, Length: record.VerifyDataSize, MessageSeq: f.messageSeq, Body: f.verifyData[:]}
	return m.Append(nil)
}

// next returns a datagram with the flight, or nil. Each one has new records: a client may
// take a repeated one for a replay.
func (f *finalFlight) next(records *record.Session) []byte {
	if f.nextPlaintext == 0 {
		return nil
	}
	datagram := make([]byte, record.HeaderSize, flightBuffer)
	record.PutHeader(datagram, record.TypeChangeCipherSpec, 0, uint64(f.nextPlaintext), 1)
	f.nextPlaintext++
	datagram, err := records.Seal(append(datagram, 1), record.TypeHandshake, f.finished())
	if err != nil {
		return nil
	}
	return datagram
}
