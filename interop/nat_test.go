// SPDX-License-Identifier: MIT

package interop

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// natClient is an established client behind a NAT.
type natClient struct {
	*client
	relay   *dtlstest.Relay
	session *session
}

func newNATClient(t *testing.T, s *server, with idClient) natClient {
	t.Helper()
	relay := dtlstest.StartRelay(t, s.Addr())
	c := newClient(t, newTransport(t, relay.Addr(), nil), pskClient(gcm), with.dial)
	dtlstest.Echo(t, c, "hello")
	return natClient{c, relay, s.next(t)}
}

// echo is dtlstest.Echo, but echoes of other lines can come before.
func (c natClient) echo(t *testing.T, text string) {
	t.Helper()
	_, err := c.Write([]byte(text))
	require.NoError(t, err)
	for buf := make([]byte, 100); ; {
		n, err := c.Read(buf)
		require.NoError(t, err, "%+v", c.session.Listener().Stats())
		if string(buf[:n]) == text {
			return
		}
	}
}

// outside returns the address at which the server sees the client.
func (c natClient) outside() netip.AddrPort {
	a := c.relay.Outside()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// captured are the client's datagrams that came to its NAT.
type captured struct {
	mu        sync.Mutex
	datagrams [][]byte
}

// capture notes the datagrams from now on. They go on to the server if pass is true.
func (c natClient) capture(pass bool) *captured {
	all := &captured{}
	c.relay.SetIn(func(datagram []byte) bool {
		all.mu.Lock()
		defer all.mu.Unlock()
		all.datagrams = append(all.datagrams, bytes.Clone(datagram))
		return pass
	})
	return all
}

func (c *captured) all() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.datagrams
}

// stranger is a socket at another address than the client's.
type stranger struct{ *net.UDPConn }

func newStranger(t *testing.T) stranger {
	t.Helper()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	return stranger{socket}
}

func (s stranger) send(t *testing.T, datagram []byte, to net.Addr) {
	t.Helper()
	_, err := s.WriteTo(datagram, to)
	require.NoError(t, err)
}

// received returns how many bytes have come so far. It reads until an empty datagram comes, which
// it sends to itself.
func (s stranger) received(t *testing.T) (bytes int) {
	t.Helper()
	s.send(t, nil, s.LocalAddr())
	buf := make([]byte, 1<<14)
	for {
		n, _, err := s.ReadFrom(buf)
		require.NoError(t, err)
		if n == 0 {
			return bytes
		}
		bytes += n
	}
}

// The NAT between a client and the server changes its port again and again, while lines and
// their echoes are under way. Those that are on their way during a change can be lost. The
// lines that the client sends afterwards get their echoes at the new address, in the same
// session. When the server is slow the echoes of earlier lines can use up what may go to the new
// address. Then echoes go to the old one, which Stats counts, and the client repeats their lines. The session moves there after a return-routability check, or without one when the
// application confirms the address.
func TestEchoesWhileNATRebinds(t *testing.T) { withConnectionIDs(t, testEchoesWhileNATRebinds) }

func testEchoesWhileNATRebinds(t *testing.T, on adapter) {
	for _, with := range idClients() {
		for name, change := range map[string]dtlsserver.AddressChange{"verify": dtlsserver.VerifyAddress, "trust": dtlsserver.TrustAddress} {
			t.Run(with.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := serve(t, on, pskServer(gcm), dtlsserver.Config{AddressChange: change}, "")
				c := newNATClient(t, s, with)
				c.speakWhileNATRebinds(t, change == dtlsserver.VerifyAddress && !with.rrc)
				require.NoError(t, c.Close())
				require.Equal(t, io.EOF, dtlstest.Receive(t, c.session.readEnds))
				require.Equal(t, dtlsserver.ClosedByPeer, dtlstest.Receive(t, c.session.ends))
				stats := s.Stats()
				assert.EqualValues(t, 1, stats.Completed)
				assert.Zero(t, stats.Forged)
			})
		}
	}
}

