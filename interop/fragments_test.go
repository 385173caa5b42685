// SPDX-License-Identifier: MIT

package interop

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	v2 "github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// traffic is what a client has sent.
type traffic struct {
	mu            sync.Mutex
	largest       int           // datagram without a whole ClientHello, in bytes
	largestHello  int           // datagram with a whole ClientHello, in bytes
	longest       map[uint8]int // handshake message of each type, in bytes
	fragments     map[uint8]int // of messages that did not come in one record
	transmissions map[uint8]int // of the beginning of a message
}

// watch starts a relay for one client, and notes what it sends.
func watch(t *testing.T, server net.Addr) (*dtlstest.Relay, *traffic) {
	t.Helper()
	relay := dtlstest.StartRelay(t, server)
	seen := &traffic{longest: map[uint8]int{}, fragments: map[uint8]int{}, transmissions: map[uint8]int{}}
	relay.SetIn(seen.note)
	return relay, seen
}

func (w *traffic) note(datagram []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	records := dtlstest.Records(datagram)
	size := &w.largest
	if len(records) == 1 {
		if _, isHello := record.ParseClientHello(records[0]); isHello {
			size = &w.largestHello
		}
	}
	*size = max(*size, len(datagram))
	for _, r := range records {
		if r.Epoch != 0 || r.Type != record.TypeHandshake {
			continue
		}
		for rest := r.Fragment(); len(rest) > 0; {
			m, after, ok := record.NextHandshake(rest)
			if !ok {
				break
			}
			w.longest[m.Type] = max(w.longest[m.Type], m.Length)
			if m.Offset == 0 {
				w.transmissions[m.Type]++
			}
			if !m.Complete() {
				w.fragments[m.Type]++
			}
			rest = after
		}
	}
	return true
}

// assertFits checks that the client's datagrams were no larger than its MTU.
func (w *traffic) assertFits(t *testing.T, client foreign, mtu int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	assert.LessOrEqual(t, w.largest, mtu)
	if !client.wholeClientHello {
		assert.LessOrEqual(t, w.largestHello, mtu)
	}
	t.Logf("ClientHello: %d bytes; fragments: %d", w.longest[record.MessageClientHello], w.fragments[record.MessageClientHello])
}

// assertMessage checks that a message of the client had a length at least, and whether it
// came in fragments. Nobody has waited for OpenSSL, which tries shorter datagrams after its
// third timeout.
func (w *traffic) assertMessage(t *testing.T, message uint8, length int, fragmented bool) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	assert.GreaterOrEqual(t, w.longest[message], length)
	assert.Less(t, w.transmissions[message], 3)
	if fragmented {
		assert.Positive(t, w.fragments[message])
	}
	t.Logf("message type %d: %d bytes; transmissions: %d; fragments: %d; largest datagram: %d bytes",
		message, w.longest[message], w.transmissions[message], w.fragments[message], w.largest)
}

// shortMTUs are the shortest that OpenSSL takes, and one that cuts messages elsewhere.
var shortMTUs = []int{256, 300}

// A client with seven certificates shows all of them, at its default MTU and in short
// datagrams.
func TestClientWithSevenCertificates(t *testing.T) {
	withEachAdapter(t, testClientWithSevenCertificates)
}

func testClientWithSevenCertificates(t *testing.T, on adapter) {
	serverCA, clientCA := dtlstest.NewCA(t, dtlstest.ECDSA), dtlstest.NewCA(t, dtlstest.ECDSA)
	serverCert := serverCA.Issue(t, dtlstest.ECDSA)
	long, short := clientCA.IssueChain(t, 7, 6), clientCA.IssueChain(t, 7, 0)
	require.Greater(t, totalSize(long), 8192)
	for _, with := range foreigners {
		for _, mtu := range append([]int{0, 400}, shortMTUs...) {
			if with.noClientCertificate || mtu != 0 && with.fixedMTU {
				continue
			}
			t.Run(fmt.Sprintf("%s/MTU %d", with.name, mtu), func(t *testing.T) {
				t.Parallel()
				chain := long
				if mtu != 0 && mtu < with.minMTUForLongChain {
					chain = short
				}
				s := serve(t, on, &v2.Config{
					Certificates: []tls.Certificate{serverCert.Certificate}, ClientAuth: v2.RequireAndVerifyClientCert, ClientCAs: chain.Pool,
					FlightInterval: time.Second,
				}, dtlsserver.Config{}, "")
				relay, seen := watch(t, s.Addr())
				with.echo(t, relay.Addr(), visit{ca: serverCA, cert: chain, mtu: mtu})
				assert.Equal(t, chain.Certificate.Certificate, s.next(t).Identity().Certificates)
				seen.assertMessage(t, record.MessageCertificate, totalSize(chain), mtu != 0)
				if mtu != 0 {
					seen.assertFits(t, with, mtu)
				}
			})
		}
	}
}

