// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"testing"

	"github.com/pion/dtls/v2/pkg/protocol/recordlayer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rec is a record with a fragment of its own making.
func rec(t Type, epoch uint16, sequence uint64, fragment ...byte) []byte {
	b := make([]byte, HeaderSize, HeaderSize+len(fragment))
	PutHeader(b, t, epoch, sequence, len(fragment))
	return append(b, fragment...)
}

func TestNext(t *testing.T) {
	whole := rec(TypeApplicationData, 1, 7, 1, 2, 3)
	with := func(at int, value byte) []byte {
		b := bytes.Clone(whole)
		b[at] = value
		return b
	}
	for _, c := range []struct {
		name     string
		datagram []byte
		fault    Fault
	}{
		{"sound", whole, NoFault},
		{"no byte after the header", rec(TypeHandshake, 0, 0), NoFault},
		{"the number of DTLS 1.0", with(2, 255), NoFault},
		{"a header cut short", whole[:HeaderSize-1], Truncated},
		{"a fragment cut short", whole[:len(whole)-1], Truncated},
		{"content type below", with(0, 19), BadType},
		{"heartbeat", with(0, 24), BadType},
		{"a connection ID's", with(0, 25), BadType},
		{"DTLS 1.3's unified header", with(0, 0x2f), BadType},
		{"TLS", with(1, 3), BadVersion},
		{"no version of DTLS", with(2, 252), BadVersion},
		{"too long", rec(TypeApplicationData, 1, 7, make([]byte, maxFragment+1)...), TooLong},
		{"as long as may be", rec(TypeApplicationData, 1, 7, make([]byte, maxFragment)...), NoFault},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := rec(TypeAlert, 2, MaxSequence, 1, 0)
			r, rest, fault := Next(append(bytes.Clone(c.datagram), next...))
			if c.fault == Truncated {
				// Whatever follows is taken for the missing bytes: try it alone.
				r, rest, fault = Next(c.datagram)
				assert.Empty(t, rest)
			} else {
				assert.Equal(t, next, rest, "the records after a bad one are still read")
			}
			assert.Equal(t, c.fault, fault)
			if c.fault == NoFault {
				assert.Equal(t, c.datagram, r.Raw)
			} else {
				assert.Zero(t, r)
			}
		})
	}
	r, _, _ := Next(rec(TypeAlert, 0xfffe, MaxSequence, 2, 40))
	assert.Equal(t, Record{TypeAlert, 0xfffe, MaxSequence, r.Raw}, r)
	assert.Equal(t, []byte{2, 40}, r.Fragment())
}

// FuzzNext compares the split with pion's, which knows no bounds and gives up at the
// first fault.
func FuzzNext(f *testing.F) {
	f.Add(append(rec(TypeHandshake, 0, 1, 1, 2), rec(TypeApplicationData, 1, 9, 3)...))
	f.Add(rec(TypeAlert, 0, 0)[:5])
	f.Fuzz(func(t *testing.T, datagram []byte) {
		var sound [][]byte
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
			again := make([]byte, HeaderSize)
			PutHeader(again, r.Type, r.Epoch, r.Sequence, len(r.Fragment()))
			again[2] = r.Raw[2]
			require.Equal(t, r.Raw[:HeaderSize], again)
			sound = append(sound, r.Raw)

			var h recordlayer.Header
			require.NoError(t, h.Unmarshal(r.Raw))
			require.Equal(t, h.Epoch, r.Epoch)
			require.Equal(t, h.SequenceNumber, r.Sequence)
			if r.Type == TypeHandshake {
				fuzzHandshake(t, r)
			}
		}
		if faults == 0 && len(datagram) > 0 {
			// It refuses datagrams that end with an empty record.
			if pions, err := recordlayer.UnpackDatagram(datagram); err == nil {
				require.Equal(t, pions, sound)
			} else {
				require.Len(t, sound[len(sound)-1], HeaderSize)
			}
		}
	})
}

func fuzzHandshake(t *testing.T, r Record) {
	for rest := r.Fragment(); len(rest) > 0; {
		before := len(rest)
		h, after, ok := NextHandshake(rest)
		if !ok {
			break
		}
		require.Less(t, len(after), before)
		require.LessOrEqual(t, h.Offset+len(h.Body), h.Length)
		rest = after
	}
	ParseClientHello(r)
}
