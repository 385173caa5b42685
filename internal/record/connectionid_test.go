// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// idOf returns a connection ID of n bytes.
func idOf(first byte, n int) []byte {
	id := make([]byte, n)
	for i := range id {
		id[i] = first + byte(i)
	}
	return id
}

// newSessionsWithIDs returns the two sides of a session in which the records to each side
// have connection IDs.
func newSessionsWithIDs(t testing.TB, id SuiteID, toClient, toServer []byte) (client, server *Session) {
	t.Helper()
	c := newConfig(id, true)
	c.ConnectionID, c.PeerConnectionID = toClient, toServer
	client, err := New(c)
	require.NoError(t, err)
	c.IsClient, c.ConnectionID, c.PeerConnectionID = false, toServer, toClient
	server, err = New(c)
	require.NoError(t, err)
	return client, server
}

// parseFor parses a datagram that is one record for a session.
func parseFor(t testing.TB, s *Session, datagram []byte) Record {
	t.Helper()
	r, rest, fault := NextWithID(datagram, len(s.ConnectionID()))
	require.Equal(t, NoFault, fault)
	require.Empty(t, rest)
	return r
}

// sealInner returns a record of s whose inner plaintext is as given.
func sealInner(t testing.TB, s *Session, sequence uint64, inner []byte) []byte {
	t.Helper()
	c, err := s.buildCiphers()
	require.NoError(t, err)
	last := len(inner) - 1
	return appendSealed(c.local, nil, Type(inner[last]), 1, sequence, s.PeerConnectionID(), inner[:last])
}

// eachPairOfIDs calls f with IDs of all lengths, in the records to the client and to the
// server.
func eachPairOfIDs(f func(toClient, toServer []byte)) {
	lengths := []int{0, 1, 8, 20, 255}
	for _, client := range lengths {
		for _, server := range lengths {
			f(idOf(0xc0, client), idOf(0x50, server))
		}
	}
}

func TestRecordsHaveConnectionIDOfTheirDirection(t *testing.T) {
	forEachSuite(t, func(t *testing.T, id SuiteID) {
		eachPairOfIDs(func(toClient, toServer []byte) {
			client, server := newSessionsWithIDs(t, id, toClient, toServer)
			for _, direction := range []struct{ from, to *Session }{{client, server}, {server, client}} {
				from, to := direction.from, direction.to
				want := to.ConnectionID()
				for n, kind := range []Type{TypeAlert, TypeHandshake, TypeApplicationData, TypeRoutabilityCheck} {
					if len(want) == 0 && kind == TypeRoutabilityCheck {
						continue // never the type of a header
					}
					payload := bytes.Repeat([]byte{byte(n)}, []int{0, 1, 16, from.MaxPayload()}[n])
					raw, err := from.Seal([]byte("prefix"), kind, payload)
					require.NoError(t, err)
					require.Equal(t, "prefix", string(raw[:6]))
					r := parseFor(t, to, raw[6:])
					require.Equal(t, len(want) > 0, r.Type == TypeConnectionID)
					require.Equal(t, string(want), string(r.ConnectionID))
					require.LessOrEqual(t, len(r.Raw), len(payload)+from.Overhead())
					original := bytes.Clone(r.Raw)

					opened, got, err := from.OpenOwn(r)
					require.NoError(t, err)
					require.Equal(t, kind, got)
					require.Equal(t, payload, append([]byte{}, opened...))
					opened, got, err = to.Open([]byte("prefix"), r)
					require.NoError(t, err)
					require.Equal(t, kind, got)
					require.Equal(t, "prefix"+string(payload), string(opened))
					require.Equal(t, original, r.Raw, "Open does not change the record")
					_, _, err = to.Open(nil, r)
					require.ErrorIs(t, err, ErrReplay)

					raw, err = to.SealAsPeer(nil, kind, uint64(50+n), payload)
					require.NoError(t, err)
					opened, got, err = to.Open(nil, parseFor(t, to, raw))
					require.NoError(t, err)
					require.Equal(t, kind, got)
					require.Equal(t, payload, append([]byte{}, opened...))
				}
				_, err := from.Seal(nil, TypeApplicationData, make([]byte, from.MaxPayload()+1))
				require.ErrorIs(t, err, ErrTooLong)
			}
		})
	})
}

