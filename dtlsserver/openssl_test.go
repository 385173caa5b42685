// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// opensslKey is a pre-shared key, and opensslPSK are the arguments of s_client for it.
const opensslKey = "0123456789abcdef"

var opensslPSK = []string{"-psk_identity", dtlstest.Identity, "-psk", fmt.Sprintf("%x", opensslKey)}

// startOpenSSL starts OpenSSL's client. It sends the lines that it is given, and prints
// those that it receives.
func startOpenSSL(t *testing.T, l *dtlsserver.Listener, args ...string) *dtlstest.Process {
	t.Helper()
	openssl := dtlstest.NeedCommand(t, "openssl")
	return dtlstest.StartProcess(t, openssl, append([]string{"s_client", "-dtls1_2", "-connect", l.Addr().String()}, args...)...)
}

// echoOfProcess has a client send a line and waits for its echo.
func echoOfProcess(client *dtlstest.Process, line string) {
	client.Line(line)
	client.Expect(line)
}

// awaitEnds waits for clients to end by themselves. Each of them lingers for half a second
// after the end of its session, so a test calls this once for all of its clients.
func awaitEnds(clients ...*dtlstest.Process) {
	for _, client := range clients {
		client.Ends()
	}
}

// opensslSuites are pion's cipher suites by OpenSSL's names.
var opensslSuites = []struct {
	name string
	id   dtls.CipherSuiteID
	key  dtlstest.KeyKind // empty: a pre-shared key
}{
	{"ECDHE-ECDSA-AES128-CCM", dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM, dtlstest.ECDSA},
	{"ECDHE-ECDSA-AES128-CCM8", dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, dtlstest.ECDSA},
	{"ECDHE-ECDSA-AES128-GCM-SHA256", dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtlstest.ECDSA},
	{"ECDHE-ECDSA-AES256-GCM-SHA384", dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtlstest.ECDSA},
	{"ECDHE-ECDSA-AES256-SHA", dtls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, dtlstest.ECDSA},
	{"ECDHE-RSA-AES128-GCM-SHA256", dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, dtlstest.RSA},
	{"ECDHE-RSA-AES256-GCM-SHA384", dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, dtlstest.RSA},
	{"ECDHE-RSA-AES256-SHA", dtls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, dtlstest.RSA},
	{"PSK-AES128-CCM", dtls.TLS_PSK_WITH_AES_128_CCM, ""},
	{"PSK-AES128-CCM8", dtls.TLS_PSK_WITH_AES_128_CCM_8, ""},
	{"PSK-AES256-CCM8", dtls.TLS_PSK_WITH_AES_256_CCM_8, ""},
	{"PSK-AES128-GCM-SHA256", dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, ""},
	{"PSK-AES128-CBC-SHA256", dtls.TLS_PSK_WITH_AES_128_CBC_SHA256, ""},
	{"ECDHE-PSK-AES128-CBC-SHA256", dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256, ""},
}

