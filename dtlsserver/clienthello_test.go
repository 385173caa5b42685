// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestOnlyFirstClientHelloTakesSlot: the first datagram of a peer is one record with one
// whole ClientHello, which is a client's first message.
func TestOnlyFirstClientHelloTakesSlot(t *testing.T) {
	t.Parallel()
	broken := dtlstest.Hello(1)
	broken[record.HeaderSize+12] = 3 // the version
	for name, datagram := range map[string][]byte{
		"a ClientHello with message_seq 1":        dtlstest.ClientHello{MessageSeq: 1, Random: dtlstest.RandomOf(1)}.Datagram(),
		"a ChangeCipherSpec":                      dtlstest.Plaintext(record.TypeChangeCipherSpec, 3, 1),
		"an alert":                                dtlstest.Plaintext(record.TypeAlert, 4, 1, 0),
		"application data":                        dtlstest.Plaintext(record.TypeApplicationData, 0, 'x'),
		"a ClientHello and another record":        append(dtlstest.Hello(1), dtlstest.Plaintext(record.TypeHandshake, 2, 0)...),
		"two ClientHellos":                        append(dtlstest.Hello(1), dtlstest.Hello(2)...),
		"another record and a ClientHello":        append(dtlstest.Plaintext(record.TypeAlert, 0, 1, 0), dtlstest.Hello(1)...),
		"a fragment of a ClientHello":             dtlstest.Plaintext(record.TypeHandshake, 0, dtlstest.FragmentHeader(record.MessageClientHello, 0, 100, 0, 0)...),
		"a ClientHello of another version":        broken,
		"a protected record":                      dtlstest.Unauthentic(record.TypeHandshake, 0, 60),
		"another handshake message":               dtlstest.Plaintext(record.TypeHandshake, 0, dtlstest.Message(record.MessageFinished, 0, make([]byte, 12)...)...),
		"a ClientHello and a malformed remainder": append(dtlstest.Hello(1), 22, 254),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
				from := dtlstest.NthAddr(10, 1, 5684)
				l.network.Inject(from, l.addr(), datagram)
				synctest.Wait()
				s := l.Stats()
				assert.EqualValues(t, 1, s.Stray)
				assert.Zero(t, s.Started)
				assert.Equal(t, l.Table().MaxSlots(), l.Table().AvailableSlots())

				l.occupyFrom(t, from, dtlstest.RandomOf(1))
				synctest.Wait()
				require.EqualValues(t, 1, l.Stats().Started)
				assert.Equal(t, l.Table().MaxSlots()-1, l.Table().AvailableSlots())
			})
		})
	}
}

// TestMalformedFirstDatagramIsCounted: a datagram that is no record is not counted as
// stray.
func TestMalformedFirstDatagramIsCounted(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		hello := dtlstest.Hello(1)
		for n := range record.HeaderSize + 3 {
			l.network.Inject(dtlstest.NthAddr(10, n, 5684), l.addr(), hello[:n+1])
		}
		synctest.Wait()
		s := l.Stats()
		assert.EqualValues(t, record.HeaderSize+3, s.Malformed)
		assert.Zero(t, s.Stray)
		assert.Zero(t, s.Started)
	})
}
