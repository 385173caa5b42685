// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"net/netip"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/require"
)

// TestParsedStateSharesNoMemory with what it was parsed from: chunks of a snapshot are read
// into the same memory, and a session must not keep one.
func TestParsedStateSharesNoMemory(t *testing.T) {
	t.Parallel()
	records, err := record.New(record.Config{Suite: dtlstest.Suite, MasterSecret: make([]byte, 48), Epoch: 1})
	require.NoError(t, err)
	at := time.UnixMilli(1e12).UTC()
	s := &sessionState{
		peer: netip.MustParseAddrPort("[fe80::1%eth0]:5684"), source: netip.MustParseAddr("fe80::2%eth0"), records: records, scope: "scope",
		identity: handshake.Identity{
			PSKIdentity: []byte("device"), Certificates: [][]byte{[]byte("leaf"), []byte("intermediate")}, Verified: at, Protocol: "coap", ServerName: "server",
		},
		lastUsed: at, resumable: true, sessionID: "session ID", created: at, expires: at, data: []byte("data"),
		givesIDs: true, slot: 1, generation: 2, connectionID: []byte("ours"), peerConnectionID: []byte("theirs"), routabilityCheck: true,
		unread: [][]byte{[]byte("first"), []byte("second")},
	}
	marshalled := s.append(nil)
	input := append([]byte(nil), marshalled...)
	parsed, err := parseState(input)
	require.NoError(t, err)
	for i := range input {
		input[i] = '!'
	}
	require.Equal(t, marshalled, parsed.append(nil))
}
