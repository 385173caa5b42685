// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/go-dsm/dsm/pionv2"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	"github.com/plgd-dev/go-coap/v3/udp/coder"
)

const (
	countPath   = "/count"
	observeMask = 1<<24 - 1 // the value of the option Observe has 24 bits (RFC 7641 section 3.4)
	// probeEvery is the number of notifications of which one is confirmable, to see
	// whether the observer is still there (RFC 7641 section 4.5).
	probeEvery = 256
	// crashDistance is more than the notifications that the journal can be behind.
	crashDistance = 1 << 16
)

// count is the resource /count: a number that grows, of which all observers are told. It
// survives a restart with its observers: each session has its token and the number that it
// was last told (SetSessionData). Without an observer it begins at zero.
type count struct {
	every   time.Duration
	log     *slog.Logger
	crashed bool // sessions of the journal are being restored; set before the listener is open

	stopped chan struct{} // used by start and stop only
	running sync.WaitGroup

	// mu is held while something is sent, so that what a client gets is in order. So
	// Config.OnEnd, which a Write can call, does not lock it: a session that has ended is
	// removed when a Write to it fails.
	mu sync.Mutex
	// mu guards the following.
	value     uint32
	observers map[*pionv2.Conn]*observer
}

// observer is a session that observes the count (RFC 7641). A session can have one
// observation.
type observer struct {
	token  message.Token
	probed bool // a confirmable notification is not acknowledged yet
}

func newCount(every time.Duration, log *slog.Logger) *count {
	return &count{every: every, log: log, observers: map[*pionv2.Conn]*observer{}}
}

// start begins to count.
func (n *count) start() {
	stopped := make(chan struct{})
	n.stopped = stopped
	n.running.Go(func() {
		ticker := time.NewTicker(n.every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				n.next()
			case <-stopped:
				return
			}
		}
	})
}

// stop ends the counting, and returns when no notification is being sent. It may be called
// again.
func (n *count) stop() {
	if n.stopped != nil {
		close(n.stopped)
		n.stopped = nil
	}
	n.running.Wait()
}

// next counts, and tells the observers.
func (n *count) next() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.value = (n.value + 1) & observeMask
	for c, o := range n.observers {
		m := n.contentLocked()
		m.SetToken(o.token)
		m.SetObserve(n.value)
		m.SetType(message.NonConfirmable)
		m.SetMessageID(int32(n.value & 0xffff))
		if n.value%probeEvery == 0 {
			if o.probed { // the last one was not acknowledged
				n.forgetLocked(c)
				continue
			}
			o.probed = true
			m.SetType(message.Confirmable)
		}
		n.noteLocked(c, o)
		n.sendLocked(c, m)
	}
}

// noteLocked keeps with a session what a restart needs of its observation.
func (n *count) noteLocked(c *pionv2.Conn, o *observer) {
	if err := c.SetSessionData(append(binary.BigEndian.AppendUint32(nil, n.value), o.token...)); err != nil {
		n.log.Warn("observation not kept", "peer", c.Peer(), "error", err)
	}
}

// restored is Config.OnRestored: it takes up the session's observation.
func (n *count) restored(c *pionv2.Conn) {
	data := c.SessionData()
	if len(data) < 4 {
		return
	}
	value := binary.BigEndian.Uint32(data)
	if n.crashed {
		// The journal may be behind. The observer takes no lower number than it has had
		// (RFC 7641 section 4.4).
		value += crashDistance
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.value = max(n.value, value&observeMask)
	n.observers[c] = &observer{token: message.Token(data[4:])}
}

// begins is Config.OnEstablished. A client that has resumed its session has to ask anew: an
// observation belongs to a connection, not to its keys.
func (n *count) begins(c *pionv2.Conn) {
	if c.SessionData() != nil {
		_ = c.SetSessionData(nil)
	}
}

func (n *count) forgetLocked(c *pionv2.Conn) {
	delete(n.observers, c)
	_ = c.SetSessionData(nil) // an error: it could not be set either
}

// serve handles a datagram of a session.
func (n *count) serve(c *pionv2.Conn, datagram []byte) {
	request := newMessage()
	if _, err := request.UnmarshalWithDecoder(coder.DefaultCoder, datagram); err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch kind := request.Type(); {
	case kind == message.Acknowledgement:
		if o := n.observers[c]; o != nil {
			o.probed = false
		}
	case kind == message.Reset: // of a notification (RFC 7641 section 3.6): nothing else is sent unasked
		n.forgetLocked(c)
	case request.Code() == codes.Empty: // a ping (RFC 7252 section 4.3)
		n.replyLocked(c, request, newMessage(), message.Reset)
	default:
		response := n.answerLocked(c, request)
		response.SetToken(request.Token())
		n.replyLocked(c, request, response, message.Acknowledgement)
	}
}

func (n *count) answerLocked(c *pionv2.Conn, request *pool.Message) *pool.Message {
	response := newMessage()
	if path, err := request.Path(); err != nil || path != countPath {
		response.SetCode(codes.NotFound)
		return response
	}
	if request.Code() != codes.GET {
		response.SetCode(codes.MethodNotAllowed)
		return response
	}
	response = n.contentLocked()
	switch observe, err := request.Observe(); {
	case err != nil: // the request has no such option
	case observe == 0:
		o := &observer{token: append(message.Token{}, request.Token()...)}
		n.observers[c] = o
		n.noteLocked(c, o)
		response.SetObserve(n.value)
	case observe == 1:
		n.forgetLocked(c)
	}
	return response
}

func newMessage() *pool.Message { return pool.NewMessage(context.Background()) }

// contentLocked returns a message with the count.
func (n *count) contentLocked() *pool.Message {
	m := newMessage()
	m.SetCode(codes.Content)
	m.SetContentFormat(message.TextPlain)
	m.SetBody(strings.NewReader(fmt.Sprint(n.value)))
	return m
}

// replyLocked sends a message that answers another one. A request that is not confirmable gets a
// response that is not.
func (n *count) replyLocked(c *pionv2.Conn, to, m *pool.Message, kind message.Type) {
	m.SetType(kind)
	m.SetMessageID(to.MessageID())
	if to.Type() == message.NonConfirmable {
		m.SetType(message.NonConfirmable)
		m.SetMessageID(rand.Int32N(1 << 16))
	}
	n.sendLocked(c, m)
}

func (n *count) sendLocked(c *pionv2.Conn, m *pool.Message) {
	datagram, err := m.MarshalWithEncoder(coder.DefaultCoder)
	if err == nil {
		_, err = c.Write(datagram)
	}
	if err != nil {
		delete(n.observers, c) // the session has ended
	}
}
