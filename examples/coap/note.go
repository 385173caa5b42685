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
	observeMask = 1<<24 - 1 // the value of the option Observe has 24 bits (RFC 7641 section 3.4)
	// blockNumberShift is the lowest bit of the number in an option Block1 (RFC 7959
	// section 2.2).
	blockNumberShift = 4
	// notifyTimeout is how long a notification may take to be acknowledged. Go-coap
	// repeats it for less than that.
	notifyTimeout = 15 * time.Second
)

// note is the resource /note: a text that can be read, replaced and observed.
type note struct {
	log     *slog.Logger
	running sync.WaitGroup // the observers' goroutines

	mu sync.Mutex
	// mu guards the following.
	text      []byte // replaced, never changed
	version   uint32
	changed   chan struct{}              // closed, and replaced, when version changes
	observers map[*client.Conn]*observer // one for each session, so no more than there are slots
}

// observer is a client that observes the note (RFC 7641).
type observer struct {
	token message.Token
	stop  context.CancelFunc
}

func newNote(log *slog.Logger) *note {
	return &note{
		log: log, text: []byte("nothing noted yet"), version: 1,
		changed: make(chan struct{}), observers: map[*client.Conn]*observer{},
	}
}

// serve answers a request, or takes the reset of a notification.
func (n *note) serve(w *responsewriter.ResponseWriter[*client.Conn], r *pool.Message) {
	if r.Code() == codes.Empty {
		if r.Type() == message.Reset {
			// The server sends nothing but notifications unasked (RFC 7641 section
			// 3.6).
			n.removeObserver(w.Conn(), nil)
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
	observed := false
	switch observe, err := r.Observe(); {
	case err != nil: // the request has no such option
	case observe == 0:
		observed = n.addObserver(w.Conn(), r.Token(), version)
	case observe == 1:
		n.removeObserver(w.Conn(), r.Token())
	}
	n.answer(w, codes.Content, text)
	if observed {
		w.Message().SetObserve(version)
	}
}

func (n *note) put(w *responsewriter.ResponseWriter[*client.Conn], r *pool.Message) {
	// Go-coap puts together the blocks of one token. A client can take another token for
	// each block, as libcoap does, and then go-coap hands over the last block as if it
	// were the whole body.
	if block, err := r.GetOptionUint32(message.Block1); err == nil && block>>blockNumberShift != 0 {
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

// addObserver begins to notify a session of what comes after version, and reports whether
// the session observes with this token. A session can observe with one token: the answer
// to another one is without the option.
func (n *note) addObserver(conn *client.Conn, token message.Token, version uint32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.observers[conn]; old != nil {
		return bytes.Equal(old.token, token)
	}
	// The context ends with the session, whether the peer has closed it or it was
	// evicted or replaced.
	ctx, stop := context.WithCancel(conn.Context())
	o := &observer{token, stop}
	n.observers[conn] = o
	n.running.Go(func() {
		defer n.forget(conn, o)
		n.notify(ctx, conn, o, version)
	})
	return true
}

// removeObserver ends the observation with a token. Nil stands for any token.
func (n *note) removeObserver(conn *client.Conn, token message.Token) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if o := n.observers[conn]; o != nil && (token == nil || bytes.Equal(o.token, token)) {
		o.stop()
		delete(n.observers, conn)
	}
}

// forget removes an observer whose goroutine ends.
func (n *note) forget(conn *client.Conn, o *observer) {
	o.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.observers[conn] == o {
		delete(n.observers, conn)
	}
}

// notify sends each version to an observer, one at a time (RFC 7641 section 4.5.1). Of
// those that come while a notification is not acknowledged it sends the newest.
func (n *note) notify(ctx context.Context, conn *client.Conn, o *observer, sent uint32) {
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
		if err := send(ctx, conn, o.token, version, text); err != nil {
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
	return conn.WriteMessage(m) // confirmable by default
}
