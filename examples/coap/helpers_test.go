// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	"github.com/plgd-dev/go-coap/v3/udp/coder"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { dtlstest.Main(m, "github.com/plgd-dev/go-coap") }

// key is the pre-shared key of the tests' servers.
const key = "secret secret 12"

// serverOptions are those of a server on a free port of 127.0.0.1.
func serverOptions(slots int) options {
	return options{listen: "127.0.0.1:0", psk: key, identity: dtlstest.Identity, slots: slots}
}

// serve runs a server until the test ends, and checks then that nobody observes the note
// any more.
func serve(t *testing.T, slots int) *app {
	t.Helper()
	a, err := start(serverOptions(slots), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-served)
		assert.Zero(t, a.observers())
	})
	return a
}

// observers returns how many sessions observe the note.
func (a *app) observers() int {
	a.note.mu.Lock()
	defer a.note.mu.Unlock()
	return len(a.note.observers)
}

// awaitNoObserver waits until no session observes the note.
func (a *app) awaitNoObserver(t *testing.T) {
	t.Helper()
	dtlstest.Eventually(t, func() bool { return a.observers() == 0 }, "a session still observes")
}

// awaitSessions waits until go-coap has the goroutines of n sessions, in the whole process.
func awaitSessions(t *testing.T, n int) {
	t.Helper()
	dtlstest.Eventually(t, func() bool {
		buf := make([]byte, 1<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		sessions := strings.Count(stacks, "dtls/server.(*Session).Run(")
		queues := strings.Count(stacks, "ReceivedMessageReader[...]).loop(")
		return sessions == n && queues == n
	}, "goroutines of sessions that have ended")
}

// peer is a client that sends nothing of its own accord: a test writes its messages.
type peer struct {
	*dtlstest.Client
	messageID int32 // of its last request
}

// connect connects a client, from a free port if from is nil.
func connect(t *testing.T, a *app, from *net.UDPAddr) *peer {
	t.Helper()
	config := dtlstest.PSKConfig(key, dtls.TLS_PSK_WITH_AES_128_CCM_8)
	p := &peer{dtlstest.Dial(t, a.listener.Addr(), from, config), 100}
	require.NoError(t, p.SetDeadline(time.Now().Add(dtlstest.Patience)))
	return p
}

func (p *peer) send(t *testing.T, m *pool.Message) {
	t.Helper()
	data, err := m.MarshalWithEncoder(coder.DefaultCoder)
	require.NoError(t, err)
	_, err = p.Write(data)
	require.NoError(t, err)
}

func (p *peer) receive(t *testing.T) *pool.Message {
	t.Helper()
	buf := make([]byte, 2048)
	n, err := p.Read(buf)
	require.NoError(t, err)
	m := pool.NewMessage(t.Context())
	_, err = m.UnmarshalWithDecoder(coder.DefaultCoder, buf[:n])
	require.NoError(t, err)
	return m
}

// do sends a request and receives its response. observe is the value of the option
// Observe, or -1 for a request without it.
func (p *peer) do(t *testing.T, code codes.Code, path, token string, observe int, body string) *pool.Message {
	t.Helper()
	p.messageID++
	m := pool.NewMessage(t.Context())
	m.SetType(message.Confirmable)
	m.SetMessageID(p.messageID)
	m.SetToken(message.Token(token))
	m.SetCode(code)
	m.MustSetPath(path)
	if observe >= 0 {
		m.SetObserve(uint32(observe))
	}
	if body != "" {
		m.SetContentFormat(message.TextPlain)
		m.SetBody(strings.NewReader(body))
	}
	p.send(t, m)
	m = p.receive(t)
	require.Equal(t, message.Acknowledgement, m.Type())
	require.Equal(t, p.messageID, m.MessageID())
	require.Equal(t, token, string(m.Token()))
	return m
}

// get returns the note.
func (p *peer) get(t *testing.T, token string) string {
	t.Helper()
	return body(t, p.do(t, codes.GET, notePath, token, -1, ""))
}

// put replaces the note.
func (p *peer) put(t *testing.T, text string) {
	t.Helper()
	require.Equal(t, codes.Changed, p.do(t, codes.PUT, notePath, "put", -1, text).Code())
}

// observe begins to observe the note, and returns the value of the option Observe in the
// response.
func (p *peer) observe(t *testing.T, token string) uint32 {
	t.Helper()
	version, err := p.do(t, codes.GET, notePath, token, 0, "").Observe()
	require.NoError(t, err)
	return version
}

// notified expects a notification.
func (p *peer) notified(t *testing.T, token, text string) *pool.Message {
	t.Helper()
	m := p.receive(t)
	require.Equal(t, message.Confirmable, m.Type())
	require.Equal(t, codes.Content, m.Code())
	require.Equal(t, token, string(m.Token()))
	require.Equal(t, text, body(t, m))
	return m
}

// reply sends an empty message about a received one: an acknowledgement or a reset.
func (p *peer) reply(t *testing.T, to *pool.Message, kind message.Type) {
	t.Helper()
	m := pool.NewMessage(t.Context())
	m.SetType(kind)
	m.SetMessageID(to.MessageID())
	m.SetCode(codes.Empty)
	p.send(t, m)
}

func body(t *testing.T, m *pool.Message) string {
	t.Helper()
	b, err := m.ReadBody()
	require.NoError(t, err)
	return string(b)
}
