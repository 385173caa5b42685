// SPDX-License-Identifier: MIT

package pionv2

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// needCommand skips the test where there is no such command, but not in CI.
func needCommand(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI has no " + name)
		}
		t.Skip(name + " is not installed: not tested against it")
	}
	return path
}

// selfSigned is a certificate for a key of its own, and the PEM files of both.
func selfSigned(t *testing.T, key crypto.Signer) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dsm test"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write := func(name, kind string, der []byte) string {
		name = filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return name
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
}

func ecdsaKey(t *testing.T) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// process is a client that is not ours, which sends the lines of its stdin.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // closed when it ends
	said  strings.Builder
}

func startProcess(t *testing.T, name string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	cmd := exec.CommandContext(ctx, name, args...)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	p := &process{t: t, cmd: cmd, stdin: stdin, lines: make(chan string, 100)}
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range p.lines {
		}
		_ = cmd.Wait()
	})
	return p
}

// expect waits for a line that contains text.
func (p *process) expect(text string) {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			require.True(p.t, ok, "%s ended without %q; it said:\n%s", p.cmd.Path, text, p.said.String())
			fmt.Fprintln(&p.said, line)
			if strings.Contains(line, text) {
				return
			}
		case <-timeout:
			require.FailNow(p.t, "no "+text, "%s said:\n%s", p.cmd.Path, p.said.String())
		}
	}
}

// ends waits until the process ends by itself.
func (p *process) ends() {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				return
			}
			fmt.Fprintln(&p.said, line)
		case <-timeout:
			require.FailNow(p.t, "it does not end", "%s said:\n%s", p.cmd.Path, p.said.String())
		}
	}
}

func (p *process) line(text string) {
	p.t.Helper()
	_, err := fmt.Fprintln(p.stdin, text)
	require.NoError(p.t, err)
}

// opensslSuites are pion's suites by OpenSSL's names.
var opensslSuites = []struct {
	name string
	id   dtls.CipherSuiteID
	key  string
}{
	{"ECDHE-ECDSA-AES128-CCM", dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM, "ecdsa"},
	{"ECDHE-ECDSA-AES128-CCM8", dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, "ecdsa"},
	{"ECDHE-ECDSA-AES128-GCM-SHA256", dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ecdsa"},
	{"ECDHE-ECDSA-AES256-GCM-SHA384", dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ecdsa"},
	{"ECDHE-ECDSA-AES256-SHA", dtls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "ecdsa"},
	{"ECDHE-RSA-AES128-GCM-SHA256", dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "rsa"},
	{"ECDHE-RSA-AES256-GCM-SHA384", dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "rsa"},
	{"ECDHE-RSA-AES256-SHA", dtls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "rsa"},
	{"PSK-AES128-CCM", dtls.TLS_PSK_WITH_AES_128_CCM, "psk"},
	{"PSK-AES128-CCM8", dtls.TLS_PSK_WITH_AES_128_CCM_8, "psk"},
	{"PSK-AES256-CCM8", dtls.TLS_PSK_WITH_AES_256_CCM_8, "psk"},
	{"PSK-AES128-GCM-SHA256", dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, "psk"},
	{"PSK-AES128-CBC-SHA256", dtls.TLS_PSK_WITH_AES_128_CBC_SHA256, "psk"},
	{"ECDHE-PSK-AES128-CBC-SHA256", dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256, "psk"},
}

// TestOpenSSLSuites: with every suite lines are echoed, R is answered, and
// close_notify goes both ways.
func TestOpenSSLSuites(t *testing.T) {
	openssl := needCommand(t, "openssl")
	checkLeaks(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecdsaCert, certFile, keyFile := selfSigned(t, ecdsaKey(t))
	rsaCert, _, _ := selfSigned(t, rsaKey)
	for _, suite := range opensslSuites {
		t.Run(suite.name, func(t *testing.T) {
			config := &dtls.Config{CipherSuites: []dtls.CipherSuiteID{suite.id}}
			args := []string{"s_client", "-dtls1_2", "-cipher", suite.name + ":@SECLEVEL=0"}
			switch suite.key {
			case "ecdsa":
				config.Certificates = []tls.Certificate{ecdsaCert}
				config.ClientAuth = dtls.RequireAnyClientCert
				args = append(args, "-cert", certFile, "-key", keyFile)
			case "rsa":
				config.Certificates = []tls.Certificate{rsaCert}
			case "psk":
				config.PSK = pskConfig("0123456789abcdef").PSK
				config.PSKIdentityHint = []byte("server")
				args = append(args, "-psk_identity", "device", "-psk", "30313233343536373839616263646566")
			}
			ended := make(chan Reason, 2)
			l := listen(t, config, Config{OnEnd: func(_ *Conn, why Reason) { ended <- why }})
			conns := server[*Conn](t, l)
			args = append(args, "-connect", l.Addr().String())

			client := startProcess(t, openssl, args...)
			client.line("hello of " + suite.name)
			client.expect("hello of " + suite.name)
			session := <-conns
			state := session.ConnectionState()
			switch suite.key {
			case "ecdsa":
				assert.Equal(t, ecdsaCert.Certificate, state.PeerCertificates)
			case "psk":
				assert.Equal(t, "device", string(state.IdentityHint))
			}
			require.NoError(t, session.Close())
			client.ends() // our close_notify
			assert.Equal(t, ClosedByUs, <-ended)

			// R asks for a renegotiation. Told that there is none, s_client gives up;
			// untold it would wait for ever.
			client = startProcess(t, openssl, args...)
			client.line("before R")
			client.expect("before R")
			client.line("R")
			client.expect("no renegotiation")
			client.ends()
			assert.Equal(t, ClosedByPeer, <-ended)

			client = startProcess(t, openssl, args...)
			client.line("once more")
			client.expect("once more")
			client.line("Q") // quit
			client.ends()
			assert.Equal(t, ClosedByPeer, <-ended)
		})
	}
}
