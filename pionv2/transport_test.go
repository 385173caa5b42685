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

// TestNothingReachesPionAfterTheFinished: over one record too many pion sleeps for a
// flight interval. Neither Close nor a session waits for that.
func TestNothingReachesPionAfterTheFinished(t *testing.T) {
	t.Parallel()
	const trailing = 50
	config := dtlstest.PSKConfig("key")
	config.FlightInterval = 30 * time.Second
	inBubble(t, config, Config{HandshakesPerSource: -1}, func(t *testing.T, l memory) {
		dtlstest.ServeEcho[*Conn](t, l)
		begin := time.Now()
		for range 20 {
			client := l.dial(t, func(socket net.Conn) net.Conn {
				return dtlstest.Rewrite(socket, func(datagram []byte, send func([]byte) error) error {
					err := send(datagram)
					if dtlstest.Has(datagram, record.TypeHandshake, true) {
						for n := range uint64(trailing) {
							_ = send(dtlstest.Plaintext(record.TypeHandshake, 100+n, append(clientFragment(9, 1, 0, 1), 0)...))
						}
					}
					return err
				})
			})
			dtlstest.Echo(t, client, "x")
		}
		synctest.Wait()
		assert.EqualValues(t, 20, l.Stats().Completed)
		require.NoError(t, l.Close())
		assert.Less(t, time.Since(begin), config.FlightInterval/3, "pion has slept")
	})
}

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
