// SPDX-License-Identifier: MIT

package interop

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/resume"
	v2 "github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The recordings are made anew by
//
//	go test -run TestRecordedClients -count 1 . -record
//
// in this directory. Their secrets, keys and certificates are those of tests.
var writeRecordings = flag.Bool("record", false, "write the recordings of internal/handshake")

const recordingsDir = "../internal/handshake/testdata/recordings"

// recorded is a client whose handshake is recorded.
type recorded struct {
	file   string // <client>-<what>
	config *v2.Config
	// connect has the client make its handshake, and returns what it calls itself.
	connect func(t *testing.T, server net.Addr) string
	// before has the client make the handshake whose session it then resumes, or is nil.
	before func(t *testing.T, server net.Addr)
}

// parties are the certificates of a test.
type parties struct {
	serverCA, clientCA *dtlstest.CA
	server             *dtlstest.Certificate
	serverRSACA        *dtlstest.CA
	serverRSA          *dtlstest.Certificate
	client             *dtlstest.Certificate // a chain of two
	alone              *dtlstest.Certificate // issued by the root
	long               *dtlstest.Certificate // a chain of seven, more than 8 kB
}

func newParties(t *testing.T) *parties {
	p := &parties{serverCA: dtlstest.NewCA(t, dtlstest.ECDSA), clientCA: dtlstest.NewCA(t, dtlstest.ECDSA)}
	p.server = p.serverCA.Issue(t, dtlstest.ECDSA)
	p.serverRSACA = dtlstest.NewCA(t, dtlstest.RSA)
	p.serverRSA = p.serverRSACA.Issue(t, dtlstest.RSA, func(c *x509.Certificate) {
		c.KeyUsage |= x509.KeyUsageKeyEncipherment // NSS wants it with an RSA key
	})
	p.alone = p.clientCA.Issue(t, dtlstest.ECDSA)
	p.client = p.clientCA.IssueChain(t, 2, 0)
	p.long = p.clientCA.IssueChain(t, 7, 6)
	return p
}

// config returns a server's configuration with a certificate.
func (p *parties) config(auth v2.ClientAuthType) *v2.Config {
	return &v2.Config{Certificates: []tls.Certificate{p.server.Certificate}, ClientAuth: auth, ClientCAs: p.client.Pool}
}

// Suites with a key. GCM is what all clients have, except wolfSSL, which has no suites with
// nothing but a key.
const (
	gcm   = v2.TLS_PSK_WITH_AES_128_GCM_SHA256
	ecdhe = v2.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256
)

// visiting returns a connect function of a foreign client.
func visiting(f foreign, v visit) func(*testing.T, net.Addr) string {
	return func(t *testing.T, server net.Addr) string {
		f := f.installed(t)
		f.echo(t, server, v)
		return f.nameAndVersion(t)
	}
}

func recordedClients(t *testing.T, p *parties) []recorded {
	const none, verify = v2.NoClientCert, v2.RequireAndVerifyClientCert
	key, ecdsa, client := visit{psk: true}, visit{ca: p.serverCA}, visit{ca: p.serverCA, cert: p.client}
	// A short ClientHello in one record, and then fragments.
	short := func(args ...string) visit { return visit{ca: p.serverCA, cert: p.client, mtu: 256, args: args} }
	cs := []recorded{
		{file: "openssl-psk", config: pskServer(gcm), connect: visiting(openSSL, key)},
		{file: "openssl-ecdhe-psk", config: pskServer(ecdhe), connect: visiting(openSSL, key)},
		{file: "openssl-ecdsa", config: p.config(none), connect: visiting(openSSL, ecdsa)},
		{file: "openssl-ecdsa-mtu-256", config: p.config(none), connect: visiting(openSSL, visit{ca: p.serverCA, mtu: 256})},
		{file: "openssl-client-certificate", config: p.config(verify), connect: visiting(openSSL, client)},
		{file: "openssl-client-certificate-mtu-256", config: p.config(verify), connect: visiting(openSSL,
			short("-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", "-sigalgs", "ECDSA+SHA256", "-groups", "P-256"))},
		{file: "openssl-seven-certificates-mtu-300", config: p.config(verify),
			connect: visiting(openSSL, visit{ca: p.serverCA, cert: p.long, mtu: 300})},

		{file: "gnutls-psk", config: pskServer(gcm), connect: visiting(gnuTLS, key)},
		{file: "gnutls-psk-no-extended-master-secret", config: pskServer(gcm),
			connect: visiting(gnuTLS, visit{psk: true, priority: ":%NO_SESSION_HASH"})},
		{file: "gnutls-ecdsa", config: p.config(none), connect: visiting(gnuTLS, ecdsa)},
		{file: "gnutls-ecdsa-mtu-256", config: p.config(none), connect: visiting(gnuTLS, visit{ca: p.serverCA, mtu: 256})},
		{file: "gnutls-client-certificate", config: p.config(verify), connect: visiting(gnuTLS, client)},
		{file: "gnutls-client-certificate-mtu-256", config: p.config(verify), connect: visiting(gnuTLS, visit{
			ca: p.serverCA, cert: p.client, mtu: 256, priority: ":-CIPHER-ALL:+AES-128-GCM:-KX-ALL:+ECDHE-ECDSA:-GROUP-ALL:+GROUP-SECP256R1:-SIGN-ALL:+SIGN-ECDSA-SHA256",
		})},

		{file: "mbedtls-psk", config: pskServer(gcm), connect: visiting(mbedTLS, key)},
		{file: "mbedtls-ecdhe-psk", config: pskServer(ecdhe), connect: visiting(mbedTLS, key)},
		{file: "mbedtls-ecdsa", config: p.config(none), connect: visiting(mbedTLS, ecdsa)},
		{file: "mbedtls-client-certificate", config: p.config(verify), connect: visiting(mbedTLS, client)},
		{file: "mbedtls-client-certificate-mtu-256", config: p.config(verify), connect: visiting(mbedTLS, short())},

		{file: "wolfssl-ecdhe-psk", config: pskServer(ecdhe), connect: visiting(wolfSSL, key)},
		{file: "wolfssl-ecdsa", config: p.config(none), connect: visiting(wolfSSL, ecdsa)},
		{file: "wolfssl-client-certificate", config: p.config(verify), connect: visiting(wolfSSL, client)},

		{file: "nss-ecdsa", config: p.config(none), connect: visiting(nss, ecdsa)},
		{file: "nss-client-certificate", config: p.config(verify), connect: visiting(nss, client)},

		{file: "botan-ecdsa", config: p.config(none), connect: visiting(botan, ecdsa)},

		{file: "libcoap-psk", config: pskServer(gcm), connect: libcoap("coap-client-openssl", p, nil)},
		{file: "libcoap-client-certificate", config: p.config(verify), connect: libcoap("coap-client-openssl", p, p.alone)},
	}
	session := filepath.Join(t.TempDir(), "session.pem")
	cs = append(cs, recorded{
		file: "openssl-psk-resumed", config: pskServer(gcm),
		before: func(t *testing.T, server net.Addr) {
			openSSL.echo(t, server, visit{psk: true, args: []string{"-sess_out", session}})
		},
		connect: visiting(openSSL, visit{psk: true, args: []string{"-sess_in", session}}),
	})
	return append(cs, pionClients(p)...)
}

