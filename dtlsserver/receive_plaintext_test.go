// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPlaintextHasNoEffectOnSession sends from the client's address what anybody could
// forge.
func TestPlaintextHasNoEffectOnSession(t *testing.T) {
	t.Parallel()
	message := func(seq byte) []byte {
		return dtlstest.Plaintext(record.TypeHandshake, uint64(seq)+10, dtlstest.Message(record.MessageClientHello, uint16(seq), 0)...)
	}
	for name, datagram := range map[string][]byte{
		"close_notify":                  dtlstest.Plaintext(record.TypeAlert, 9, record.LevelWarning, record.CloseNotify),
		"a fatal alert":                 dtlstest.Plaintext(record.TypeAlert, 10, record.LevelFatal, 40),
		"application data":              dtlstest.Plaintext(record.TypeApplicationData, 11, 'x'),
		"a handshake message":           message(1),
		"a broken ClientHello":          message(0),
		"a ChangeCipherSpec":            dtlstest.Plaintext(record.TypeChangeCipherSpec, 12, 1),
		"a ClientHello among others":    append(dtlstest.Hello(5), dtlstest.Plaintext(record.TypeAlert, 14, 1, 0)...),
		"a ClientHello after others":    append(dtlstest.Plaintext(record.TypeAlert, 14, 1, 0), dtlstest.Hello(5)...),
		"an empty record, close_notify": append(dtlstest.Plaintext(record.TypeHandshake, 1), dtlstest.Plaintext(record.TypeAlert, 13, 1, 0)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
				conns := echoServer(t, l.Listener)
				client := l.dial(t, netip.AddrPort{})
				dtlstest.Echo(t, client, "before")
				session := <-conns
				before := l.Stats()
				client.Send(t, datagram)
				synctest.Wait()
				after := l.Stats()
				require.Greater(t, after.Plaintext, before.Plaintext)
				dtlstest.Echo(t, client, "after")
				require.Equal(t, dsm.StateEstablished, session.State())
				assert.EqualValues(t, 1, after.Started)
				assert.Zero(t, after.HalfOpen)
			})
		})
	}
}

// TestPlaintextFragmentsAreNotKept sends 3000 fragments of messages to come. It measures
// the heap, and so runs by itself.
func TestPlaintextFragmentsAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listenInMemory(t, psk(), dtlsserver.Config{})
		echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, client, "before the fragments")
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		body := make([]byte, 1088)
		for n := range 3000 {
			header := dtlstest.FragmentHeader(record.MessageClientHello, uint16(n+1), 4096, 0, len(body))
			client.Send(t, dtlstest.Plaintext(record.TypeHandshake, uint64(n), append(header, body...)...))
			if n%100 == 0 {
				dtlstest.Echo(t, client, "among the fragments")
			}
		}
		dtlstest.Echo(t, client, "after the fragments")
		runtime.GC()
		runtime.ReadMemStats(&after)
		assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(1<<20))
		stats := l.Stats()
		assert.EqualValues(t, 3000, stats.Plaintext)
		assert.EqualValues(t, 1, stats.Started)
		assert.Equal(t, 1, stats.Established)
	})
}
