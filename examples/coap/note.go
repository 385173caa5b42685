// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	"github.com/plgd-dev/go-coap/v3/net/responsewriter"
	"github.com/plgd-dev/go-coap/v3/udp/client"
)

const (
	notePath    = "/note"
	noteSize    = 512       // bytes: one datagram, also as a notification
	observeMask = 1<<24 - 1 // Observe's value has 24 bits (RFC 7641 section 3.4)
	// blockNumber is where the block's number begins (RFC 7959 section 2.2).
	blockNumber = 4
	// notifyTimeout is for a notification to be acknowledged: longer than go-coap
	// sends it again.
	notifyTimeout = 15 * time.Second
)

// note is the resource /note: a text that can be read, replaced and observed.
type note struct {
	log     *slog.Logger
	running sync.WaitGroup // watchers

	mu sync.Mutex
	// mu guards the following.
	text     []byte // replaced, never changed
	version  uint32
	changed  chan struct{}             // closed when version changes; then there is a new one
	watchers map[*client.Conn]*watcher // one for each session: as many as there are slots
}

// watcher is an observer (RFC 7641).
type watcher struct {
	token message.Token
	stop  context.CancelFunc
}

func newNote(log *slog.Logger) *note {
	return &note{
		log: log, text: []byte("nothing noted yet"), version: 1,
		changed: make(chan struct{}), watchers: map[*client.Conn]*watcher{},
	}
}

// serve answers a request, and understands a client that resets what it was sent.
func (n *note) serve(w *responsewriter.ResponseWriter[*client.Conn], r *pool.Message) {
	if r.Code() == codes.Empty {
		if r.Type() == message.Reset {
			// Notifications are all that we send unasked (RFC 7641 section 3.6).
			n.unwatch(w.Conn(), nil)
		}
		return
	}
	path, err := r.Path()
	switch {
	case err != nil || path != notePath:
		n.answer(w, codes.NotFound, nil)
	case r.Code() == codes.GET:
		n.get(w, r)
	case r.Code() == codes.PUT:
		n.put(w, r)
	default:
		n.answer(w, codes.MethodNotAllowed, nil)
	}
}

func (n *note) answer(w *responsewriter.ResponseWriter[*client.Conn], code codes.Code, text []byte) {
	var err error
	if text == nil {
		err = w.SetResponse(code, message.TextPlain, nil)
	} else {
		err = w.SetResponse(code, message.TextPlain, bytes.NewReader(text))
	}
	if err != nil { // the client wants no response of this kind (RFC 7967)
		n.log.Debug("no response", "peer", w.Conn().RemoteAddr(), "cause", err)
	}
}

func (n *note) get(w *responsewriter.ResponseWriter[*client.Conn], r *pool.Message) {
	n.mu.Lock()
	text, version := n.text, n.version
	n.mu.Unlock()
	watched := false
	switch observe, err := r.Observe(); {
	case err != nil: // it has no such option
	case observe == 0:
		watched = n.watch(w.Conn(), r.Token(), version)
	case observe == 1:
		n.unwatch(w.Conn(), r.Token())
	}
	n.answer(w, codes.Content, text)
	if watched {
		w.Message().SetObserve(version)
	}
}

func (n *note) put(w *responsewriter.ResponseWriter[*client.Conn], r *pool.Message) {
	// Go-coap puts together blocks that have one token. Of a client that takes a new
	// one for each, as libcoap does, it hands over the last block as if it were all.
	if block, err := r.GetOptionUint32(message.Block1); err == nil && block>>blockNumber != 0 {
		n.answer(w, codes.RequestEntityIncomplete, nil)
		return
	}
	text, err := r.ReadBody()
	switch {
	case err != nil:
		n.answer(w, codes.BadRequest, nil)
		return
	case len(text) > noteSize:
		n.answer(w, codes.RequestEntityTooLarge, nil)
		return
	}
	n.mu.Lock()
	n.text = append([]byte{}, text...)
	n.version = (n.version + 1) & observeMask
	close(n.changed)
	n.changed = make(chan struct{})
	n.mu.Unlock()
	n.answer(w, codes.Changed, nil)
}

// watch begins to notify a session of what comes after version. A session can observe
// once: the answer to another token is one without the option.
func (n *note) watch(conn *client.Conn, token message.Token, version uint32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.watchers[conn]; old != nil {
		return bytes.Equal(old.token, token)
	}
	// The context ends with the session: by the peer, or because it was evicted or
	// replaced.
	ctx, stop := context.WithCancel(conn.Context())
	w := &watcher{token, stop}
	n.watchers[conn] = w
	n.running.Go(func() {
		defer n.forget(conn, w)
		n.notify(ctx, conn, w, version)
	})
	return true
}

// unwatch ends what was begun with a token, or with any if it is nil.
func (n *note) unwatch(conn *client.Conn, token message.Token) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.watchers[conn]; w != nil && (token == nil || bytes.Equal(w.token, token)) {
		w.stop()
		delete(n.watchers, conn)
	}
}

func (n *note) forget(conn *client.Conn, w *watcher) {
	w.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.watchers[conn] == w {
		delete(n.watchers, conn)
	}
}

// notify sends each version to an observer, or the newest of several that come while
// one is under way (RFC 7641 section 4.5.1: one at a time).
func (n *note) notify(ctx context.Context, conn *client.Conn, w *watcher, sent uint32) {
	for {
		n.mu.Lock()
		text, version, changed := n.text, n.version, n.changed
		n.mu.Unlock()
		if version == sent {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			continue
		}
		if err := send(ctx, conn, w.token, version, text); err != nil {
			if !errors.Is(err, context.Canceled) {
				n.log.Info("observer given up", "peer", conn.RemoteAddr(), "error", err)
			}
			return
		}
		sent = version
	}
}

// send sends a notification and waits until it is acknowledged.
func send(ctx context.Context, conn *client.Conn, token message.Token, version uint32, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, notifyTimeout)
	defer cancel()
	m := conn.AcquireMessage(ctx)
	defer conn.ReleaseMessage(m)
	m.SetCode(codes.Content)
	m.SetToken(token)
	m.SetObserve(version)
	m.SetContentFormat(message.TextPlain)
	m.SetBody(bytes.NewReader(text))
	return conn.WriteMessage(m) // confirmable, if nothing else is said
}
