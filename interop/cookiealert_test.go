// SPDX-License-Identifier: MIT

package interop

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// forgetful is a server that asks each client for a cookie, and answers the cookie with a
// fatal alert: handshake_failure, in plaintext. So does a server that has been restarted
// meanwhile.
type forgetful struct {
	socket *net.UDPConn
	alert  alertRecord

	mu sync.Mutex
	// mu guards the following.
	hellos []heardHello
}

// heardHello is a ClientHello, and when it came.
type heardHello struct {
	record.ClientHello
	at time.Time
}

// alertRecord is the header of the alert's record. The HelloVerifyRequest before it comes
// twice, with the sequence numbers 0 and 1.
type alertRecord struct {
	version  uint16
	echo     bool   // the sequence number of the ClientHello is added
	sequence uint64 // the sequence number
}

func (a alertRecord) String() string {
	sequence := fmt.Sprint(a.sequence)
	if a.echo {
		sequence = "that of the ClientHello and " + sequence
	}
	return fmt.Sprintf("version %x, sequence number %s", a.version, sequence)
}

// handshakeFailure is the number of the alert (RFC 5246 section 7.2.2).
const handshakeFailure = 40

func startForgetful(t *testing.T, alert alertRecord) *forgetful {
	t.Helper()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	s := &forgetful{socket: socket, alert: alert}
	var wg sync.WaitGroup
	wg.Go(s.run)
	t.Cleanup(func() {
		_ = socket.Close()
		wg.Wait()
	})
	return s
}

func (s *forgetful) run() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := s.socket.ReadFromUDP(buf)
		if err != nil {
			return
		}
		for _, r := range dtlstest.Records(buf[:n]) {
			hello, ok := record.ParseClientHello(r)
			if !ok {
				continue
			}
			s.mu.Lock()
			s.hellos = append(s.hellos, heardHello{hello, time.Now()})
			s.mu.Unlock()
			for _, datagram := range s.answers(hello, r.Sequence) {
				_, _ = s.socket.WriteToUDP(datagram, from)
			}
		}
	}
}

func (s *forgetful) answers(hello record.ClientHello, sequence uint64) [][]byte {
	if len(hello.Cookie) == 0 {
		request := dtlstest.Message(record.MessageHelloVerifyRequest, 0, append([]byte{0xfe, 0xfd, 20}, make([]byte, 20)...)...)
		return [][]byte{dtlstest.Plaintext(record.TypeHandshake, 0, request...), dtlstest.Plaintext(record.TypeHandshake, 1, request...)}
	}
	if !s.alert.echo {
		sequence = 0
	}
	alert := dtlstest.Plaintext(record.TypeAlert, sequence+s.alert.sequence, record.LevelFatal, handshakeFailure)
	record.PutVersion(alert, s.alert.version)
	return [][]byte{alert}
}

// withCookie returns the ClientHellos with a cookie.
func (s *forgetful) withCookie() []heardHello {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []heardHello
	for _, h := range s.hellos {
		if len(h.Cookie) > 0 {
			found = append(found, h)
		}
	}
	return found
}

// libcoapClient returns a function that starts libcoap's client. Its timeout is longer than
// the test waits.
func libcoapClient(name string) func(*testing.T, net.Addr) *dtlstest.Process {
	return func(t *testing.T, server net.Addr) *dtlstest.Process {
		return dtlstest.StartProcess(t, dtlstest.NeedCommand(t, name), "-B", "60", "-u", dtlstest.Identity, "-k", string(key), "coaps://"+server.String()+"/")
	}
}

// A client whose cookie the server does not know can be told so by a fatal alert, which it
// cannot tell from a forged one. It ends at once, if the alert's record has a sequence
// number that it has not seen: not one of the HelloVerifyRequests, which the server may have
// repeated. It does not begin anew by itself. Without an alert it repeats its cookie for 31 s
// (libcoap), 60 s (GnuTLS by default) or more than 75 s.
//
// GnuTLS ignores the first alert, unless its session has GNUTLS_NONBLOCK, as libcoap's has.
// It ends at the alert for its next ClientHello, if that has another sequence number.
func TestClientEndsAtAlertForItsCookie(t *testing.T) {
	t.Parallel()
	// More HelloVerifyRequests than a server sends, and less than a replay window is long.
	const ahead = 32
	p := newParties(t)
	visiting := func(f foreign) func(*testing.T, net.Addr) *dtlstest.Process {
		return func(t *testing.T, server net.Addr) *dtlstest.Process {
			return f.installed(t).start(t, server, p.wayFor(f).visit)
		}
	}
	for _, client := range []struct {
		name   string
		start  func(*testing.T, net.Addr) *dtlstest.Process
		alerts int    // until it ends
		says   string // at its end
		says10 string // if the alert's record has the version of DTLS 1.0; empty: the same
	}{
		{name: "OpenSSL", start: visiting(openSSL), alerts: 1, says: "SSL alert number 40"},
		{name: "Mbed TLS", start: visiting(mbedTLS), alerts: 1, says: "fatal alert message was received"},
		{name: "wolfSSL", start: visiting(wolfSSL), alerts: 1, says: "received alert fatal error", says10: "record layer version error"},
		{name: "GnuTLS", start: visiting(gnuTLS), alerts: 2, says: "fatal alert has been received"},
		{name: "NSS", start: visiting(nss), alerts: 1, says: "SSL_ERROR_NO_CYPHER_OVERLAP"},
		{name: "Botan", start: visiting(botan), alerts: 1, says: "handshake_failure"},
		{name: "libcoap over OpenSSL", start: libcoapClient("coap-client-openssl"), alerts: 1, says: "cannot send CoAP pdu"},
		{name: "libcoap over GnuTLS", start: libcoapClient("coap-client-gnutls"), alerts: 1, says: "cannot send CoAP pdu"},
	} {
		for _, alert := range []alertRecord{{0xfefd, true, ahead}, {0xfeff, true, ahead}, {0xfefd, true, 0}, {0xfefd, false, 1}} {
			t.Run(client.name+"/"+alert.String(), func(t *testing.T) {
				t.Parallel()
				s := startForgetful(t, alert)
				process := client.start(t, s.socket.LocalAddr())
				if !alert.echo {
					dtlstest.Eventually(t, func() bool { return len(s.withCookie()) > 1 }, "the cookie is repeated")
					assert.False(t, process.EndsBy(time.Now()), process.Output())
					return
				}
				process.Ends()
				ended := time.Now()
				if alert.version == 0xfeff && client.says10 != "" {
					assert.Contains(t, process.Output(), client.says10)
				} else {
					assert.Contains(t, process.Output(), client.says)
				}
				hellos := s.withCookie()
				alerts := client.alerts
				if alert.sequence == 0 {
					alerts = 2 // the first one looks like a replay of the HelloVerifyRequest
				}
				require.Len(t, hellos, alerts, "it repeats its cookie, or begins anew")
				t.Logf("ended %v after its cookie", ended.Sub(hellos[0].at).Round(time.Millisecond))
			})
		}
	}
}
