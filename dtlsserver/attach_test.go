// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// elsewhere is the address of another listener.
var elsewhere = netip.MustParseAddrPort("192.0.2.9:5684")

// TestAttachAsksWhoThePeerIs as a resumption does: what was admitted once may not be today.
func TestAttachAsksWhoThePeerIs(t *testing.T) {
	t.Parallel()
	cert := dtlstest.SelfSigned(t, dtlstest.ECDSA, func(c *x509.Certificate) { c.NotBefore = time.Unix(0, 0) }) // time begins in 2000 in a bubble
	certificates := func() *dtls.Config {
		return dtlstest.WithTimeout(&dtls.Config{
			Certificates: []tls.Certificate{cert.Certificate}, ClientAuth: dtls.RequireAndVerifyClientCert, ClientCAs: cert.Pool,
			FlightInterval: dtlstest.FlightInterval,
		}, dtlstest.Patience)
	}
	client := dtlstest.WithTimeout(&dtls.Config{
		Certificates: []tls.Certificate{cert.Certificate}, RootCAs: cert.Pool, ServerName: dtlstest.ServerName, FlightInterval: dtlstest.FlightInterval,
	}, dtlstest.Patience)
	refuse := func(*dtls.State) error { return errors.New("not today") }
	for name, test := range map[string]struct {
		made, today *dtls.Config
		edit        func(today *dtls.Config)
		want        error
	}{
		"the same":                     {certificates(), certificates(), func(*dtls.Config) {}, nil},
		"an authority that is gone":    {certificates(), certificates(), func(c *dtls.Config) { c.ClientCAs = x509.NewCertPool() }, dtlsserver.ErrStateRefused},
		"VerifyConnection is against":  {certificates(), certificates(), func(c *dtls.Config) { c.VerifyConnection = refuse }, dtlsserver.ErrStateRefused},
		"another client authorization": {certificates(), certificates(), func(c *dtls.Config) { c.ClientAuth = dtls.RequireAnyClientCert }, dtlsserver.ErrStatePolicy},
		"a suite that is off": {psk(), psk(), func(c *dtls.Config) {
			c.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM_8}
		}, dtlsserver.ErrStatePolicy},
		"an identity that is gone": {psk(), psk(), func(c *dtls.Config) {
			c.PSK = func([]byte) ([]byte, error) { return nil, errors.New("gone") }
		}, dtlsserver.ErrStateKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubbleWith(t, test.made, dtlsserver.Config{}, func(t *testing.T, l memory) {
				config := psk()
				if test.made.Certificates != nil {
					config = client
				}
				l.network.DialClient(t, netip.AddrPort{}, l.addr(), config)
				c, err := l.AcceptConn(t.Context())
				require.NoError(t, err)
				data := detach(t, c)
				test.edit(test.today)
				other := listenOn(t, l.network.Listen(elsewhere), test.today, dtlsserver.Config{})
				taken, err := other.Attach(unmarshal(t, data))
				require.ErrorIs(t, err, test.want)
				if test.want == nil {
					assert.Equal(t, c.Identity().Certificates, taken.Identity().Certificates)
					assert.NotEmpty(t, taken.Identity().Certificates)
					return
				}
				assert.Zero(t, other.Stats().Restored)
			})
		})
	}
}

// TestAttachAfterClose gives the error that callers test for, and the state is still good.
func TestAttachAfterClose(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, c := l.connect(t)
		state, err := c.Detach()
		require.NoError(t, err)
		require.NoError(t, l.Close())
		_, err = l.Attach(state)
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = l.successor(t, dtlsserver.Config{}).Attach(state)
		require.NoError(t, err)
	})
}

// TestServeHandlesAttachedSession: what it had not read, and what comes.
func TestServeHandlesAttachedSession(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, c := l.connect(t)
		write(t, client, "unread")
		synctest.Wait()
		state, err := c.Detach()
		require.NoError(t, err)
		require.NoError(t, l.Close())
		next := l.successor(t, dtlsserver.Config{})
		go func() {
			_ = next.Serve(t.Context(), func(c *dtlsserver.Conn, b []byte) { _, _ = c.Write(b) })
		}()
		_, err = next.Attach(state)
		require.NoError(t, err)
		dtlstest.Expect(t, client, "unread")
		dtlstest.Echo(t, client, "more")
		_, err = next.Accept()
		require.ErrorIs(t, err, dtlsserver.ErrServing)
	})
}
