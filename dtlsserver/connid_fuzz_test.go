// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzDatagramWithID has a datagram arrive from the peer's address and from another one. It is
// the input, or the input between or behind what an attacker can have: a captured record, one
// with a live ID and nothing else, a ClientHello. It moves nothing, ends nothing and gets no
// answer, and no record but a captured one that was held back is received. Afterwards the
// session lives, at both addresses.
func FuzzDatagramWithID(f *testing.F) {
	header := func(kind record.Type, epoch uint16, n int) []byte {
		b := make([]byte, record.HeaderSize, record.HeaderSize+n)
		record.PutHeader(b, kind, epoch, 5, n)
		return append(b, make([]byte, n)...)
	}
	f.Add(uint8(0), uint8(0), []byte{25})
	f.Add(uint8(1), uint8(0), header(record.TypeConnectionID, 1, 60))
	f.Add(uint8(2), uint8(1), header(record.TypeHandshake, 0, 25))
	f.Add(uint8(2), uint8(2), dtlstest.Hello(7))
	f.Add(uint8(3), uint8(1), header(record.TypeApplicationData, 1, 30))
	f.Add(uint8(0), uint8(3), []byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, kind, changes uint8, input []byte) {
		synctest.Test(t, func(t *testing.T) {
			w := newMobileWorld(t, &scriptedHandshaker{rrc: true}, Config{ServerID: []byte{1}, AddressChange: AddressChange(changes % 2)})
			m := w.connect(t, place(1), 1)
			m.inject(place(1), m.data("before"))
			captured := m.data("captured")
			m.inject(place(1), captured)
			require.Len(t, m.received(place(1)), 2)

			var datagram []byte
			switch kind % 4 {
			case 0: // a captured record, changed at one place
				datagram = append(datagram, captured...)
				for i := 0; i+1 < len(input); i += 2 {
					datagram[int(input[i])%len(datagram)] ^= input[i+1]
				}
			case 1:
				datagram = input
			case 2: // behind a captured record
				datagram = append(append(datagram, captured...), input...)
			case 3: // behind a live ID
				datagram = append(append(append(datagram, captured[:record.HeaderSize-2]...), m.records.PeerConnectionID()...), input...)
			}
			before := w.Stats()
			m.inject(place(2), datagram)
			stats := w.Stats()
			assert.Equal(t, place(1), m.addrInTable())
			assert.Zero(t, stats.AddressChanges+stats.RoutabilityChecks+stats.Ignored)
			assert.Empty(t, w.takeSent(place(1)))
			if stats.Started == before.Started {
				assert.Empty(t, w.takeSent(place(2)))
				if len(datagram) > 0 {
					assert.Greater(t, droppedRecords(stats)+stats.Replayed, droppedRecords(before)+before.Replayed)
				}
			} else { // it was a ClientHello
				assert.Equal(t, uint8(1), kind%4)
				assert.EqualValues(t, before.Started+1, stats.Started)
			}
			_, ok := m.conn.UnverifiedAddress()
			assert.False(t, ok)
			m.inject(place(1), datagram)
			w.takeSent(place(1))
			if m.conn.EndReason() == 0 {
				m.inject(place(3), m.data("after"))
				assert.Contains(t, m.received(place(3)), echo("after"))
			} else {
				assert.Equal(t, Replaced, m.conn.EndReason()) // it was a ClientHello
			}
		})
	})
}
