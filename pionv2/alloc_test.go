// SPDX-License-Identifier: MIT

package pionv2

import (
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Between the socket and the user nothing is allocated for a datagram, either way.
// (Reading a batch, x/net allocates two small objects for each peer's address; and
// pion's CCM and CBC allocate.)
func TestNothingIsAllocatedForADatagram(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	l := listen(t, pskConfig("key"), Config{})
	newClient(t, l, nil)
	accepted, err := l.Accept()
	require.NoError(t, err)
	s := accepted.(*Conn)
	secrets := s.records.Config()
	secrets.IsClient, secrets.NextSequence = true, 100
	client, err := record.New(secrets)
	require.NoError(t, err)
	from, now := s.path(), time.Now()
	text, datagram, buf := make([]byte, 100), make([]byte, 0, 200), make([]byte, 200)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		sealed, err := client.Seal(datagram, record.TypeApplicationData, text)
		if err != nil {
			t.Fatal(err)
		}
		l.receive(from, sealed, now)
		n, err := s.Read(buf)
		if err != nil || n != len(text) {
			t.Fatal(n, err)
		}
		if _, err := s.Write(buf[:n]); err != nil {
			t.Fatal(err)
		}
	}))
}
