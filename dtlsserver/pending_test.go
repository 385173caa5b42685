// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"testing"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHeldRecordsAreBounded: anybody can send records for a session to come.
func TestHeldRecordsAreBounded(t *testing.T) {
	t.Parallel()
	h := &pending{}
	r := record.Record{Type: record.TypeApplicationData, Epoch: 1, Raw: make([]byte, record.HeaderSize+100)}
	for range heldRecords {
		require.True(t, h.holdLocked(route{}, r))
	}
	assert.False(t, h.holdLocked(route{}, r), "their number is bounded")
	assert.Len(t, h.held, heldRecords)

	h = &pending{}
	r.Raw = make([]byte, heldBytes/2+1)
	assert.True(t, h.holdLocked(route{}, r))
	assert.False(t, h.holdLocked(route{}, r), "and so is their size")
	r.Raw = make([]byte, heldBytes/2-1)
	assert.True(t, h.holdLocked(route{}, r))

	// The socket's buffer is used again for the next record.
	r.Raw = []byte{1, 2, 3}
	h = &pending{}
	assert.True(t, h.holdLocked(route{}, r))
	r.Raw[0] = 9
	assert.Equal(t, []byte{1, 2, 3}, h.held[0].raw)
}