// speakWhileNATRebinds rebinds the NAT between lines. confirm says that the application
// confirms every other address, because nobody else does.
func (c natClient) speakWhileNATRebinds(t *testing.T, confirm bool) {
	t.Helper()
	const rounds, burst = 20, 8
	say := func(format string, round int) map[string]bool {
		lines := map[string]bool{}
		for n := range burst {
			text := fmt.Sprintf(format, round, n)
			_, err := c.Write([]byte(text))
			require.NoError(t, err)
			lines[text] = true
		}
		return lines
	}
	lost, buf := 0, make([]byte, 100)
	for round := range rounds {
		limited := c.session.Listener().Stats().AddressLimited
		before := say("round %d, line %d before", round)
		c.relay.Rebind(t)
		after := say("round %d, line %d after", round)
		for len(after) > 0 {
			require.NoError(t, c.SetReadDeadline(time.Now().Add(dtlstest.Patience/10)))
			n, err := c.Read(buf)
			if isTimeout(err) {
				s := c.session.Listener().Stats()
				require.Greater(t, s.AddressLimited, limited, "round %d; lost: %v; %+v", round, after, s)
				limited = s.AddressLimited
				for text := range after {
					_, err := c.Write([]byte(text))
					require.NoError(t, err)
				}
				continue
			}
			require.NoError(t, err, "round %d; lost: %v; %+v", round, after, c.session.Listener().Stats())
			delete(before, string(buf[:n]))
			delete(after, string(buf[:n]))
		}
		lost += len(before)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(dtlstest.Patience)))
		if !confirm {
			continue
		}
		unverified, ok := c.session.UnverifiedAddress()
		require.True(t, ok)
		require.Equal(t, c.outside(), unverified)
		if round%2 == 1 {
			require.True(t, c.session.ConfirmAddress(unverified))
			require.Equal(t, c.outside(), c.session.Peer())
		}
	}
	t.Logf("%d of %d lines were lost on their way", lost, 2*rounds*burst)
	// A path_challenge needs a record of the client, and a second since the last path_challenge.
	dtlstest.Eventually(t, func() bool {
		c.echo(t, "where am I?")
		return c.session.Peer() == c.outside()
	}, "the session moves")
}

// A stranger replays all records of a client from another address. Nothing moves, and
// nothing is sent there.
func TestReplayFromAnotherAddress(t *testing.T) { withConnectionIDs(t, testReplayFromAnotherAddress) }

func testReplayFromAnotherAddress(t *testing.T, on adapter) {
	for _, with := range idClients() {
		t.Run(with.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, on, pskServer(gcm), dtlsserver.Config{}, "")
			c, other := newNATClient(t, s, with), newStranger(t)
			records := c.capture(true)
			for n := range 10 {
				dtlstest.Echo(t, c, fmt.Sprint("line ", n))
				for _, datagram := range records.all() {
					require.EqualValues(t, record.TypeConnectionID, datagram[0])
					other.send(t, datagram, s.Addr())
				}
			}
			dtlstest.Echo(t, c, "last line")
			assert.Equal(t, c.outside(), c.session.Peer())
			assert.Zero(t, other.received(t))
			stats := s.Stats()
			assert.EqualValues(t, 10*11/2, stats.Replayed)
			assert.Zero(t, stats.Forged)
		})
	}
}

// A stranger holds a client's record up, and sends it from another address. It is authentic
// and newer than all others, but the client goes on: its next record is newer, and its echo
// comes. The stranger has not been sent more than three times what it has sent.
func TestStolenRecordFromAnotherAddress(t *testing.T) {
	withConnectionIDs(t, testStolenRecordFromAnotherAddress)
}

func testStolenRecordFromAnotherAddress(t *testing.T, on adapter) {
	for _, with := range idClients() {
		t.Run(with.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, on, pskServer(gcm), dtlsserver.Config{}, "")
			c, other := newNATClient(t, s, with), newStranger(t)
			sent := 0
			for n := range 10 {
				records := c.capture(false)
				_, err := c.Write([]byte("stolen"))
				require.NoError(t, err)
				dtlstest.Eventually(t, func() bool { return len(records.all()) > 0 }, "the record has come to the NAT")
				c.relay.SetIn(nil)
				for _, datagram := range records.all() {
					sent += len(datagram)
					other.send(t, datagram, s.Addr())
				}
				c.echo(t, fmt.Sprint("line ", n)) // that of the stolen line can have gone to either address
				require.Equal(t, c.outside(), c.session.Peer())
				require.LessOrEqual(t, other.received(t), 3*sent)
			}
			assert.EqualValues(t, 1, s.Stats().Completed)
		})
	}
}