// TestOpenOpensRecordsOfPion uses records that pion has sealed.
func TestOpenOpensRecordsOfPion(t *testing.T) {
	text, err := os.ReadFile("testdata/connectionid.txt")
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")[2:]
	require.Len(t, lines, 6)
	for _, line := range lines {
		fields := strings.Fields(line)
		suite, err := strconv.ParseUint(fields[0], 16, 16)
		require.NoError(t, err)
		var values [5][]byte
		for i := range values {
			values[i], err = hex.DecodeString(fields[1+i])
			require.NoError(t, err)
		}
		s, err := New(Config{
			Suite: SuiteID(suite), MasterSecret: values[0], ClientRandom: Random(values[1]), ServerRandom: Random(values[2]), Epoch: 1,
			ConnectionID: values[3],
		})
		require.NoError(t, err)
		payload, kind, err := s.Open(nil, parseFor(t, s, values[4]))
		require.NoError(t, err, fields[0])
		assert.Equal(t, TypeApplicationData, kind)
		assert.Equal(t, "sealed by pion", string(payload))
	}
}

// TestAdditionalDataWithConnectionID is an example of RFC 9146 section 5.3, written out.
func TestAdditionalDataWithConnectionID(t *testing.T) {
	id := idOf(1, 8)
	header := AppendHeader(nil, TypeConnectionID, 2, 277, 0)
	header = append(append(header[:11], id...), 0xaa, 0xaa)
	assert.Equal(t, []byte{
		255, 255, 255, 255, 255, 255, 255, 255, 25, 8, 25, 254, 253, 0, 2, 0, 0, 0, 0, 1, 21, 1, 2, 3, 4, 5, 6, 7, 8, 6, 248,
	}, appendAdditional(nil, header, 1784))
}

// TestRecordWithOtherConnectionIDCostsNoCiphers: neither another ID nor a record of another
// form is opened.
func TestRecordWithOtherConnectionIDCostsNoCiphers(t *testing.T) {
	forEachSuite(t, func(t *testing.T, id SuiteID) {
		with, without := idOf(1, 8), []byte(nil)
		for _, tc := range []struct{ of, to []byte }{
			{idOf(2, 8), with}, {with[:7], with}, {append(bytes.Clone(with), 9), with}, {without, with}, {with, without},
		} {
			client, _ := newSessionsWithIDs(t, id, nil, tc.of)
			_, server := newSessionsWithIDs(t, id, nil, tc.to)
			raw, err := client.Seal(nil, TypeApplicationData, []byte("x"))
			require.NoError(t, err)
			r, _, fault := NextWithID(raw, len(tc.of))
			require.Equal(t, NoFault, fault)
			for _, open := range []func() error{
				func() error { _, _, err := server.Open(nil, r); return err },
				func() error { _, _, err := server.Peek(r); return err },
			} {
				require.ErrorIs(t, open(), ErrConnectionID)
				require.False(t, server.HasCiphers())
			}
			own, _ := newSessionsWithIDs(t, id, nil, tc.to)
			_, _, err = own.OpenOwn(r)
			require.ErrorIs(t, err, ErrConnectionID)
			require.False(t, own.HasCiphers())
		}
		_, server := newSessionsWithIDs(t, id, nil, nil)
		raw := newRecord(TypeConnectionID, 1, 1, make([]byte, 100)...)
		_, _, err := server.Open(nil, Record{Type: TypeConnectionID, Epoch: 1, Sequence: 1, Raw: raw})
		require.ErrorIs(t, err, ErrConnectionID, "no ID in the header")
	})
}

