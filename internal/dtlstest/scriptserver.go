// SPDX-License-Identifier: MIT

package dtlstest

import (
	"crypto/sha256"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2/pkg/crypto/prf"
)

// ServerSaid is what a server has said to a ScriptedClient.
type ServerSaid struct {
	Datagrams []Heard
	Alerts    []record.Record // alerts in plaintext, as they came
	Opened    []record.Alert  // protected alerts
	Data      [][]byte        // application data

	// Whole messages, in their order, each one once: repetitions are in Datagrams only.
	Messages []record.Handshake
	Hello    record.ServerHello
	Point    []byte // its public key; nil: no ECDHE
	Finished bool   // its Finished was right
}

// Heard is a datagram that was received.
type Heard struct {
	At      time.Time
	Payload []byte
}

// part is a message of the server of which some bytes were received.
type part struct {
	body []byte
	have map[int]bool
}

// Await reads what the server sends until done reports true. It reports whether done did
// within limit.
func (c *ScriptedClient) Await(limit time.Duration, done func() bool) bool {
	_ = c.SetReadDeadline(time.Now().Add(limit))
	buf := make([]byte, maxDatagram)
	for !done() {
		n, err := c.Read(buf)
		if err != nil {
			return false
		}
		c.take(append([]byte(nil), buf[:n]...))
	}
	return true
}

// ReadFor reads what the server sends in a time.
func (c *ScriptedClient) ReadFor(during time.Duration) {
	c.Await(during, func() bool { return false })
}

// Heard reports whether the server has sent a message.
func (c *ScriptedClient) Heard(kind uint8) bool {
	for _, m := range c.Server.Messages {
		if m.Type == kind {
			return true
		}
	}
	return false
}

// Refused reports whether the server has sent a fatal alert, and its description.
func (c *ScriptedClient) Refused() (description uint8, refused bool) {
	alerts := c.Server.Opened
	for _, r := range c.Server.Alerts {
		if alert, ok := record.ParseAlert(r.Fragment()); ok {
			alerts = append(alerts, alert)
		}
	}
	for _, alert := range alerts {
		if alert.Level == record.LevelFatal {
			return alert.Description, true
		}
	}
	return 0, false
}

// take takes a datagram of the server.
func (c *ScriptedClient) take(datagram []byte) {
	c.Server.Datagrams = append(c.Server.Datagrams, Heard{time.Now(), datagram})
	for _, r := range Records(datagram) {
		payload, t := r.Fragment(), r.Type
		if r.Epoch > 0 {
			var err error
			if c.Records == nil {
				continue
			}
			if payload, t, err = c.Records.Open(nil, r); err != nil {
				continue
			}
		}
		switch t {
		case record.TypeHandshake:
			c.takeFragments(payload)
		case record.TypeApplicationData:
			c.Server.Data = append(c.Server.Data, payload)
		case record.TypeAlert:
			if alert, ok := record.ParseAlert(payload); ok && r.Epoch > 0 {
				c.Server.Opened = append(c.Server.Opened, alert)
			} else {
				c.Server.Alerts = append(c.Server.Alerts, r)
			}
		}
	}
}

func (c *ScriptedClient) takeFragments(payload []byte) {
	for len(payload) > 0 {
		f, rest, ok := record.NextHandshake(payload)
		if !ok {
			return
		}
		p := c.partial[f.MessageSeq]
		if p.have == nil {
			p = part{make([]byte, f.Length), map[int]bool{}}
			c.partial[f.MessageSeq] = p
		}
		for i := range f.Body {
			p.have[f.Offset+i] = true
		}
		copy(p.body[f.Offset:], f.Body)
		if f.MessageSeq == c.nextSeq && len(p.have) == f.Length {
			c.nextSeq++
			c.takeMessage(record.Handshake{Type: f.Type, Length: f.Length, MessageSeq: f.MessageSeq, Body: p.body})
		}
		payload = rest
	}
}

// takeMessage takes a whole message of the server.
func (c *ScriptedClient) takeMessage(m record.Handshake) {
	c.Server.Messages = append(c.Server.Messages, m)
	switch m.Type {
	case record.MessageHelloVerifyRequest:
		c.Hello.Cookie = m.Body[3:]
		return // it is not in the transcript
	case record.MessageFinished:
		want, err := prf.VerifyDataServer(c.Master, c.Transcript, sha256.New)
		c.Server.Finished = err == nil && string(want) == string(m.Body)
	case record.MessageServerKeyExchange:
		c.Server.Point = c.serverPoint(m.Body)
	}
	c.Transcript = append(c.Transcript, Message(m.Type, m.MessageSeq, m.Body...)...)
	if m.Type == record.MessageServerHello {
		c.Server.Hello, _ = record.ParseServerHello(m.Body)
		if c.Resumes() {
			_ = c.setKeys() // the server's Finished is next
		}
	}
}
