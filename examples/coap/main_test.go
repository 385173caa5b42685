// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/pion/transport/v2/test"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	"github.com/plgd-dev/go-coap/v3/udp/coder"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience bounds what a test waits for; nothing waits for all of it but a failure.
const patience = 20 * time.Second

// checkLeaks fails the test if it leaves a goroutine, or takes too long. What it
// returns is for the end.
func checkLeaks(t *testing.T) func() {
	stop := test.CheckRoutines(t)
	limit := test.TimeOut(3 * patience)
	return func() { limit.Stop(); stop() }
}

func TestBadFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-psk=", "empty"},
		{"-slots 0", "at least 1"},
		{"-listen nowhere", "nowhere"},
		{"stray", `"stray"`},
		{"-unknown", "not defined"},
	} {
		err := run(t.Context(), strings.Fields(c.args), io.Discard)
		assert.ErrorContains(t, err, c.want, c.args)
	}
}

func TestServesUntilCancelled(t *testing.T) {
	defer checkLeaks(t)()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- run(ctx, []string{"-listen", "127.0.0.1:0"}, in)
		_ = in.Close()
	}()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	assert.Contains(t, lines.Text(), "listening")
	cancel()
	for lines.Scan() {
	}
	assert.NoError(t, <-served)

	// It may also be cancelled before it begins.
	assert.NoError(t, run(ctx, []string{"-listen", "127.0.0.1:0"}, io.Discard))
}

// serve runs a server until the test ends, and checks then that nothing of it is left.
func serve(t *testing.T, slots int) *app {
	t.Helper()
	stop := checkLeaks(t)
	a, err := start(options{listen: "127.0.0.1:0", psk: "secret secret 12", identity: "device", slots: slots}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-served)
		assert.Zero(t, a.watchers())
		stop()
	})
	return a
}

func (a *app) watchers() int {
	a.note.mu.Lock()
	defer a.note.mu.Unlock()
	return len(a.note.watchers)
}

// eventually waits for what other goroutines do.
func eventually(t *testing.T, what func() bool, message string) {
	t.Helper()
	require.Eventually(t, what, patience, 5*time.Millisecond, message)
}

// peer is a client that says just what a test wants it to.
type peer struct {
	*dtls.Conn
	udp *net.UDPConn
	mid int32
}

func connect(t *testing.T, a *app, from net.Addr) *peer {
	t.Helper()
	local, _ := from.(*net.UDPAddr)
	udp, err := net.DialUDP("udp", local, a.listener.Addr().(*net.UDPAddr))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := dtls.ClientWithContext(ctx, udp, &dtls.Config{
		PSK:             func([]byte) ([]byte, error) { return []byte("secret secret 12"), nil },
		PSKIdentityHint: []byte("device"),
		CipherSuites:    []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM_8},
	})
	if err != nil {
		_ = udp.Close()
	}
	require.NoError(t, err)
	p := &peer{conn, udp, 100}
	t.Cleanup(p.kill)
	require.NoError(t, p.SetDeadline(time.Now().Add(patience)))
	return p
}