// TestOpenRejectsForgedRecordWithConnectionID changes each bit of a record: of the header,
// the ID and the fragment.
func TestOpenRejectsForgedRecordWithConnectionID(t *testing.T) {
	forEachSuite(t, func(t *testing.T, id SuiteID) {
		client, server := newSessionsWithIDs(t, id, idOf(1, 20), idOf(2, 8))
		genuine, err := client.Seal(nil, TypeApplicationData, []byte("genuine"))
		require.NoError(t, err)
		for bit := range len(genuine) * 8 {
			forged := bytes.Clone(genuine)
			forged[bit/8] ^= 1 << (bit % 8)
			r, _, fault := NextWithID(forged, 8)
			if fault != NoFault {
				continue
			}
			original := bytes.Clone(r.Raw)
			opened, _, err := server.Open([]byte("x"), r)
			require.Error(t, err, "bit %d", bit)
			require.Equal(t, "x", string(opened))
			require.Equal(t, original, r.Raw)
		}
		r := parseFor(t, server, genuine)
		for n := range len(r.Fragment()) {
			truncated := r
			truncated.Raw = r.Raw[:r.headerSize()+n]
			_, _, err := server.Open(nil, truncated)
			require.ErrorIs(t, err, ErrNotAuthentic)
		}
		// An ID that only the record's field claims is not the one that was sealed.
		raw := bytes.Clone(genuine)
		raw[HeaderSize-2] ^= 1
		_, _, err = server.Open(nil, Record{Type: r.Type, Epoch: r.Epoch, Sequence: r.Sequence, ConnectionID: server.ConnectionID(), Raw: raw})
		require.ErrorIs(t, err, ErrNotAuthentic)
		opened, _, err := server.Open(nil, r)
		require.NoError(t, err)
		assert.Equal(t, "genuine", string(opened))
	})
}

func TestOpenRemovesPaddingOfInnerPlaintext(t *testing.T) {
	forEachSuite(t, func(t *testing.T, id SuiteID) {
		client, server := newSessionsWithIDs(t, id, nil, idOf(1, 8))
		sequence := uint64(0)
		open := func(inner []byte) ([]byte, Type, error) {
			sequence++
			return server.Open([]byte{21, 0}, parseFor(t, server, sealInner(t, client, sequence, inner)))
		}
		for _, payload := range []string{"", "x", "ends with zeros\x00\x00", "\x00"} {
			for _, zeros := range []int{0, 1, 15, 16, 300} {
				inner := append(append([]byte(payload), byte(TypeAlert)), make([]byte, zeros)...)
				opened, kind, err := open(inner)
				require.NoError(t, err)
				assert.Equal(t, TypeAlert, kind)
				assert.Equal(t, "\x15\x00"+payload, string(opened))
			}
		}
		for _, zeros := range []int{1, 2, 300, MaxPlaintext} {
			for range 2 {
				opened, _, err := open(make([]byte, zeros))
				require.ErrorIs(t, err, ErrNotAuthentic)
				require.Equal(t, []byte{21, 0}, opened)
			}
		}
		require.True(t, server.window.Check(sequence), "a record without a type is not marked")
		full := make([]byte, MaxPlaintext)
		full[0] = byte(TypeApplicationData)
		_, _, err := open(full)
		require.NoError(t, err)
		_, _, err = open(append(full, 0))
		require.ErrorIs(t, err, ErrNotAuthentic, "RFC 9146 section 5 bounds the inner plaintext")
		// A record without even a type.
		c, err := client.buildCiphers()
		require.NoError(t, err)
		raw := appendSealed(c.local, nil, TypeConnectionID, 1, 1000, nil, nil)
		raw = append(append(bytes.Clone(raw[:11]), server.ConnectionID()...), raw[11:]...)
		_, _, err = server.Open(nil, parseFor(t, server, raw))
		require.ErrorIs(t, err, ErrNotAuthentic)
	})
}