// totalSize returns the size of the certificates of a chain, in bytes.
func totalSize(chain *dtlstest.Certificate) int {
	size := 0
	for _, der := range chain.Certificate.Certificate {
		size += len(der)
	}
	return size
}

// A client without a certificate has a short path, with a key and with the server's
// certificate. Some of these ClientHellos are longer than a datagram.
func TestClientWithShortDatagrams(t *testing.T) { withEachAdapter(t, testClientWithShortDatagrams) }

func testClientWithShortDatagrams(t *testing.T, on adapter) {
	ca := dtlstest.NewCA(t, dtlstest.ECDSA)
	cert := ca.Issue(t, dtlstest.ECDSA)
	for _, with := range foreigners {
		if with.fixedMTU {
			continue
		}
		for _, mtu := range shortMTUs {
			for _, by := range []string{"key", "certificate"} {
				t.Run(fmt.Sprintf("%s/MTU %d/%s", with.name, mtu, by), func(t *testing.T) {
					t.Parallel()
					config, v := &v2.Config{Certificates: []tls.Certificate{cert.Certificate}}, visit{ca: ca, mtu: mtu}
					if by == "key" {
						config, v = pskServer(v2.TLS_PSK_WITH_AES_128_GCM_SHA256), visit{psk: true, mtu: mtu}
					}
					s := serve(t, on, config, dtlsserver.Config{}, "")
					relay, seen := watch(t, s.Addr())
					with.echo(t, relay.Addr(), v)
					s.next(t)
					seen.assertFits(t, with, mtu)
				})
			}
		}
	}
}

// protocolNames returns names for ALPN whose extension has size bytes of data (RFC 7301
// section 3.1).
func protocolNames(size int) []string {
	const longest = 60
	var names []string
	for rest := size - 2; rest > 0; { // of the list, which has its length in front
		length := min(rest-1, longest)
		if rest-1-length == 1 {
			length-- // a name has one byte at least
		}
		names = append(names, strings.Repeat("p", length))
		rest -= 1 + length
	}
	return names
}

// The ClientHello has an extension as long as a key share of X25519MLKEM768, and does not
// fit into one datagram.
func TestLongClientHello(t *testing.T) { withEachAdapter(t, testLongClientHello) }

func testLongClientHello(t *testing.T, on adapter) {
	const size, mtu = 1216, 1400
	names := protocolNames(size)
	require.Equal(t, size, 2+len(names)+len(strings.Join(names, "")))
	ca := dtlstest.NewCA(t, dtlstest.ECDSA)
	cert := ca.Issue(t, dtlstest.ECDSA)
	for _, client := range []struct {
		foreign
		args []string
	}{
		{openSSL, []string{"-alpn", strings.Join(names, ",")}},
		{gnuTLS, []string{"-extension", fmt.Sprint(size)}},
	} {
		for _, by := range []string{"key", "certificate"} {
			t.Run(client.name+"/"+by, func(t *testing.T) {
				t.Parallel()
				config, v := &v2.Config{Certificates: []tls.Certificate{cert.Certificate}}, visit{ca: ca}
				if by == "key" {
					config, v = pskServer(v2.TLS_PSK_WITH_AES_128_GCM_SHA256), visit{psk: true}
				}
				v.mtu, v.args = mtu, client.args
				s := serve(t, on, config, dtlsserver.Config{}, "")
				relay, seen := watch(t, s.Addr())
				client.echo(t, relay.Addr(), v)
				s.next(t)
				seen.assertFits(t, client.foreign, mtu)
				seen.mu.Lock()
				defer seen.mu.Unlock()
				assert.Greater(t, seen.longest[record.MessageClientHello], size)
				assert.Positive(t, seen.fragments[record.MessageClientHello])
			})
		}
	}
}
