// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDroppedRecordsAreCountedByTheirCause: some are authentic, and none is delivered.
func TestDroppedRecordsAreCountedByTheirCause(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		peer, err := dtlstest.ClientRecords(client.Conn, 1000)
		require.NoError(t, err)
		seal := func(kind record.Type, payload ...byte) []byte {
			sealed, err := peer.Seal(nil, kind, payload)
			require.NoError(t, err)
			return sealed
		}
		data := seal(record.TypeApplicationData, 'x')
		client.Send(t, data)
		require.Equal(t, "x", read(t, s))

		anotherEpoch := bytes.Clone(data)
		binary.BigEndian.PutUint16(anotherEpoch[3:], 2)
		forged := seal(record.TypeApplicationData, 'y')
		forged[len(forged)-1] ^= 1
		protectedChange := seal(record.TypeChangeCipherSpec, 1)
		finished := dtlstest.Message(record.MessageFinished, 9)
		for _, dropped := range []struct {
			name      string
			datagram  []byte
			count     func(dtlsserver.Stats) uint64
			authentic bool
		}{
			{"a replay", data, func(s dtlsserver.Stats) uint64 { return s.Replayed }, false},
			{"another epoch", anotherEpoch, func(s dtlsserver.Stats) uint64 { return s.Epoch }, false},
			{"a protected ChangeCipherSpec", protectedChange, func(s dtlsserver.Stats) uint64 { return s.Epoch }, false},
			{"a forged MAC", forged, func(s dtlsserver.Stats) uint64 { return s.Forged }, false},
			{"a header cut short", data[:10], func(s dtlsserver.Stats) uint64 { return s.Malformed }, false},
			{"a record cut short", data[:20], func(s dtlsserver.Stats) uint64 { return s.Malformed }, false},
			{"an unknown content type", append([]byte{99}, data[1:]...), func(s dtlsserver.Stats) uint64 { return s.Malformed }, false},
			{"a warning", seal(record.TypeAlert, record.LevelWarning, 90), func(s dtlsserver.Stats) uint64 { return s.Ignored }, true},
			{"an alert of three bytes", seal(record.TypeAlert, 1, 2, 3), func(s dtlsserver.Stats) uint64 { return s.Ignored }, true},
			{"a handshake message", seal(record.TypeHandshake, finished...), func(s dtlsserver.Stats) uint64 { return s.Ignored }, true},
		} {
			had, uses := dropped.count(l.Stats()), l.Table().Stats().Uses
			client.Send(t, dropped.datagram)
			synctest.Wait()
			require.Equal(t, had+1, dropped.count(l.Stats()), dropped.name)
			assert.Equal(t, dropped.authentic, l.Table().Stats().Uses > uses, "only what is authentic is use: %s", dropped.name)
		}
		require.Equal(t, dsm.StateEstablished, s.State())
		require.Zero(t, s.Unread(), "only the first one was delivered")

		client.Send(t, seal(record.TypeAlert, record.LevelFatal, 40))
		synctest.Wait()
		assert.EqualValues(t, 1, l.Stats().ClosedByPeer, "a fatal alert of the peer ends the session")
		assert.Equal(t, dtlsserver.ClosedByPeer, s.EndReason())
	})
}
