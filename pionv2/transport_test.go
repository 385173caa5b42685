// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReadGivesWhatTheGateHandsOn, in order, until it is closed or its deadline passes.
func TestReadGivesWhatTheGateHandsOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := handshake.NewGate(handshake.Parameters{
			Send: func([]byte) {}, Limits: handshake.Limits{ClientHello: 1000},
		}, handshake.Options{})
		tr := newTransport(gate)
		got := make(chan []byte)
		go func() {
			defer close(got)
			buf := make([]byte, 1000)
			for {
				n, err := tr.Read(buf)
				if err != nil {
					assert.ErrorIs(t, err, net.ErrClosed)
					return
				}
				got <- bytes.Clone(buf[:n])
			}
		}()
		hello := dtlstest.Hello(1)
		r, _, _ := record.Next(hello)
		require.Equal(t, handshake.Accepted, gate.HandleRecord(r))
		assert.Equal(t, hello[record.HeaderSize:], (<-got)[record.HeaderSize:])
		require.NoError(t, tr.Close())
		require.NoError(t, tr.Close())
		_, open := <-got
		assert.False(t, open)

		tr = newTransport(gate)
		begin := time.Now()
		require.NoError(t, tr.SetReadDeadline(begin.Add(time.Hour)))
		_, err := tr.Read(make([]byte, 10))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, time.Hour, time.Since(begin))
		require.NoError(t, tr.SetDeadline(time.Time{}))
	})
}
