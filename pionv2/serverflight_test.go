// SPDX-License-Identifier: MIT

package pionv2

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNoSessionWithoutTheLastFlight: where it is not known which sequence numbers pion
// has used there is no session. The handshake here is complete, and nothing was seen of
// it. TestNoSequenceNumberOrNonceIsUsedTwice shows that what is seen is right.
func TestNoSessionWithoutTheLastFlight(t *testing.T) {
	t.Parallel()
	config := dtlstest.PSKConfig("key")
	near, far := dtlstest.Pipe(dtlstest.Addr("near"), dtlstest.Addr("far"))
	dialed := make(chan *dtls.Conn, 1)
	go func() {
		c, err := dtls.Client(near, config)
		assert.NoError(t, err)
		dialed <- c
	}()
	pion, err := dtls.Server(far, config)
	require.NoError(t, err)
	defer func() { _ = (<-dialed).Close() }()
	defer pion.Close()
	h := newServerHandshake(config, false, record.ClientHello{}, nil)
	_, err = h.result(pion.ConnectionState())
	assert.ErrorContains(t, err, "last flight")
}

// TestNoSequenceNumberOrNonceIsUsedTwice under a key: not by pion's handshake and the
// session after it, and not when flights are repeated because they were lost.
func TestNoSequenceNumberOrNonceIsUsedTwice(t *testing.T) {
	t.Parallel()
	for _, lost := range []int{0, 1, 2} {
		t.Run(fmt.Sprint(lost, " last flights are lost"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := dtlstest.NewNetwork(1)
				network.SetRoundTrip(10 * time.Millisecond)
				var records, lastFlights atomic.Int32
				network.SetHook(dtlstest.ToClient, dtlstest.All(dtlstest.UniqueNumbers(t), func(datagram []byte) bool {
					records.Add(int32(len(dtlstest.Records(datagram))))
					return !dtlstest.Has(datagram, record.TypeChangeCipherSpec, false) || int(lastFlights.Add(1)) > lost
				}))
				l, err := NewListener([]net.PacketConn{network.Listen(netip.AddrPort{})}, dtlstest.PSKConfig("key"), Config{})
				require.NoError(t, err)
				dtlstest.ServeEcho[*Conn](t, l)
				client := network.DialClient(t, netip.AddrPort{}, dtlstest.AddrPort(l.Addr()), dtlstest.PSKConfig("key"))
				for n := range 50 {
					dtlstest.Echo(t, client, fmt.Sprint(n))
				}
				assert.Greater(t, records.Load(), int32(50))
				assert.GreaterOrEqual(t, int(lastFlights.Load()), lost+1)
			})
		})
	}
}
