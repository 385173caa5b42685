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
	assert.Equal(t, Record{TypeAlert, 0xfffe, MaxSequence, nil, r.Raw}, r)
	assert.Equal(t, []byte{2, 40}, r.Fragment())
}

func TestNextWithIDReportsFaultAndReadsOn(t *testing.T) {
	valid := newRecordWithID(idOf(0xa0, 8), 1, 7, 1, 2, 3)
	with := func(offset int, value byte) []byte {
		b := bytes.Clone(valid)
		b[offset] = value
		return b
	}
	for _, tc := range []struct {
		name     string
		datagram []byte
		idLength int
		fault    Fault
	}{
		{"valid", valid, 8, NoFault},
		{"ID of one byte", newRecordWithID(idOf(0xa0, 1), 1, 7, 1, 2, 3), 1, NoFault},
		{"ID of 255 bytes", newRecordWithID(idOf(0, 255), 1, 7), 255, NoFault},
		{"another type has no ID", newRecord(TypeApplicationData, 1, 7, 1, 2, 3), 8, NoFault},
		{"no length of an ID", newRecord(TypeConnectionID, 1, 7, 1, 2, 3), 0, BadType},
		{"heartbeat", newRecord(24, 1, 7, 1, 2, 3), 8, BadType},
		{"type 26", newRecord(26, 1, 7, 1, 2, 3), 8, BadType},
		{"routability check outside", newRecord(TypeRoutabilityCheck, 1, 7, 1, 2, 3), 8, BadType},
		{"truncated header", valid[:HeaderSize+7], 8, Truncated},
		{"truncated ID", valid[:HeaderSize-1], 8, Truncated},
		{"truncated fragment", valid[:len(valid)-1], 8, Truncated},
		{"version of TLS", with(1, 3), 8, BadVersion},
		{"longer than allowed", newRecordWithID(idOf(0, 8), 1, 7, make([]byte, maxFragment+1)...), 8, TooLong},
		{"as long as allowed", newRecordWithID(idOf(0, 8), 1, 7, make([]byte, maxFragment)...), 8, NoFault},
	} {
		t.Run(tc.name, func(t *testing.T) {
			next := newRecord(TypeAlert, 2, MaxSequence, 1, 0)
			r, rest, fault := NextWithID(append(bytes.Clone(tc.datagram), next...), tc.idLength)
			if tc.fault == Truncated {
				r, rest, fault = NextWithID(tc.datagram, tc.idLength)
				assert.Nil(t, rest)
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

func TestNextWithIDParsesHeader(t *testing.T) {
	r, _, _ := NextWithID(newRecordWithID(idOf(0xa0, 8), 0xfffe, MaxSequence, 2, 40), 8)
	assert.Equal(t, Record{TypeConnectionID, 0xfffe, MaxSequence, idOf(0xa0, 8), r.Raw}, r)
	assert.Equal(t, []byte{2, 40}, r.Fragment())
}

func TestCloneDoesNotReferToDatagram(t *testing.T) {
	for _, datagram := range [][]byte{newRecordWithID(idOf(0xa0, 8), 1, 7, 2, 40), newRecord(TypeAlert, 1, 7, 2, 40)} {
		r, _, _ := NextWithID(datagram, 8)
		want, _, _ := NextWithID(bytes.Clone(datagram), 8)
		clone := r.Clone()
		clear(datagram)
		assert.Equal(t, want, clone)
	}
}

// FuzzNextWithID compares the records of a datagram with those that Next finds when the ID is
// taken out.
func FuzzNextWithID(f *testing.F) {
	f.Add(append(newRecordWithID(idOf(0xa0, 8), 1, 9, 3), newRecord(TypeApplicationData, 1, 9, 3)...), uint8(8))
	f.Add(newRecordWithID(idOf(0xa0, 1), 1, 9), uint8(1))
	f.Add(newRecordWithID(idOf(0, 255), 1, 9, make([]byte, 300)...), uint8(255))
	f.Add(newRecordWithID(idOf(0xa0, 8), 1, 9, 3)[:HeaderSize+4], uint8(8))
	f.Add(newRecord(TypeConnectionID, 1, 9, 3), uint8(0))
	f.Fuzz(func(t *testing.T, datagram []byte, idLength uint8) {
		for rest := datagram; len(rest) > 0; {
			all := rest
			var r Record
			var fault Fault
			r, rest, fault = NextWithID(all, int(idLength))
			require.Less(t, len(rest), len(all), "no progress")
			plain := all // the same record, as one of application data without an ID
			if Type(all[0]) == TypeConnectionID && idLength > 0 {
				plain = append(bytes.Clone(all[:min(11, len(all))]), all[min(11+int(idLength), len(all)):]...)
				plain[0] = byte(TypeApplicationData)
			}
			want, wantRest, wantFault := Next(plain)
			require.Equal(t, wantFault, fault)
			require.Equal(t, append([]byte{}, wantRest...), append([]byte{}, rest...))
			if fault != NoFault {
				require.Zero(t, r)
				continue
			}
			require.Equal(t, all, append(bytes.Clone(r.Raw), rest...))
			require.Equal(t, want.Epoch, r.Epoch)
			require.Equal(t, want.Sequence, r.Sequence)
			require.Equal(t, want.Fragment(), r.Fragment())
			require.Equal(t, r, r.Clone())
			require.Equal(t, r.Type == TypeConnectionID, r.ConnectionID != nil)
			if r.Type == TypeConnectionID {
				require.Equal(t, all[11:11+int(idLength)], r.ConnectionID)
			}
		}
	})
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
