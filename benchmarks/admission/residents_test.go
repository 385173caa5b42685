// SPDX-License-Identifier: MIT

package admission

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
)

// echoInterval is the time between two datagrams of a resident.
const echoInterval = time.Second

// settle connects the residents of a Cell. The network has no delay.
func (c Cell) settle(t *testing.T, network *dtlstest.Network, s *sessions) []*dtlstest.Client {
	residents := make([]*dtlstest.Client, c.Residents)
	for n := range residents {
		p := dtlstest.Persistent{
			Network: network, From: dtlstest.NthAddr(11, n<<8|5, 20000), Server: serverAddr, Config: clientConfig(nil), Timer: c.Timer,
		}
		client, _, err := p.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-s.of(p.From)
		residents[n] = client
	}
	return residents
}

// exchange has each resident send its datagrams until ctx ends, and kills the residents.
func exchange(ctx context.Context, residents []*dtlstest.Client, rtt time.Duration) Echoes {
	var wg sync.WaitGroup
	var sent, lost atomic.Int64
	for n, client := range residents {
		wg.Go(func() {
			defer client.Kill()
			// They do not send all at the same moment.
			next := time.NewTimer(time.Duration(n) * echoInterval / time.Duration(len(residents)))
			defer next.Stop()
			for number := 0; ; number++ {
				select {
				case <-next.C:
				case <-ctx.Done():
					return
				}
				now := time.Now()
				next.Reset(echoInterval)
				sent.Add(1)
				if !echo(client, number, now.Add(rtt+echoInterval)) {
					lost.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return Echoes{int(sent.Load()), int(lost.Load())}
}

// echo sends a number, and reports whether the server sends it back before a time.
func echo(client *dtlstest.Client, number int, until time.Time) bool {
	var sent, received [8]byte
	binary.BigEndian.PutUint64(sent[:], uint64(number))
	if _, err := client.Write(sent[:]); err != nil {
		return false
	}
	if err := client.SetReadDeadline(until); err != nil {
		return false
	}
	for {
		switch n, err := client.Read(received[:]); {
		case err != nil:
			return false
		case n == len(sent) && received == sent:
			return true
		}
	}
}
