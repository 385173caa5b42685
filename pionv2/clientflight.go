// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"

	"github.com/go-dsm/dsm/internal/record"
)

// maxEarly is how many protected records are kept until the keys are there: a Finished
// and its repetitions.
const maxEarly = 4

// clientFlight is the client's last flight, ChangeCipherSpec and Finished. Pion gets it
// once it is complete and the Finished was opened here, and not before pion has the
// master secret:
//
//   - Pion keeps records that come too early in buffers that it has given back to a pool.
//   - With a CBC suite pion slices out of bounds, in a goroutine of its own, if the
//     padding of a record is valid and longer than what it should leave for the MAC. A
//     client could end the process.
type clientFlight struct {
	changeCipherSpec []byte   // the record; nil: not received
	finished         []byte   // the record of the Finished, verified; nil: not received
	early            [][]byte // records that may be the Finished, and came before the keys
	passedOn         bool     // pion has been given both
}

// receive takes a ChangeCipherSpec or a protected handshake record. records is the
// session's, or nil while the keys are not known.
func (f *clientFlight) receive(r record.Record, records *record.Session) {
	switch {
	case r.Type == record.TypeChangeCipherSpec:
		if len(r.Fragment()) == 1 && r.Fragment()[0] == 1 && f.changeCipherSpec == nil {
			f.changeCipherSpec = bytes.Clone(r.Raw)
		}
	case records == nil:
		if len(f.early) == maxEarly {
			f.early = f.early[1:]
		}
		f.early = append(f.early, bytes.Clone(r.Raw))
	default:
		f.openFinished(r, records)
	}
}

// openEarly looks at the records that came before the keys.
func (f *clientFlight) openEarly(records *record.Session) {
	for _, raw := range f.early {
		r, _, _ := record.Next(raw)
		f.openFinished(r, records)
	}
	f.early = nil
}

// openFinished notes a record if it is the client's Finished.
func (f *clientFlight) openFinished(r record.Record, records *record.Session) {
	payload, err := records.Open(nil, r)
	if err != nil || f.finished != nil {
		return
	}
	if message, _, ok := record.NextHandshake(payload); ok && message.Type == record.MessageFinished {
		f.finished = bytes.Clone(r.Raw)
	}
}

// ready reports whether the flight is complete, and pion has not been given it yet.
func (f *clientFlight) ready() bool {
	return f.changeCipherSpec != nil && f.finished != nil && !f.passedOn
}

// forget makes the client repeat the flight.
func (f *clientFlight) forget() { *f = clientFlight{early: f.early} }