// With every suite lines are echoed, a renegotiation is answered, and close_notify goes
// both ways.
func TestOpenSSLWithEverySuite(t *testing.T) {
	t.Parallel()
	dtlstest.NeedCommand(t, "openssl")
	for _, key := range []dtlstest.KeyKind{dtlstest.ECDSA, dtlstest.RSA, ""} {
		t.Run(cmp.Or(string(key), "psk"), func(t *testing.T) {
			t.Parallel()
			ecdsaCert, rsaCert := dtlstest.SelfSigned(t, dtlstest.ECDSA), dtlstest.SelfSigned(t, dtlstest.RSA)
			certFile, keyFile := ecdsaCert.Files(t)
			var clients, closed []*dtlstest.Process
			for _, suite := range opensslSuites {
				if suite.key != key {
					continue
				}
				config := &dtls.Config{CipherSuites: []dtls.CipherSuiteID{suite.id}}
				args := []string{"-cipher", suite.name + ":@SECLEVEL=0"}
				switch key {
				case dtlstest.ECDSA:
					config.Certificates = []tls.Certificate{ecdsaCert.Certificate}
					config.ClientAuth = dtls.RequireAnyClientCert
					args = append(args, "-cert", certFile, "-key", keyFile)
				case dtlstest.RSA:
					config.Certificates = []tls.Certificate{rsaCert.Certificate}
				default:
					config.PSK = dtlstest.PSKConfig(opensslKey).PSK
					config.PSKIdentityHint = []byte("server")
					args = append(args, opensslPSK...)
				}
				ended := make(chan dtlsserver.Reason, 3)
				l := listen(t, config, dtlsserver.Config{OnEnd: func(_ *dtlsserver.Conn, why dtlsserver.Reason) { ended <- why }})
				sessions := echoServer(t, l)

				client := startOpenSSL(t, l, args...)
				echoOfProcess(client, "hello of "+suite.name)
				session := dtlstest.Receive(t, sessions)
				state := connectionState(session)
				switch key {
				case dtlstest.ECDSA:
					assert.Equal(t, ecdsaCert.Certificate.Certificate, state.PeerCertificates, suite.name)
				case dtlstest.RSA:
				default:
					assert.Equal(t, dtlstest.Identity, string(state.IdentityHint), suite.name)
				}
				require.NoError(t, session.Close())
				assert.Equal(t, dtlsserver.ClosedByUs, dtlstest.Receive(t, ended), suite.name)
				closed = append(closed, client)

				// R asks for a renegotiation. s_client gives up when it is told that there
				// is none, and would wait for ever without an answer.
				client = startOpenSSL(t, l, args...)
				echoOfProcess(client, "before R with "+suite.name)
				client.Line("R")
				client.Expect("no renegotiation")
				assert.Equal(t, dtlsserver.ClosedByPeer, dtlstest.Receive(t, ended), suite.name)
				clients = append(clients, client)

				client = startOpenSSL(t, l, args...)
				echoOfProcess(client, "once more with "+suite.name)
				client.Line("Q") // quit
				assert.Equal(t, dtlsserver.ClosedByPeer, dtlstest.Receive(t, ended), suite.name)
				clients = append(clients, client)
			}
			for _, client := range closed {
				client.Expect("closed") // it has received close_notify
			}
			awaitEnds(append(clients, closed...)...)
		})
	}
}

// OpenSSL keeps its session in a file and resumes it.
func TestOpenSSLResumes(t *testing.T) {
	t.Parallel()
	dtlstest.NeedCommand(t, "openssl")
	cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	certFile, keyFile := cert.Files(t)
	for _, test := range []struct {
		with   string
		config *dtls.Config
		args   []string
	}{
		{"PSK", dtlstest.PSKConfig(opensslKey), opensslPSK},
		{"certificates", &dtls.Config{
			Certificates: []tls.Certificate{cert.Certificate}, ClientAuth: dtls.RequireAndVerifyClientCert, ClientCAs: cert.Pool,
		}, []string{"-cert", certFile, "-key", keyFile}},
	} {
		t.Run(test.with, func(t *testing.T) {
			t.Parallel()
			l := listen(t, test.config, dtlsserver.Config{Resumption: newStore(t, resume.Config{})})
			sessions := echoServer(t, l)
			file := filepath.Join(t.TempDir(), "session.pem")
			visit := func(line, option, expect string) (*dtlstest.Process, *dtlsserver.Conn) {
				client := startOpenSSL(t, l, append([]string{option, file}, test.args...)...)
				client.Expect(expect)
				echoOfProcess(client, line)
				return client, dtlstest.Receive(t, sessions)
			}
			firstClient, first := visit("the first visit", "-sess_out", "New, TLSv1.2")
			assert.False(t, first.Resumed())
			require.NoError(t, first.SetSessionData([]byte("remembered")))
			assert.Equal(t, "remembered", string(first.SessionData()))
			firstClient.Line("Q")
			clients := []*dtlstest.Process{firstClient}
			for n := range 2 {
				client, s := visit(fmt.Sprint("visit ", n+2), "-sess_in", "Reused, TLSv1.2")
				assert.True(t, s.Resumed())
				assert.Equal(t, "remembered", string(s.SessionData()))
				assert.Equal(t, first.Identity().PSKIdentity, s.Identity().PSKIdentity)
				assert.Equal(t, first.Identity().Certificates, s.Identity().Certificates)
				client.Line("Q")
				clients = append(clients, client)
			}
			awaitEnds(clients...)
			assert.EqualValues(t, 2, l.Stats().Resumed)
		})
	}
}

