// SPDX-License-Identifier: MIT

package pionv2

import (
	"net"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clientFragment is the header of a fragment of a message from the client.
func clientFragment(messageSeq uint16, length, offset, size int) []byte {
	return dtlstest.FragmentHeader(record.MessageClientHello, messageSeq, length, offset, size)
}

// TestFragmentsOfStrangersDoNotReachPion: pion keeps empty fragments without counting
// them, and takes quadratic time for chains of them, which nothing can stop.
func TestFragmentsOfStrangersDoNotReachPion(t *testing.T) {
	t.Parallel()
	for name, fragment := range map[string]func(n int) []byte{
		"of a message to come": func(int) []byte { return clientFragment(60000, 0, 0, 0) },
		"in a chain":           func(n int) []byte { return clientFragment(1, 0, n, 1) },
		"empty":                func(n int) []byte { return clientFragment(uint16(n%16), 100, 0, 0) },
		"sound, and too early": func(n int) []byte {
			return append(clientFragment(uint16(1+n%15), 9000, 0, 7988), make([]byte, 7988)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlstest.PSKConfig("key"), Config{}, func(t *testing.T, l memory) {
				from := dtlstest.NthAddr(10, 1, 5684)
				l.network.Inject(from, l.addr(), dtlstest.Hello(1))
				synctest.Wait()
				require.Equal(t, 1, l.Stats().HalfOpen)
				n := 0
				for range 100 {
					var body []byte
					for len(body) < 8000 {
						body = append(body, fragment(n)...)
						n++
					}
					before := dropped(l)
					l.network.Inject(from, l.addr(), dtlstest.Plaintext(record.TypeHandshake, uint64(n), body...))
					synctest.Wait()
					require.Equal(t, before+1, dropped(l))
				}
				assert.Equal(t, 1, l.Stats().HalfOpen)
			})
		})
	}
}

// dropped returns how many records were dropped because of their content.
func dropped(l memory) uint64 { return l.Stats().Plaintext + l.Stats().Malformed }

// TestImplausibleFragmentsOfClientsDoNotReachPion: the client has returned its cookie, and
// sends fragments that no honest client sends.
func TestImplausibleFragmentsOfClientsDoNotReachPion(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlstest.PSKConfig("key"), Config{}, func(t *testing.T, l memory) {
		client := l.stall(t)
		for n := range 100 {
			dtlstest.Send(t, client, dtlstest.Plaintext(record.TypeHandshake, uint64(n), clientFragment(60000, 0, 0, 0)...))
		}
		synctest.Wait()
		assert.EqualValues(t, 100, dropped(l))
		assert.Equal(t, 1, l.Stats().HalfOpen)
	})
}

// TestPlaintextDataDoNotReachPion: anybody can put application data in epoch 0 among the
// client's datagrams. Pion would give up the handshake, and leave its transport open.
func TestPlaintextDataDoNotReachPion(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlstest.PSKConfig("key"), Config{}, func(t *testing.T, l memory) {
		dtlstest.ServeEcho[*Conn](t, l)
		client := l.dial(t, func(socket net.Conn) net.Conn {
			return dtlstest.Rewrite(socket, func(datagram []byte, send func([]byte) error) error {
				if dtlstest.Has(datagram, record.TypeChangeCipherSpec, false) {
					if err := send(dtlstest.Plaintext(record.TypeApplicationData, 50, 'x')); err != nil {
						return err
					}
				}
				return send(datagram)
			})
		})
		dtlstest.Echo(t, client, "x")
		assert.EqualValues(t, 1, l.Stats().Plaintext)
		assert.Zero(t, l.Stats().Failed)
	})
}
