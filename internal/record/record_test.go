// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"testing"

	"github.com/pion/dtls/v2/pkg/protocol/recordlayer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNextReportsFaultAndReadsOn(t *testing.T) {
	valid := newRecord(TypeApplicationData, 1, 7, 1, 2, 3)
	with := func(offset int, value byte) []byte {
		b := bytes.Clone(valid)
		b[offset] = value
		return b
	}
	for _, tc := range []struct {
		name     string
		datagram []byte
		fault    Fault
	}{
		{"valid", valid, NoFault},
		{"empty fragment", newRecord(TypeHandshake, 0, 0), NoFault},
		{"version of DTLS 1.0", with(2, 255), NoFault},
		{"truncated header", valid[:HeaderSize-1], Truncated},
		{"truncated fragment", valid[:len(valid)-1], Truncated},
		{"content type 19", with(0, 19), BadType},
		{"heartbeat", with(0, 24), BadType},
		{"connection ID", with(0, 25), BadType},
		{"unified header of DTLS 1.3", with(0, 0x2f), BadType},
		{"version of TLS", with(1, 3), BadVersion},
		{"unknown version", with(2, 252), BadVersion},
		{"longer than allowed", newRecord(TypeApplicationData, 1, 7, make([]byte, maxFragment+1)...), TooLong},
		{"as long as allowed", newRecord(TypeApplicationData, 1, 7, make([]byte, maxFragment)...), NoFault},
	} {
		t.Run(tc.name, func(t *testing.T) {
			next := newRecord(TypeAlert, 2, MaxSequence, 1, 0)
			r, rest, fault := Next(append(bytes.Clone(tc.datagram), next...))
			if tc.fault == Truncated {
				// A following record would supply the missing bytes.
				r, rest, fault = Next(tc.datagram)
				assert.Empty(t, rest)
			} else {
				assert.Equal(t, next, rest)
			}
			assert.Equal(t, tc.fault, fault)
			if tc.fault == NoFault {
				assert.Equal(t, tc.datagram, r.Raw)
			} else {
				assert.Zero(t, r)
			}
		})
	}
}

func TestNextParsesHeader(t *testing.T) {
	r, _, _ := Next(newRecord(TypeAlert, 0xfffe, MaxSequence, 2, 40))
	assert.Equal(t, Record{TypeAlert, 0xfffe, MaxSequence, r.Raw}, r)
	assert.Equal(t, []byte{2, 40}, r.Fragment())
}

// FuzzNext compares the records of a datagram with those of pion, which does not bound
// the length of a record and stops at the first fault.
func FuzzNext(f *testing.F) {
	f.Add(append(newRecord(TypeHandshake, 0, 1, 1, 2), newRecord(TypeApplicationData, 1, 9, 3)...))
	f.Add(newRecord(TypeAlert, 0, 0)[:5])
	f.Fuzz(func(t *testing.T, datagram []byte) {
		var records [][]byte
		faults := 0
		for rest := datagram; len(rest) > 0; {
			before := len(rest)
			var r Record
			var fault Fault
			r, rest, fault = Next(rest)
			require.Less(t, len(rest), before, "no progress")
			if fault != NoFault {
				faults++
				continue
			}
			header := make([]byte, HeaderSize)
			PutHeader(header, r.Type, r.Epoch, r.Sequence, len(r.Fragment()))
			header[2] = r.Raw[2]
			require.Equal(t, r.Raw[:HeaderSize], header)
			records = append(records, r.Raw)

			var pionHeader recordlayer.Header
			require.NoError(t, pionHeader.Unmarshal(r.Raw))
			require.Equal(t, pionHeader.Epoch, r.Epoch)
			require.Equal(t, pionHeader.SequenceNumber, r.Sequence)
			if r.Type == TypeHandshake {
				parseMessages(t, r)
			}
		}
		if faults == 0 && len(datagram) > 0 {
			// pion rejects a datagram that ends with an empty record.
			if pionRecords, err := recordlayer.UnpackDatagram(datagram); err == nil {
				require.Equal(t, pionRecords, records)
			} else {
				require.Len(t, records[len(records)-1], HeaderSize)
			}
		}
	})
}

// parseMessages parses the handshake messages of a fuzzed record.
func parseMessages(t *testing.T, r Record) {
	for payload := r.Fragment(); len(payload) > 0; {
		h, rest, ok := NextHandshake(payload)
		if !ok {
			break
		}
		require.Less(t, len(rest), len(payload))
		require.LessOrEqual(t, h.Offset+len(h.Body), h.Length)
		payload = rest
	}
	ParseClientHello(r)
}