// An abbreviated handshake with OpenSSL, which repeats its last flight, is completed
// whichever of its datagrams is lost.
func TestOpenSSLResumesDespiteLoss(t *testing.T) {
	t.Parallel()
	dtlstest.NeedCommand(t, "openssl")
	for lost := range 3 {
		t.Run(fmt.Sprint("datagram ", lost), func(t *testing.T) {
			t.Parallel()
			store := newStore(t, resume.Config{})
			file := filepath.Join(t.TempDir(), "session.pem")
			// Each visit has a listener of its own, so that nothing of the first is counted
			// in the second.
			var clients []*dtlstest.Process
			visit := func(l *dtlsserver.Listener, option string) *dtlsserver.Conn {
				sessions := echoServer(t, l)
				client := startOpenSSL(t, l, append([]string{option, file}, opensslPSK...)...)
				session := dtlstest.Receive(t, sessions)
				echoOfProcess(client, "is this heard?")
				client.Line("Q")
				clients = append(clients, client)
				return session
			}
			require.False(t, visit(listen(t, dtlstest.PSKConfig(opensslKey), dtlsserver.Config{Resumption: store}), "-sess_out").Resumed())

			l, tap := listenTap(t, dtlstest.PSKConfig(opensslKey), dtlsserver.Config{Resumption: store})
			lose := dtlstest.LoseNth(lost)
			tap.SetIn(lose)
			tap.SetOut(dtlstest.All(dtlstest.UniqueNumbers(t), lose))
			require.True(t, visit(l, "-sess_in").Resumed())
			awaitEnds(clients...)
		})
	}
}

// OpenSSL understands the ServerKeyExchange without a hint, or that there is none.
func TestOpenSSLWithoutPSKIdentityHint(t *testing.T) {
	t.Parallel()
	dtlstest.NeedCommand(t, "openssl")
	const plain, ecdhe = dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256
	const plainName, ecdheName = "PSK-AES128-GCM-SHA256", "ECDHE-PSK-AES128-CBC-SHA256"
	var clients []*dtlstest.Process
	for _, test := range []struct {
		suites []dtls.CipherSuiteID
		name   string
	}{
		{[]dtls.CipherSuiteID{plain}, plainName},
		{[]dtls.CipherSuiteID{ecdhe}, ecdheName},
		{[]dtls.CipherSuiteID{plain, ecdhe}, plainName},
		{[]dtls.CipherSuiteID{plain, ecdhe}, ecdheName},
	} {
		l := listen(t, &dtls.Config{CipherSuites: test.suites}, dtlsserver.Config{PSK: func(_ context.Context, r dtlsserver.PSKRequest) ([]byte, error) {
			if r.ServerName != "a.example" {
				return nil, dtlsserver.ErrUnknownPSKIdentity
			}
			return []byte(opensslKey), nil
		}})
		echoServer(t, l)
		args := append([]string{"-servername", "a.example", "-cipher", test.name + ":@SECLEVEL=0"}, opensslPSK...)
		client := startOpenSSL(t, l, args...)
		echoOfProcess(client, "hello of "+strings.ToLower(test.name))
		client.Line("Q")
		clients = append(clients, client)
	}
	awaitEnds(clients...)
}