// kill ends the client as a loss of power would: without close_notify.
func (p *peer) kill() {
	_ = p.udp.Close()
	_ = p.Close()
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

// do sends a request and receives its response. observe is the option's value, or -1
// for none.
func (p *peer) do(t *testing.T, code codes.Code, path, token string, observe int, body string) *pool.Message {
	t.Helper()
	p.mid++
	m := pool.NewMessage(t.Context())
	m.SetType(message.Confirmable)
	m.SetMessageID(p.mid)
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
	require.Equal(t, p.mid, m.MessageID())
	require.Equal(t, token, string(m.Token()))
	return m
}

// reply is an empty message about one that came.
func (p *peer) reply(t *testing.T, to *pool.Message, kind message.Type) {
	t.Helper()
	m := pool.NewMessage(t.Context())
	m.SetType(kind)
	m.SetMessageID(to.MessageID())
	m.SetCode(codes.Empty)
	p.send(t, m)
}

// watch observes the note, and returns what the option of the response says.
func (p *peer) watch(t *testing.T, token string) uint32 {
	t.Helper()
	version, err := p.do(t, codes.GET, notePath, token, 0, "").Observe()
	require.NoError(t, err)
	return version
}

func (p *peer) put(t *testing.T, text string) {
	t.Helper()
	require.Equal(t, codes.Changed, p.do(t, codes.PUT, notePath, "put", -1, text).Code())
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

func body(t *testing.T, m *pool.Message) string {
	t.Helper()
	b, err := m.ReadBody()
	require.NoError(t, err)
	return string(b)
}

func TestNote(t *testing.T) {
	a := serve(t, 4)
	p := connect(t, a, nil)
	assert.Equal(t, "nothing noted yet", body(t, p.do(t, codes.GET, notePath, "a", -1, "")))
	p.put(t, "first")
	m := p.do(t, codes.GET, notePath, "b", -1, "")
	assert.Equal(t, codes.Content, m.Code())
	assert.Equal(t, "first", body(t, m))
	assert.False(t, m.HasOption(message.Observe))
	p.put(t, "")
	assert.Empty(t, body(t, p.do(t, codes.GET, notePath, "c", -1, "")))

	long := strings.Repeat("x", noteSize)
	p.put(t, long)
	assert.Equal(t, codes.RequestEntityTooLarge, p.do(t, codes.PUT, notePath, "d", -1, long+"x").Code())
	assert.Equal(t, long, body(t, p.do(t, codes.GET, notePath, "e", -1, "")))
	assert.Equal(t, codes.MethodNotAllowed, p.do(t, codes.DELETE, notePath, "f", -1, "").Code())
	assert.Equal(t, codes.NotFound, p.do(t, codes.GET, "/else", "g", -1, "").Code())
}

func TestObserve(t *testing.T) {
	a := serve(t, 4)
	observer, writer := connect(t, a, nil), connect(t, a, nil)
	last := observer.watch(t, "one")
	for _, text := range []string{"first", "second", "third"} {
		writer.put(t, text)
		m := observer.notified(t, "one", text)
		version, err := m.Observe()
		require.NoError(t, err)
		require.Greater(t, version, last)
		last = version
		observer.reply(t, m, message.Acknowledgement)
	}
	// Once more with the same token is the same; another one gets a plain answer.
	assert.Equal(t, last, observer.watch(t, "one"))
	assert.False(t, observer.do(t, codes.GET, notePath, "two", 0, "").HasOption(message.Observe))
	assert.Equal(t, 1, a.watchers())

	// It can end with a request of its own, or by a reset.
	observer.do(t, codes.GET, notePath, "one", 1, "")
	assert.Zero(t, a.watchers())
	writer.put(t, "nobody is told")
	observer.watch(t, "two")
	writer.put(t, "fourth")
	observer.reply(t, observer.notified(t, "two", "fourth"), message.Reset)
	eventually(t, func() bool { return a.watchers() == 0 }, "it still observes")
	writer.put(t, "nobody is told")
	assert.Equal(t, "nobody is told", body(t, observer.do(t, codes.GET, notePath, "x", -1, "")))
}

// goroutines is how many of go-coap's sessions and their queues there are.
func goroutines() (sessions, queues int) {
	buf := make([]byte, 1<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	return strings.Count(stacks, "dtls/server.(*Session).Run("), strings.Count(stacks, "ReceivedMessageReader[...]).loop(")
}

func requireSessions(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() bool {
		sessions, queues := goroutines()
		return sessions == n && queues == n
	}, "goroutines of sessions that are over")
}

// TestEvicted: nothing is left of a session that had to go.
func TestEvicted(t *testing.T) {
	a := serve(t, 1)
	old := connect(t, a, nil)
	old.watch(t, "old")
	requireSessions(t, 1)
	for range 10 {
		p := connect(t, a, nil)
		_, err := old.Read(make([]byte, 100))
		require.ErrorIs(t, err, io.EOF)
		eventually(t, func() bool { return a.watchers() == 0 }, "it still observes")
		p.watch(t, "new")
		old = p
	}
	requireSessions(t, 1)
	assert.EqualValues(t, 10, a.listener.Stats().Evicted)
}

// TestReplaced: nothing is left of the sessions of a client that came back from its
// port, and the last one is served like any other: what it does not acknowledge is
// sent again, for which go-coap has to know of it.
func TestReplaced(t *testing.T) {
	a := serve(t, 4)
	p := connect(t, a, nil)
	for range 10 {
		p.watch(t, "before")
		p.kill()
		p = connect(t, a, p.udp.LocalAddr())
	}
	p.do(t, codes.GET, notePath, "x", -1, "") // the server is done with the handshake
	assert.EqualValues(t, 10, a.listener.Stats().Replaced)
	requireSessions(t, 1)
	eventually(t, func() bool { return a.watchers() == 0 }, "an old session still observes")

	p.watch(t, "after")
	connect(t, a, nil).put(t, "news")
	first := p.notified(t, "after", "news")
	again := p.notified(t, "after", "news")
	assert.Equal(t, first.MessageID(), again.MessageID())
	p.reply(t, again, message.Acknowledgement)
	assert.Equal(t, 1, a.watchers())
}

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

// libcoap is its client's command line.
func (a *app) libcoap(ctx context.Context, t *testing.T, path string, args ...string) *exec.Cmd {
	t.Helper()
	args = append(args, "-k", "secret secret 12", "-u", "device", "coaps://"+a.listener.Addr().String()+path)
	cmd := exec.CommandContext(ctx, needCommand(t, "coap-client-openssl"), args...)
	cmd.WaitDelay = time.Second
	return cmd
}

// runLibcoap returns what the command says.
func (a *app) runLibcoap(t *testing.T, path string, args ...string) (stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := a.libcoap(ctx, t, path, args...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	require.NoError(t, cmd.Run(), complaints.String())
	return strings.TrimSpace(out.String()), complaints.String()
}

func TestLibcoap(t *testing.T) {
	needCommand(t, "coap-client-openssl")
	a := serve(t, 4)
	out, _ := a.runLibcoap(t, notePath)
	assert.Equal(t, "nothing noted yet", out)
	out, complaints := a.runLibcoap(t, notePath, "-m", "put", "-e", "hello of libcoap")
	assert.Empty(t, out)
	assert.Empty(t, complaints)
	out, _ = a.runLibcoap(t, notePath, "-m", "get")
	assert.Equal(t, "hello of libcoap", out)
	_, complaints = a.runLibcoap(t, "/else")
	assert.Contains(t, complaints, "4.04")
	// Blocks: of what it reads, and (refused) of what it writes.
	out, _ = a.runLibcoap(t, notePath, "-b", "16")
	assert.Equal(t, "hello of libcoap", out)
	_, complaints = a.runLibcoap(t, notePath, "-b", "16", "-m", "put", "-e", "more than sixteen bytes")
	assert.Contains(t, complaints, "4.08")

	// Each of them ended its session.
	eventually(t, func() bool { return a.listener.Stats().Established == 0 }, "sessions are left")
	stats := a.listener.Stats()
	assert.EqualValues(t, 6, stats.Completed)
	assert.EqualValues(t, 6, stats.ClosedByPeer)
}

func TestLibcoapObserves(t *testing.T) {
	needCommand(t, "coap-client-openssl")
	a := serve(t, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	cmd := a.libcoap(ctx, t, notePath, "-s", "60", "-w")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	defer func() {
		_ = cmd.Process.Kill()
		for range lines {
		}
		_ = cmd.Wait()
	}()
	expect := func(text string) {
		t.Helper()
		select {
		case line, ok := <-lines:
			require.True(t, ok, "it has ended")
			require.Equal(t, text, line)
		case <-time.After(patience):
			require.FailNow(t, "it does not show "+text)
		}
	}
	expect("nothing noted yet")
	for _, text := range []string{"one", "two", "three"} {
		a.runLibcoap(t, notePath, "-m", "put", "-e", text)
		expect(text)
	}
	assert.Equal(t, 1, a.watchers())

	// Told to stop it says so, and ends its session.
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	eventually(t, func() bool { return a.listener.Stats().Established == 0 }, "the session is left")
	eventually(t, func() bool { return a.watchers() == 0 }, "it still observes")
}

// TestListenerHasNoConn: what go-coap gets of a closed listener ends its loop.
func TestListenerHasNoConn(t *testing.T) {
	a, err := start(options{listen: "127.0.0.1:0", psk: "x", slots: 1}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, a.listener.Close())
	conn, err := (&adapter{Listener: a.listener}).AcceptWithContext(t.Context())
	assert.Nil(t, conn)
	assert.ErrorIs(t, err, io.EOF)
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.NoError(t, a.serve(t.Context()))
}
