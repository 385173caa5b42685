// SPDX-License-Identifier: MIT

package interop

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
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
	// version is the program's version by what it says if it is asked by versionArgs. Nil: it
	// does not say it.
	versionArgs []string
	version     func(output string) string
	args        func(t *testing.T, server net.Addr, v visit) []string
	// end ends an interactive client, which sends the lines that it is given. Without it the
	// client is not interactive: it takes the line as an argument.
	end func(*dtlstest.Process)
	// noPSK says that the client has no suites with a pre-shared key, and
	// noClientCertificate that it cannot show a certificate.
	noPSK, noClientCertificate bool
	// keep are the arguments with which the client keeps its session in a file, and resume
	// those with which it resumes that. Nil: it has none.
	keep, resume func(file string) []string
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
		args:    openSSLArgs, keep: sessionOut, resume: sessionIn, end: func(client *dtlstest.Process) { client.Line("Q") },
		versionArgs: []string{"version"}, version: func(output string) string { return strings.Join(strings.Fields(output)[:2], " ") },
	}
	gnuTLS = foreign{
		name: "GnuTLS",
		program: func(t *testing.T) string {
			return dtlstest.CompileC(t, "testdata/gnutls.c", "gnutls/gnutls.h", "gnutls")
		},
		args: gnuTLSArgs, keep: sessionOut, resume: sessionIn,
		// A flight of more than 32 records ends in GNUTLS_E_INTERNAL_ERROR, before any of it
		// is sent (MAX_QUEUE in its buffers.c).
		minMTUForLongChain: 400,
		versionArgs:        []string{"-version"}, version: func(output string) string { return output },
	}
	mbedTLS = foreign{
		name: "Mbed TLS",
		program: func(t *testing.T) string {
			return dtlstest.CompileC(t, "testdata/mbedtls.c", "mbedtls/ssl.h", "mbedtls", "mbedx509", "mbedcrypto")
		},
		args: compiledArgs, keep: sessionOut, resume: sessionIn,
		versionArgs: []string{"-version"}, version: func(output string) string { return output },
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
		keep: sessionOut, resume: sessionIn,
		versionArgs: []string{"-version"}, version: func(output string) string { return output },
		fixedMTU: true, // in Debian's library
	}
	nss = foreign{
		name:    "NSS",
		program: func(t *testing.T) string { return dtlstest.NeedCommand(t, "tstclnt") },
		args:    nssArgs, end: (*dtlstest.Process).Kill, // at the end of its input it goes on
		noPSK: true, fixedMTU: true,
	}
	botan = foreign{
		name: "Botan",
		// Without stdbuf it says what it has received when it ends.
		program: func(t *testing.T) string {
			dtlstest.NeedCommand(t, "botan")
			return dtlstest.NeedCommand(t, "stdbuf")
		},
		args: botanArgs, keep: botanSessions, resume: botanSessions, end: (*dtlstest.Process).CloseInput,
		versionArgs: []string{"-oL", "botan", "version"}, version: func(output string) string { return "Botan " + output },
		noPSK: true, noClientCertificate: true, fixedMTU: true, // the program, not the library
	}
)

// foreigners are all foreign clients.
var foreigners = []foreign{openSSL, gnuTLS, mbedTLS, wolfSSL, nss, botan}

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

func sessionOut(file string) []string { return []string{"-sess_out", file} }
func sessionIn(file string) []string  { return []string{"-sess_in", file} }

// nssArgs are the arguments of NSS's tstclnt, which takes certificates from a database.
func nssArgs(t *testing.T, server net.Addr, v visit) []string {
	certutil, database := dtlstest.NeedCommand(t, "certutil"), "sql:"+t.TempDir()
	dtlstest.RunProcess(t, certutil, "-N", "-d", database, "--empty-password")
	dtlstest.RunProcess(t, certutil, "-A", "-d", database, "-n", "root", "-t", "C,,", "-i", v.ca.File(t))
	host, port, _ := net.SplitHostPort(server.String())
	args := []string{"-P", "client", "-V", "tls1.2:tls1.2", "-h", host, "-p", port, "-a", dtlstest.ServerName, "-d", database}
	if v.cert != nil {
		const name, password = "client", "password"
		certFile, keyFile := v.cert.Files(t)
		both := filepath.Join(t.TempDir(), "client.p12")
		dtlstest.RunProcess(t, dtlstest.NeedCommand(t, "openssl"), "pkcs12", "-export", "-in", certFile, "-inkey", keyFile,
			"-name", name, "-passout", "pass:"+password, "-out", both)
		dtlstest.RunProcess(t, dtlstest.NeedCommand(t, "pk12util"), "-i", both, "-d", database, "-W", password, "-K", "")
		args = append(args, "-n", name)
	}
	return append(args, v.args...)
}

// botanArgs are the arguments of Botan's command line program. It verifies a name only, not
// an address, and looks the name up by itself.
func botanArgs(t *testing.T, server net.Addr, v visit) []string {
	needNameOf(t, server)
	_, port, _ := net.SplitHostPort(server.String())
	args := []string{"-oL", "botan", "tls_client", dtlstest.ServerName, "--port=" + port, "--type=udp", "--skip-system-cert-store", "--trusted-cas=" + v.ca.File(t)}
	return append(args, v.args...)
}

func botanSessions(file string) []string {
	return []string{"--session-db=" + file, "--session-db-pass=secret"}
}

// needNameOf skips the test, or fails it in CI, where the certificates' name is not that of
// the server's address alone.
func needNameOf(t *testing.T, server net.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), dtlstest.Patience)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", dtlstest.ServerName)
	want := server.(*net.UDPAddr).AddrPort().Addr()
	if err == nil && !slices.ContainsFunc(addresses, func(a netip.Addr) bool { return a.Unmap() != want }) {
		return
	}
	message := fmt.Sprintf("%s has the addresses %v, not only %v: not tested against Botan", dtlstest.ServerName, addresses, want)
	if dtlstest.InCI() {
		t.Fatal(message)
	}
	t.Skip(message)
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
	if f.end == nil {
		return dtlstest.StartProcess(t, f.path, append(args, "-line", line)...)
	}
	client := dtlstest.StartProcess(t, f.path, args...)
	client.Line(line)
	return client
}

// finish waits until the line of start has come back, and tells the client to end.
func (f foreign) finish(client *dtlstest.Process) {
	client.Expect(line)
	if f.end != nil {
		f.end(client)
	}
}

// isIn is finish for a client that may fail: it waits for the line until a time, and reports
// whether the line has come back.
func (f foreign) isIn(client *dtlstest.Process, by time.Time) bool {
	if !client.Says(by, line) {
		return false
	}
	if f.end != nil {
		f.end(client)
	}
	return true
}

// nameAndVersion returns what the client calls itself.
func (f foreign) nameAndVersion(t *testing.T) string {
	t.Helper()
	if f.versionArgs == nil {
		return f.name
	}
	output, _ := dtlstest.RunProcess(t, f.installed(t).path, f.versionArgs...)
	return f.version(output)
}