// libcoap returns a connect function of one of libcoap's clients. It sends only the first
// certificate of a file.
func libcoap(name string, p *parties, cert *dtlstest.Certificate) func(*testing.T, net.Addr) string {
	return func(t *testing.T, server net.Addr) string {
		t.Helper()
		program := dtlstest.NeedCommand(t, name)
		args := []string{"-u", dtlstest.Identity, "-k", string(key)}
		if cert != nil {
			certFile, keyFile := cert.Files(t)
			args = []string{"-c", certFile, "-j", keyFile, "-C", p.serverCA.File(t)}
		}
		// An echo of its request is no answer, so it ends with the test.
		dtlstest.StartProcess(t, program, append(args, "coaps://"+server.String()+"/")...)
		usage, _ := exec.Command(program).CombinedOutput() // without arguments it says what it is, and fails
		words := strings.Fields(string(usage))
		require.Greater(t, len(words), 1, string(usage))
		return "libcoap " + strings.TrimPrefix(words[1], "v")
	}
}

// With each of these clients the handshake is completed, and what went over the network is
// what a recording must have.
func TestRecordedClients(t *testing.T) { withEachAdapter(t, testRecordedClients) }

func testRecordedClients(t *testing.T, on adapter) {
	for _, with := range recordedClients(t, newParties(t)) {
		t.Run(with.file, func(t *testing.T) {
			t.Parallel()
			recorder := newRecorder()
			var cfg dtlsserver.Config
			if with.before != nil {
				store, err := resume.New(resume.Config{})
				require.NoError(t, err)
				cfg.Resumption = store
			}
			with.config.KeyLogWriter = recorder
			write := *writeRecordings && on.recorded
			if write {
				with.config.FlightInterval = time.Second // no flight is repeated
			}
			s := serve(t, on, with.config, cfg, "")
			if with.before != nil {
				with.before(t, s.Addr())
				require.False(t, s.next(t).Resumed())
			}
			client := with.connect(t, recorder.relay(t, s.Addr()).Addr())
			require.Equal(t, with.before != nil, s.next(t).Resumed())
			recording := recorder.recording(t, client)
			contents := look(t, recording)
			assert.Equal(t, recording.ClientRandom, contents.client.Random)
			assert.Equal(t, with.before != nil, contents.abbreviated)
			assert.Equal(t, !strings.Contains(with.file, "no-extended-master-secret"), contents.server.ExtendedMasterSecret)
			assert.Equal(t, strings.Contains(with.file, "certificate"), contents.certificate > 0)
			assert.Equal(t, strings.Contains(with.file, "mtu"), contents.fragments > 0)
			if write {
				require.False(t, contents.repeated, "a flight was repeated: try again")
				require.NoError(t, os.WriteFile(filepath.Join(recordingsDir, with.file+".txt"), recording.Text(contents.String()), 0o644))
			}
		})
	}
}

// The stored recordings are whole, and there is one of each client.
func TestStoredRecordings(t *testing.T) {
	t.Parallel()
	clients := recordedClients(t, newParties(t))
	for _, with := range clients {
		recording, err := dtlstest.ReadRecording(filepath.Join(recordingsDir, with.file+".txt"))
		if !assert.NoError(t, err) {
			continue
		}
		contents := look(t, recording)
		assert.Equal(t, recording.Suite, v2.CipherSuiteID(contents.server.Suite).String(), with.file)
		assert.Equal(t, recording.ClientRandom, contents.client.Random, with.file)
		assert.Equal(t, with.before != nil, contents.abbreviated, with.file)
		assert.Equal(t, strings.Contains(with.file, "mtu"), contents.fragments > 0, with.file)
		assert.False(t, contents.repeated, with.file)
	}
	files, err := filepath.Glob(recordingsDir + "/*.txt")
	require.NoError(t, err)
	assert.Len(t, files, len(clients))
}
