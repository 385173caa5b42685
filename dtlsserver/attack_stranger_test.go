// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// dialing has a client of pion connect, which repeats its flights, and returns a channel
// that receives the client, or nil if it gives up.
func dialing(network *dtlstest.Network, from, server netip.AddrPort, config *dtls.Config) <-chan *dtlstest.Client {
	done := make(chan *dtlstest.Client, 1)
	socket := network.Dial(from, server)
	go func() {
		c, err := dtlstest.Handshake(socket, config)
		if err != nil {
			c = nil
		}
		done <- c
	}()
	return done
}

// clientUnderFire has a client of pion do its handshake. A stranger sends datagrams in its
// name before and after each of its own, and all the time in between. The client must get
// in.
func clientUnderFire(t *testing.T, v *victim, forged [][]byte) {
	t.Helper()
	const interval, during = 10 * time.Millisecond, 5 * time.Second
	from := dtlstest.NthAddr(10, 1, 5684)
	fire := func() {
		for _, datagram := range forged {
			v.network.Inject(from, v.addr(), datagram)
		}
	}
	v.network.SetFilter(dtlstest.ToServer, func(d dtlstest.Datagram, forward func([]byte)) {
		fire()
		forward(d.Payload)
		fire()
	})
	done := dialing(v.network, from, v.addr(), v.config)
	for n := 0; n < int(during/interval) && len(done) == 0; n++ {
		v.network.Inject(from, v.addr(), forged[n%len(forged)])
		time.Sleep(interval)
	}
	client := dtlstest.Receive(t, done)
	require.NotNil(t, client, "the client has given up")
	t.Cleanup(client.Kill)
	dtlstest.Echo(t, client, "in")
	v.network.SetFilter(dtlstest.ToServer, nil)
	s := v.Stats()
	assert.EqualValues(t, 1, s.Completed)
	assert.Positive(t, refusals(s))
}

// TestForgedAlertsEndNoHandshake: anybody can send an alert in plaintext, with two bytes or
// with others.
func TestForgedAlertsEndNoHandshake(t *testing.T) {
	t.Parallel()
	alert := func(payload ...byte) []byte { return dtlstest.Plaintext(record.TypeAlert, 30, payload...) }
	for name, forged := range map[string][][]byte{
		"close_notify":    {alert(record.LevelWarning, record.CloseNotify)},
		"a fatal alert":   {alert(record.LevelFatal, 40)},
		"a warning":       {alert(record.LevelWarning, 90)},
		"no level":        {alert(9, 40)},
		"no byte":         {alert()},
		"one byte":        {alert(record.LevelFatal)},
		"three bytes":     {alert(record.LevelFatal, 40, 0)},
		"all in one":      {append(append(alert(2, 40), alert(1, 0)...), alert(1)...)},
		"all of them":     {alert(1, 0), alert(2, 40), alert(2, 10), alert(2, 50), alert(1), alert()},
		"protected bytes": {dtlstest.Unauthentic(record.TypeAlert, 0, 26)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) { clientUnderFire(t, v, forged) })
		})
	}
}

// TestJunkEndsNoHandshake: records of each type, known or unknown, empty or not, of the
// epochs 0 to 2.
func TestJunkEndsNoHandshake(t *testing.T) {
	t.Parallel()
	raw := func(kind record.Type, epoch uint16, fragment ...byte) []byte {
		b := make([]byte, record.HeaderSize)
		record.PutHeader(b, kind, epoch, 30, len(fragment))
		return append(b, fragment...)
	}
	kinds := map[string][]record.Type{
		"ChangeCipherSpec": {record.TypeChangeCipherSpec},
		"application data": {record.TypeApplicationData},
		"handshake":        {record.TypeHandshake},
		"unknown":          {0, 19, 24, 25, 26, 128, 255},
	}
	for name, types := range kinds {
		for epoch, epochName := range []string{"epoch 0", "epoch 1", "epoch 2"} {
			t.Run(name+" "+epochName, func(t *testing.T) {
				t.Parallel()
				var forged [][]byte
				for _, kind := range types {
					for _, size := range []int{0, 1, 2, 50, 300} {
						if kind == record.TypeHandshake && epoch == 1 && size > 0 {
							continue // these are in the place of a Finished
						}
						forged = append(forged, raw(kind, uint16(epoch), make([]byte, size)...))
					}
					if kind == record.TypeChangeCipherSpec {
						forged = append(forged, raw(kind, uint16(epoch), 1))
					}
				}
				attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) { clientUnderFire(t, v, forged) })
			})
		}
	}
}

