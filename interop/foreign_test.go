// SPDX-License-Identifier: MIT

package interop

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
)

// visit is what a foreign client is to do: make a handshake with a server, and have a line
// echoed.
type visit struct {
	psk  bool                  // the identity and key of pskServer; otherwise certificates
	ca   *dtlstest.CA          // that has issued the server's certificate
	cert *dtlstest.Certificate // the client's own, or nil
	mtu  int                   // as the client counts it; 0: its default
	args []string              // further arguments, in the client's own words

	priority string // what follows in GnuTLS's priority string
}

// foreign is a client that shares no code with pion, as a program that is installed or is
// compiled from testdata.
type foreign struct {
	name string
	// program returns the program, and skips the test, or fails it in CI, where that or
	// its library is missing.
	program func(t *testing.T) string
	path    string // of the program; empty before installed
	// version is the program's version by what it says if it is asked by versionArg.
	versionArg string
	version    func(output string) string
	args       func(t *testing.T, server net.Addr, v visit) []string
	// quit is the line that ends an interactive client, which sends the lines that it is
	// given. Without it the client is not interactive: it takes the line as an argument.
	quit string
	// fixedMTU says that the client has no option for the MTU.
	fixedMTU bool
	// wholeClientHello says that the client fragments all messages but the ClientHello.
	wholeClientHello bool
	// minMTUForLongChain is the MTU from which on the client can send a Certificate message
	// of 8 kB.
	minMTUForLongChain int
}

var (
	openSSL = foreign{
		name:    "OpenSSL",
		program: func(t *testing.T) string { return dtlstest.NeedCommand(t, "openssl") },
		args:    openSSLArgs, quit: "Q",
		versionArg: "version", version: func(output string) string { return strings.Join(strings.Fields(output)[:2], " ") },
	}
	gnuTLS = foreign{
		name: "GnuTLS",
		program: func(t *testing.T) string {
			return dtlstest.CompileC(t, "testdata/gnutls.c", "gnutls/gnutls.h", "gnutls")
		},
		args: gnuTLSArgs,
		// A flight of more than 32 records ends in GNUTLS_E_INTERNAL_ERROR, before any of it
		// is sent (MAX_QUEUE in its buffers.c).
		minMTUForLongChain: 400,
		versionArg:         "-version", version: func(output string) string { return output },
	}
	mbedTLS = foreign{
		name: "Mbed TLS",
		program: func(t *testing.T) string {
			return dtlstest.CompileC(t, "testdata/mbedtls.c", "mbedtls/ssl.h", "mbedtls", "mbedx509", "mbedcrypto")
		},
		args:       compiledArgs,
		versionArg: "-version", version: func(output string) string { return output },
		wholeClientHello: true,
	}
	wolfSSL = foreign{
		name: "wolfSSL",
		program: func(t *testing.T) string {
			return dtlstest.CompileC(t, "testdata/wolfssl.c", "wolfssl/ssl.h", "wolfssl")
		},
		args: func(t *testing.T, server net.Addr, v visit) []string {
			return append(compiledArgs(t, server, v), "-renegotiation-info") // see TestWolfSSLAsItIs
		},
		versionArg: "-version", version: func(output string) string { return output },
		fixedMTU: true, // in Debian's library
	}
)

// foreigners are all foreign clients.
var foreigners = []foreign{openSSL, gnuTLS, mbedTLS, wolfSSL}

func openSSLArgs(t *testing.T, server net.Addr, v visit) []string {
	args := []string{"s_client", "-dtls1_2", "-connect", server.String()}
	if v.psk {
		args = append(args, "-psk_identity", dtlstest.Identity, "-psk", fmt.Sprintf("%x", key))
	} else {
		args = append(args, "-CAfile", v.ca.File(t), "-verify_return_error", "-verify_hostname", dtlstest.ServerName, "-servername", dtlstest.ServerName)
	}
	if v.cert != nil {
		certFile, keyFile := v.cert.Files(t)
		args = append(args, "-cert", certFile, "-key", keyFile)
		if len(v.cert.Certificate.Certificate) > 1 {
			args = append(args, "-cert_chain", v.cert.IntermediatesFile(t))
		}
	}
	if v.mtu != 0 {
		args = append(args, "-mtu", strconv.Itoa(v.mtu))
	}
	return append(args, v.args...)
}

func gnuTLSArgs(t *testing.T, server net.Addr, v visit) []string {
	priority := "NORMAL:-VERS-ALL:+VERS-DTLS1.2"
	if v.psk {
		priority += ":-KX-ALL:+PSK:+ECDHE-PSK"
	}
	return append(compiledArgs(t, server, v), "-priority", priority+v.priority)
}

// compiledArgs are the arguments of the clients of testdata, which client.h explains.
func compiledArgs(t *testing.T, server net.Addr, v visit) []string {
	args := []string{"-connect", server.String()}
	if v.psk {
		args = append(args, "-psk-identity", dtlstest.Identity, "-psk", fmt.Sprintf("%x", key))
	} else {
		args = append(args, "-CAfile", v.ca.File(t), "-servername", dtlstest.ServerName)
	}
	if v.cert != nil {
		certFile, keyFile := v.cert.Files(t)
		args = append(args, "-cert", certFile, "-key", keyFile)
	}
	if v.mtu != 0 {
		args = append(args, "-mtu", strconv.Itoa(v.mtu))
	}
	return append(args, v.args...)
}

// installed returns the client with its program. Without it each visit compiles one.
func (f foreign) installed(t *testing.T) foreign {
	t.Helper()
	if f.path == "" {
		f.path = f.program(t)
	}
	return f
}

// echo has the client visit a server: a line is echoed, and the client ends its session.
func (f foreign) echo(t *testing.T, server net.Addr, v visit) {
	t.Helper()
	f = f.installed(t)
	client := f.start(t, server, v)
	f.finish(client)
	client.Ends()
}

// line is what a foreign client says.
const line = "is this heard?"

// start starts the visit of an installed client. finish goes on with it.
func (f foreign) start(t *testing.T, server net.Addr, v visit) *dtlstest.Process {
	t.Helper()
	args := f.args(t, server, v)
	if f.quit == "" {
		return dtlstest.StartProcess(t, f.path, append(args, "-line", line)...)
	}
	client := dtlstest.StartProcess(t, f.path, args...)
	client.Line(line)
	return client
}

// finish waits until the line of start has come back, and tells the client to end.
func (f foreign) finish(client *dtlstest.Process) {
	client.Expect(line)
	if f.quit != "" {
		client.Line(f.quit)
	}
}

// isIn is finish for a client that may fail: it waits for the line until a time, and reports
// whether the line has come back.
func (f foreign) isIn(client *dtlstest.Process, by time.Time) bool {
	if !client.Says(by, line) {
		return false
	}
	if f.quit != "" {
		client.Line(f.quit)
	}
	return true
}

// nameAndVersion returns what the client calls itself.
func (f foreign) nameAndVersion(t *testing.T) string {
	t.Helper()
	output, _ := dtlstest.RunProcess(t, f.installed(t).path, f.versionArg)
	return f.version(output)
}
