// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// newRecord returns a record with the fragment as it is, not sealed.
func newRecord(t Type, epoch uint16, sequence uint64, fragment ...byte) []byte {
	b := make([]byte, HeaderSize, HeaderSize+len(fragment))
	PutHeader(b, t, epoch, sequence, len(fragment))
	return append(b, fragment...)
}

// newRecordWithID is newRecord for a record of TypeConnectionID.
func newRecordWithID(id []byte, epoch uint16, sequence uint64, fragment ...byte) []byte {
	b := newRecord(TypeConnectionID, epoch, sequence, fragment...)
	return slices.Insert(b, HeaderSize-2, id...)
}

// parseOne parses a datagram that is one record without a fault.
func parseOne(t testing.TB, datagram []byte) Record {
	t.Helper()
	r, rest, fault := Next(datagram)
	require.Equal(t, NoFault, fault)
	require.Empty(t, rest)
	return r
}

var (
	masterSecret = bytes.Repeat([]byte{0x5a}, 48)
	clientRandom = Random{0: 1, 31: 2}
	serverRandom = Random{0: 3, 31: 4}
)

func newConfig(id SuiteID, isClient bool) Config {
	return Config{
		Suite: id, MasterSecret: masterSecret, ClientRandom: clientRandom, ServerRandom: serverRandom,
		IsClient: isClient, Epoch: 1, NextSequence: 1,
	}
}

// newSessions returns the two sides of a session.
func newSessions(t testing.TB, id SuiteID) (client, server *Session) {
	t.Helper()
	client, err := New(newConfig(id, true))
	require.NoError(t, err)
	server, err = New(newConfig(id, false))
	require.NoError(t, err)
	return client, server
}

// seal returns a sealed record of application data as the peer parses it.
func seal(t testing.TB, s *Session, payload string) Record {
	t.Helper()
	raw, err := s.Seal(nil, TypeApplicationData, []byte(payload))
	require.NoError(t, err)
	return parseOne(t, raw)
}

func suiteOf(id SuiteID) *suite { return &suites[suiteIndex(id)] }

func forEachSuite(t *testing.T, f func(t *testing.T, id SuiteID)) {
	for _, s := range suites {
		t.Run(fmt.Sprintf("%#04x", uint16(s.id)), func(t *testing.T) { f(t, s.id) })
	}
}