func TestConnectionIDsAreBoundedAndCopied(t *testing.T) {
	c := newConfig(0x00a8, true)
	c.ConnectionID = make([]byte, 256)
	_, err := New(c)
	require.Error(t, err)
	c.ConnectionID, c.PeerConnectionID = nil, make([]byte, 256)
	_, err = New(c)
	require.Error(t, err)

	own, peer := idOf(1, 8), idOf(2, 20)
	c.ReplayWindow = minWindowSize
	c.ConnectionID, c.PeerConnectionID = own, peer
	s, err := New(c)
	require.NoError(t, err)
	assert.Equal(t, c, s.Config())
	own[0], peer[0] = 0xff, 0xff
	assert.Equal(t, idOf(1, 8), s.ConnectionID())
	assert.Equal(t, idOf(2, 20), s.PeerConnectionID())
	assert.Panics(t, func() { s.SetConnectionIDs(make([]byte, 256), nil) })
	assert.Panics(t, func() { s.SetConnectionIDs(nil, make([]byte, 256)) })

	parsed, err := ParseState(s.AppendState(nil))
	require.NoError(t, err)
	assert.Empty(t, parsed.ConnectionID())
	assert.Empty(t, parsed.PeerConnectionID())
	parsed.SetConnectionIDs(s.ConnectionID(), s.PeerConnectionID())
	assert.Equal(t, s.Config(), parsed.Config())
	parsed.SetConnectionIDs(nil, nil)
	assert.Nil(t, parsed.ids)
}

func TestSessionIsSmall(t *testing.T) {
	assert.LessOrEqual(t, int(unsafe.Sizeof(Session{})), 176)
}

// TestConnectionIDsAllocateNothing compares sealing and opening with IDs and without.
func TestConnectionIDsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	forEachSuite(t, func(t *testing.T, id SuiteID) {
		payload, sealed, opened := make([]byte, 100), make([]byte, 0, 1024), make([]byte, 0, 1024)
		allocs := func(n int) float64 {
			client, server := newSessionsWithIDs(t, id, nil, idOf(1, n))
			return testing.AllocsPerRun(200, func() {
				raw, err := client.Seal(sealed, TypeApplicationData, payload)
				require.NoError(t, err)
				r, _, _ := NextWithID(raw, n)
				_, _, err = server.Open(opened, r)
				require.NoError(t, err)
			})
		}
		without := allocs(0)
		for _, n := range []int{1, 8, 20, 255} {
			assert.Equal(t, without, allocs(n), n)
		}
		switch suiteOf(id).mode {
		case modeGCM:
			assert.Zero(t, without)
		case modeCBC:
			assert.LessOrEqual(t, without, 2.0)
		}
	})
}

// FuzzOpenWithID seals an inner plaintext with each suite, and opens it after it was
// changed, and as it is.
func FuzzOpenWithID(f *testing.F) {
	f.Add([]byte("payload"), byte(TypeApplicationData), uint16(3), uint8(8), uint64(1), uint16(3), byte(1))
	f.Add([]byte{}, byte(0), uint16(0), uint8(255), uint64(LastSequence), uint16(300), byte(0x80))
	f.Add([]byte{0, 0}, byte(0), uint16(40), uint8(1), uint64(7), uint16(11), byte(0))
	f.Fuzz(func(t *testing.T, payload []byte, kind byte, padding uint16, idLength uint8, sequence uint64, offset uint16, flip byte) {
		if len(payload) > 4096 || padding > 4096 || idLength == 0 {
			return
		}
		sequence &= LastSequence
		inner := append(append(bytes.Clone(payload), kind), make([]byte, padding)...)
		stripped := bytes.TrimRight(inner, "\x00")
		for i := range suites {
			client, server := newSessionsWithIDs(t, suites[i].id, nil, idOf(1, int(idLength)))
			raw := sealInner(t, client, sequence, inner)
			forged := bytes.Clone(raw)
			forged[int(offset)%len(raw)] ^= flip
			if r, _, fault := NextWithID(forged, int(idLength)); fault == NoFault && flip != 0 {
				_, _, err := server.Open(nil, r)
				require.Error(t, err)
			}
			opened, got, err := server.Open(nil, parseFor(t, server, raw))
			if len(stripped) == 0 {
				require.ErrorIs(t, err, ErrNotAuthentic)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, stripped, append(opened, byte(got)))
		}
	})
}
