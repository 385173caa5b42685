// SPDX-License-Identifier: MIT

package interop

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/resume"
	v2 "github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	// repeatAfter is the time after which each of these clients repeats a flight for the
	// first time, as RFC 6347 section 4.2.4.1 recommends. They repeat it again 2 s later.
	// OpenSSL's client has no option for this time. The clients of testdata use the default
	// of their libraries.
	repeatAfter = time.Second
	// serverRepeatsAfter is the server's default. It is longer than the clients' time, for
	// GnuTLS (_dtls_transmit in its dtls.c) waits for a further interval when the server's
	// repetition comes just before its own. In an abbreviated handshake it has no timer for
	// its last flight, and repeats that for the server's repetition, but not within 1 s.
	serverRepeatsAfter = 1500 * time.Millisecond
	// lossSlack is for the work of a dozen handshakes that begin together on a slow
	// machine. GnuTLS sleeps for up to 0.3 s of it. It is shorter than repeatAfter, so that
	// a client that waits for a further repetition exceeds it.
	lossSlack = repeatAfter * 9 / 10
)

// Whichever datagram of a handshake is lost, the client is in after one repetition: its own,
// or after an abbreviated handshake the server's.
func TestOneLostDatagram(t *testing.T) { withEachAdapter(t, testOneLostDatagram) }

func testOneLostDatagram(t *testing.T, on adapter) {
	p := newParties(t)
	for _, client := range []foreign{openSSL, gnuTLS, mbedTLS} {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			client := client.installed(t)
			for _, with := range []struct {
				name   string
				config func() *v2.Config
				visit  visit
			}{
				{"key", func() *v2.Config { return pskServer(gcm) }, visit{psk: true}},
				{"server certificate", func() *v2.Config { return p.config(v2.NoClientCert) }, visit{ca: p.serverCA}},
				{"both certificates", func() *v2.Config { return p.config(v2.RequireAndVerifyClientCert) }, visit{ca: p.serverCA, cert: p.client}},
			} {
				for _, resumed := range []bool{false, true} {
					name := with.name + "/full"
					if resumed {
						name = with.name + "/resumed"
					}
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						loseEach(t, on, client, with.config(), with.visit, resumed)
					})
				}
			}
		})
	}
}

// loseEach has a client make a handshake without a loss, and then as many at a time as that
// had datagrams. Each of them loses another one.
func loseEach(t *testing.T, on adapter, client foreign, config *v2.Config, v visit, resumed bool) {
	config.FlightInterval = serverRepeatsAfter
	cfg := dtlsserver.Config{Sessions: 100, Handshakes: 100, HandshakesPerSource: -1}
	if resumed {
		store, err := resume.New(resume.Config{})
		require.NoError(t, err)
		cfg.Resumption = store
		file := filepath.Join(t.TempDir(), "session")
		before := v
		before.args, v.args = []string{"-sess_out", file}, []string{"-sess_in", file}
		s := serve(t, on, config, cfg, "")
		client.echo(t, s.Addr(), before)
		require.False(t, s.next(t).Resumed())
		dtlstest.Eventually(t, func() bool { return store.Stats().Stored == 1 }, "the session is stored")
	}
	s := serve(t, on, config, cfg, "")
	ctx, cancel := context.WithTimeout(t.Context(), dtlstest.Patience)
	defer cancel()

	whole := startLossy(t, client, s.Addr(), v, nothing)
	require.True(t, whole.getsIn(ctx, t))
	require.Less(t, whole.took(), repeatAfter, "this handshake must have no repetition")
	handshake := whole.datagrams()
	t.Logf("%d datagrams of the handshake, in %v", len(handshake), whole.took())

	lastOfClient := nothing
	var all []*lossy
	for _, lost := range handshake {
		if lost.fromClient {
			lastOfClient = lost
		}
		all = append(all, startLossy(t, client, s.Addr(), v, lost))
	}
	visits := []*lossy{whole}
	for _, one := range all {
		if !one.getsIn(ctx, t) {
			continue
		}
		visits = append(visits, one)
		assert.True(t, one.hasLost(), "%v: it was not sent\n%v", one.lost, one)
		limit := repeatAfter
		if resumed && one.lost == lastOfClient {
			limit = serverRepeatsAfter // the client has nothing to wait for
		}
		assert.Less(t, one.took(), limit+lossSlack, "%v\n%v", one.lost, one)
		t.Logf("%v lost: %v", one.lost, one.took().Round(time.Millisecond))
	}
	for _, one := range visits {
		one.process.Ends()
		assert.Equal(t, resumed, s.next(t).Resumed())
	}
	assert.EqualValues(t, len(visits), s.Stats().Completed)
}