// TestPlaintextDataBeforeLastFlightEndNoHandshake: anybody can put application data in epoch
// 0 among the client's datagrams. Pion v2 would give up the handshake.
func TestPlaintextDataBeforeLastFlightEndNoHandshake(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		client := l.dialThrough(t, psk(), func(datagram []byte, send func([]byte) error) error {
			if dtlstest.Has(datagram, record.TypeChangeCipherSpec, false) {
				if err := send(dtlstest.Plaintext(record.TypeApplicationData, 50, 'x')); err != nil {
					return err
				}
			}
			return send(datagram)
		})
		dtlstest.Echo(t, client, "x")
		assert.EqualValues(t, 1, l.Stats().Plaintext)
		assert.Zero(t, l.Stats().Failed)
	})
}

// TestUnauthenticFinishedEndsNoHandshake: a record in the place of the client's Finished,
// just before and just after the client's own.
func TestUnauthenticFinishedEndsNoHandshake(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		c := v.helloed(t)
		forge := func() {
			for n := range 3 {
				v.network.Inject(addrPort(c), v.addr(), dtlstest.Unauthentic(record.TypeHandshake, uint64(n), 40))
			}
		}
		flight, err := c.LastFlight()
		require.NoError(t, err)
		forge()
		for _, r := range flight {
			c.Send(r)
			forge()
		}
		require.True(t, c.Await(10*roundTrip, func() bool { return c.Server.Finished }))
		assert.True(t, c.Echo("in"))
		assert.EqualValues(t, 1, v.Stats().Completed)
	})
}

// TestForgedClientHelloOfImpossibleSuiteKeepsNobodyOut: a ClientHello that cannot lead to a
// session arrives just before each client's own, from the client's address. All clients get
// in, and no alert is sent to an address that has not returned a cookie. Pion's own listener
// sends the alert, and its client ends.
func TestForgedClientHelloOfImpossibleSuiteKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	const clients = 20
	attack(t, pskWith(), dtlsserver.Config{Handshakes: 2 * clients, HandshakesPerSource: -1}, func(t *testing.T, v *victim) {
		forged := dtlstest.ClientHello{Random: dtlstest.RandomOf(7), Suites: []record.SuiteID{0x1301}}.Datagram()
		alerts := v.watchAlerts(func(d dtlstest.Datagram) {
			if hello, ok := record.ParseClientHello(dtlstest.Records(d.Payload)[0]); ok && len(hello.Cookie) == 0 && hello.MessageSeq == 0 {
				v.network.Inject(d.From, d.To, forged)
			}
		})
		var waiting []<-chan *visitor
		for n := range clients {
			waiting = append(waiting, v.visits(&visitor{from: dtlstest.NthAddr(11, n, 5684), limit: time.Minute}))
		}
		ours, _, handshakes := everyone(t, waiting)
		synctest.Wait()
		assert.Equal(t, clients, ours)
		assert.Zero(t, alerts.unvalidated.Load())
		if statelessCookie { // each client returns the cookie of the forged one, and begins anew
			assert.Equal(t, 2*clients, handshakes)
		} else {
			assert.Equal(t, clients, handshakes)
			assert.Positive(t, refusals(v.Stats())+v.Stats().Displaced)
		}

		pions := v.getIn(clients, pionListener(t, v.network, v.config))
		t.Logf("%d of %d clients get in, and %d with pion's own listener", ours, clients, pions)
		assert.Less(t, pions, ours)
		v.network.SetFilter(dtlstest.ToServer, nil)
	})
}

// pionListener opens a listener of pion, and returns a function that gives it a socket for
// its n-th client, and returns the socket's address.
func pionListener(t *testing.T, network *dtlstest.Network, config *dtls.Config) func(n int, client netip.AddrPort) netip.AddrPort {
	t.Helper()
	inner := dtlstest.NewListener(nil)
	l, err := dtls.NewListener(inner, config)
	require.NoError(t, err)
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return func(n int, client netip.AddrPort) netip.AddrPort {
		socket := network.Listen(dtlstest.NthAddr(198, n, 5684))
		socket.Connect(client)
		inner.Put(socket)
		wg.Go(func() { // a call of Accept runs one handshake
			if c, err := l.Accept(); err == nil {
				_ = c.Close()
			}
		})
		return socket.AddrPort()
	}
}
