// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/plgd-dev/go-coap/v3/dtls/server"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	coapNet "github.com/plgd-dev/go-coap/v3/net"
	"github.com/plgd-dev/go-coap/v3/net/responsewriter"
	"github.com/plgd-dev/go-coap/v3/pkg/runner/periodic"
	"github.com/plgd-dev/go-coap/v3/udp/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Nothing is left of an evicted session. Not parallel: the test counts the goroutines of
// the whole process.
func TestNothingIsLeftOfEvictedSession(t *testing.T) {
	a := serve(t, 1)
	old := connect(t, a, nil)
	old.observe(t, "old")
	awaitSessions(t, 1)
	for range 10 {
		p := connect(t, a, nil)
		_, err := old.Read(make([]byte, 100))
		require.ErrorIs(t, err, io.EOF)
		a.awaitNoObserver(t)
		p.observe(t, "new")
		old = p
	}
	awaitSessions(t, 1)
	assert.EqualValues(t, 10, a.listener.Stats().Evicted)
}

// Nothing is left of the sessions of a client that has come back from its port. Its last
// session is served like any other: a notification that it does not acknowledge is
// repeated, for which go-coap has to know the session. Not parallel, as above.
func TestNothingIsLeftOfReplacedSession(t *testing.T) {
	a := serve(t, 4)
	p := connect(t, a, dtlstest.OwnAddr())
	for range 10 {
		p.observe(t, "before")
		p.Kill()
		p = connect(t, a, p.Addr())
	}
	p.get(t, "x") // now the server is done with the handshake
	assert.EqualValues(t, 10, a.listener.Stats().Replaced)
	awaitSessions(t, 1)
	a.awaitNoObserver(t)

	p.observe(t, "after")
	connect(t, a, nil).put(t, "news")
	first := p.notified(t, "after", "news")
	again := p.notified(t, "after", "news")
	assert.Equal(t, first.MessageID(), again.MessageID())
	p.reply(t, again, message.Acknowledgement)
	assert.Equal(t, 1, a.observers())
}

// Go-coap ends its loop when the listener is closed.
func TestAcceptOfClosedListener(t *testing.T) {
	t.Parallel()
	a, err := start(serverOptions(1), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, a.listener.Close())
	conn, err := (&adapter{Listener: a.listener}).AcceptWithContext(t.Context())
	assert.Nil(t, conn)
	assert.ErrorIs(t, err, coapNet.ErrListenerIsClosed)
	assert.ErrorIs(t, err, io.EOF)
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.NoError(t, a.serve(t.Context()))
}

// AcceptWithContext ends with its context, before it is called and while it waits.
func TestAcceptEndsWithContext(t *testing.T) {
	t.Parallel()
	a, err := start(serverOptions(1), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { _ = a.listener.Close() })
	listener := &adapter{Listener: a.listener}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := listener.AcceptWithContext(ctx)
		ended <- err
	}()
	cancel()
	err = dtlstest.Receive(t, ended)
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, coapNet.ErrListenerIsClosed)
	_, err = listener.AcceptWithContext(ctx)
	assert.ErrorIs(t, err, context.Canceled)
}

// The conns of one peer have different addresses for go-coap.
func TestAcceptedConnsHaveDifferentAddresses(t *testing.T) {
	t.Parallel()
	a, err := start(serverOptions(4), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { _ = a.listener.Close() })
	listener := &adapter{Listener: a.listener}
	p := connect(t, a, dtlstest.OwnAddr())
	first, err := listener.AcceptWithContext(t.Context())
	require.NoError(t, err)
	p.Kill()
	p = connect(t, a, p.Addr())
	second, err := listener.AcceptWithContext(t.Context())
	require.NoError(t, err)
	assert.NotEqual(t, first.RemoteAddr().String(), second.RemoteAddr().String())
	assert.Contains(t, first.RemoteAddr().String(), p.LocalAddr().String())
	assert.Contains(t, second.RemoteAddr().String(), p.LocalAddr().String())
	assert.Equal(t, p.LocalAddr().Network(), second.RemoteAddr().Network())
}

// A handler gets pion's state of the session from go-coap's conn, as it does with pion's
// own listener.
func TestHandlerGetsConnectionState(t *testing.T) {
	t.Parallel()
	a, err := start(serverOptions(4), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	states := make(chan dtls.State, 1)
	coap := server.New(serverOption(func(c *server.Config) {
		c.PeriodicRunner = periodic.New(ctx.Done(), time.Second)
		c.Handler = func(w *responsewriter.ResponseWriter[*client.Conn], _ *pool.Message) {
			conn, ok := w.Conn().NetConn().(interface{ ConnectionState() dtls.State })
			if assert.True(t, ok, "the conn has no ConnectionState") {
				states <- conn.ConnectionState()
			}
			assert.NoError(t, w.SetResponse(codes.Content, message.TextPlain, nil))
		}
	}))
	served := make(chan error, 1)
	go func() { served <- coap.Serve(&adapter{Listener: a.listener}) }()
	t.Cleanup(func() {
		cancel()
		coap.Stop()
		_ = a.listener.Close()
		assert.NoError(t, <-served)
	})

	p := connect(t, a, nil)
	p.get(t, "a")
	state := dtlstest.Receive(t, states)
	assert.Equal(t, dtlstest.Identity, string(state.IdentityHint))
	clientState := p.ConnectionState()
	want, err := clientState.ExportKeyingMaterial("EXPORTER-test", nil, 32)
	require.NoError(t, err)
	got, err := state.ExportKeyingMaterial("EXPORTER-test", nil, 32)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}
