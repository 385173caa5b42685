// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"crypto"
	"crypto/tls"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
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

// The tests in files attack_*_test.go attack a listener by what a client says in its
// handshake, or what a stranger says in its name.

// roundTrip is between the clients of these tests and the listener.
const roundTrip = 300 * time.Millisecond

// suiteECDHEPSK is the suite whose ClientKeyExchange has both an identity and a key.
const suiteECDHEPSK = record.SuiteID(dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256)

// suiteECDSA authenticates by certificates.
const suiteECDSA = record.SuiteID(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)

// pskWith is psk with other suites, and pion's own flight interval.
func pskWith(suites ...record.SuiteID) *dtls.Config {
	config := dtlstest.PSKConfig("key")
	config.FlightInterval = 0
	if len(suites) > 0 {
		config.CipherSuites = nil
	}
	for _, id := range suites {
		config.CipherSuites = append(config.CipherSuites, dtls.CipherSuiteID(id))
	}
	return config
}

// withCertificates is the configuration of a listener with a certificate.
func withCertificates(certificate *dtlstest.Certificate, auth dtls.ClientAuthType) *dtls.Config {
	return &dtls.Config{
		Certificates: []tls.Certificate{certificate.Certificate}, ClientAuth: auth,
		CipherSuites: []dtls.CipherSuiteID{dtls.CipherSuiteID(suiteECDSA)},
	}
}

// victim is a listener that is attacked, and that echoes.
type victim struct {
	memory
	config      *dtls.Config
	certificate *dtlstest.Certificate // that clients have; nil: none
	sessions    <-chan *dtlsserver.Conn
}

// attack runs an attack on a listener in a bubble, over a round trip of roundTrip. When
// the attack is over an honest client must get in.
func attack(t *testing.T, config *dtls.Config, cfg dtlsserver.Config, run func(t *testing.T, v *victim)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, config, cfg)
		v.network.SetRoundTrip(roundTrip)
		run(t, v)
		v.honestClientGetsIn(t)
	})
}

func newVictim(t *testing.T, config *dtls.Config, cfg dtlsserver.Config) *victim {
	t.Helper()
	l := listenInMemory(t, config, cfg)
	return &victim{memory: l, config: config, sessions: echoServer(t, l.Listener)}
}

// client returns a scripted client that has said nothing yet, at a free address.
func (v *victim) client(t *testing.T) *dtlstest.ScriptedClient {
	t.Helper()
	return v.clientAt(t, netip.AddrPort{})
}

// clientAt is client at an address.
func (v *victim) clientAt(t *testing.T, from netip.AddrPort) *dtlstest.ScriptedClient {
	t.Helper()
	var suites []record.SuiteID
	for _, id := range v.config.CipherSuites {
		suites = append(suites, record.SuiteID(id))
	}
	c := dtlstest.NewScriptedClient(v.network.Dial(from, v.addr()), "key", suites...)
	if v.certificate != nil {
		c.Chain, c.Signer = v.certificate.Certificate.Certificate, v.certificate.PrivateKey.(crypto.Signer)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// helloed returns a scripted client that has returned its cookie and has got the server's
// flight.
func (v *victim) helloed(t *testing.T) *dtlstest.ScriptedClient {
	t.Helper()
	c := v.client(t)
	require.NoError(t, c.Hellos())
	return c
}

func (v *victim) honestClientGetsIn(t *testing.T) {
	t.Helper()
	c := v.client(t)
	require.NoError(t, c.Handshake(), "an honest client")
	require.True(t, c.Echo("honest"))
}

// addrPort returns a scripted client's address.
func addrPort(c *dtlstest.ScriptedClient) netip.AddrPort { return dtlstest.AddrPort(c.LocalAddr()) }

// refusals returns how many records and handshakes a listener has refused for what their
// sender has done.
func refusals(s dtlsserver.Stats) uint64 {
	return s.Failed + s.TimedOut + s.Plaintext + s.Malformed + s.Epoch + s.Forged + s.Stray + s.QueueFull
}

// requireNoSession waits until the listener has done what it does, and requires that no
// handshake was completed.
func (v *victim) requireNoSession(t *testing.T) {
	t.Helper()
	time.Sleep(2 * roundTrip)
	synctest.Wait()
	require.Zero(t, v.Stats().Completed, "a session")
}

// alerts counts alerts in plaintext of a listener: all of them, and those to addresses
// from which no cookie has come.
type alerts struct{ all, unvalidated atomic.Int32 }

// watchAlerts counts the alerts of the listener from now on, and calls before with each
// datagram of a client. It replaces the network's filters.
func (v *victim) watchAlerts(before func(d dtlstest.Datagram)) *alerts {
	var a alerts
	var mu sync.Mutex
	var validated []netip.AddrPort
	v.network.SetFilter(dtlstest.ToServer, func(d dtlstest.Datagram, forward func([]byte)) {
		for _, r := range dtlstest.Records(d.Payload) {
			if hello, ok := record.ParseClientHello(r); ok && len(hello.Cookie) > 0 {
				mu.Lock()
				validated = append(validated, d.From)
				mu.Unlock()
			}
		}
		before(d)
		forward(d.Payload)
	})
	v.network.SetFilter(dtlstest.ToClient, func(d dtlstest.Datagram, forward func([]byte)) {
		if dtlstest.Has(d.Payload, record.TypeAlert, false) {
			a.all.Add(1)
			mu.Lock()
			if !slices.Contains(validated, d.To) {
				a.unvalidated.Add(1)
			}
			mu.Unlock()
		}
		forward(d.Payload)
	})
	return &a
}

// finishes has a scripted client send its honest last flight, and requires that it gets
// in, and that the listener echoes.
func finishes(t *testing.T, c *dtlstest.ScriptedClient) {
	t.Helper()
	flight, err := c.LastFlight()
	require.NoError(t, err)
	c.Send(flight...)
	require.True(t, c.Await(dtlstest.Patience, func() bool { return c.Server.Finished }), "no Finished")
	assert.True(t, c.Echo("in"))
}

// heap returns what the process has in memory after a garbage collection, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// getIn has clients of pion connect at the same time, and returns how many get in. server
// returns the address that the n-th one connects to.
func (v *victim) getIn(clients int, server func(n int, client netip.AddrPort) netip.AddrPort) (in int) {
	var waiting []<-chan *dtlstest.Client
	for n := range clients {
		from := dtlstest.NthAddr(10, n, 5684)
		waiting = append(waiting, dialing(v.network, from, server(n, from), v.config))
	}
	for _, done := range waiting {
		if client := <-done; client != nil {
			in++
			client.Kill()
		}
	}
	return in
}
