// SPDX-License-Identifier: MIT

package interop

import (
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	v2 "github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A stranger forges 40 ClientHellos a second from a client's own address and port, before
// the client comes and until it is in. The round trip is 0.1 s. The client is in within
// slowPatience, in which it is started again when its handshake fails. With forged cookies it
// does fail: a listener that has just been started believes any cookie of an address that it
// does not know, and the alert finds the client.
func TestForgedClientHellosFromTheClientsAddress(t *testing.T) {
	withEachAdapter(t, testForgedClientHellosFromTheClientsAddress)
}

func testForgedClientHellosFromTheClientsAddress(t *testing.T, on adapter) {
	const rate, delay, firstForged = 40, 50 * time.Millisecond, 10
	for name, hello := range map[string]func(n int) dtlstest.ClientHello{
		"each another": func(n int) dtlstest.ClientHello { return dtlstest.ClientHello{Random: randomHello(n)} },
		"with a suite that the server does not have": func(n int) dtlstest.ClientHello {
			return dtlstest.ClientHello{Random: randomHello(n), Suites: []record.SuiteID{record.SuiteID(v2.TLS_PSK_WITH_AES_128_CCM)}}
		},
		"with a cookie that nobody knows": func(n int) dtlstest.ClientHello {
			return dtlstest.ClientHello{Random: randomHello(n), Sequence: uint64(1 + n), MessageSeq: 1, Cookie: []byte("twenty bytes, forged")}
		},
		"always the same": func(int) dtlstest.ClientHello { return dtlstest.ClientHello{Random: randomHello(0)} },
	} {
		for _, with := range slowClients {
			t.Run(name+"/"+with.name, func(t *testing.T) {
				t.Parallel()
				with := with.installed(t)
				l := listen(t, on, dtlsserver.Config{})
				relay := dtlstest.StartSlowRelay(t, l.Addr(), delay)
				begun := make(chan struct{}, 1)
				stop := regularly(t, rate, func(n int) {
					relay.Forge(hello(n).Datagram())
					if n == firstForged {
						begun <- struct{}{}
					}
				})
				dtlstest.Receive(t, begun)
				starts, in, outcome := visitUntilIn(t, with, relay)
				t.Logf("in: %t; starts: %d; forged: %d; %+v", in, starts, stop(), l.Stats())
				require.True(t, in, "the client is not in; it said:\n%s", outcome)
				assert.NotZero(t, l.Stats().Completed)
			})
		}
	}
}

// visitUntilIn starts a client until it has its echo, or slowPatience is over. output is
// what the last one has said.
func visitUntilIn(t *testing.T, with foreign, relay *dtlstest.Relay) (starts int, in bool, output string) {
	t.Helper()
	v := visit{psk: true}
	if with.name == openSSL.name {
		// Otherwise openssl waits for a record once it has been sent any datagram, such as an
		// answer to a forged ClientHello, and does not send its line.
		v.args = []string{"-nbio"}
	}
	for end := time.Now().Add(slowPatience); !in && time.Now().Before(end); starts++ {
		client := with.start(t, relay.Addr(), v)
		in = with.isIn(client, end)
		output = client.Output()
		client.Kill()
	}
	return starts, in, output
}
