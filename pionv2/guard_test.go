// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"context"
	"encoding/hex"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// evilConn is a client's transport that puts a record of another making in the place
// of the client's Finished.
type evilConn struct {
	net.Conn
	suite record.SuiteID
	// forge makes that record; the session begins with the Finished's number.
	forge func(session *record.Session) ([]byte, error)

	mu             sync.Mutex
	client, server record.Random
	master         []byte
	sent           int
}

// Write is for pion's key log and, through evilTransport, for datagrams.
func (e *evilConn) keyLog(line []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.master, _ = hex.DecodeString(string(bytes.Fields(line)[2]))
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

func (e *evilConn) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	e.mu.Lock()
	defer e.mu.Unlock()
	for rest := p[:max(n, 0)]; len(rest) > 0; {
		var r record.Record
		var fault record.Fault
		if r, rest, fault = record.Next(rest); fault == record.NoFault && r.Epoch == 0 && r.Type == record.TypeHandshake {
			if h, _, ok := record.NextHandshake(r.Fragment()); ok && h.Type == record.MessageServerHello {
				e.server = record.Random(h.Body[2:])
			}
		}
	}
	return n, err
}

func (e *evilConn) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []byte
	for rest := p; len(rest) > 0; {
		var r record.Record
		r, rest, _ = record.Next(rest)
		if hello, ok := record.ParseClientHello(r); ok {
			e.client = hello.Random
		}
		if r.Epoch == 0 {
			out = append(out, r.Raw...)
			continue
		}
		session, err := record.New(record.Config{
			Suite: e.suite, MasterSecret: e.master, ClientRandom: e.client, ServerRandom: e.server,
			IsClient: true, Epoch: 1, NextSequence: r.Sequence,
		})
		if err != nil {
			return 0, err
		}
		raw, err := e.forge(session)
		if err != nil {
			return 0, err
		}
		out = append(out, raw...)
		e.sent++
	}
	_, err := e.Conn.Write(out)
	return len(p), err
}

// paddingForMAC puts padding where the MAC should be: sealed by ourselves, and cut off
// before the MAC that Seal has put behind it.
func paddingForMAC(session *record.Session) ([]byte, error) {
	const length = 48
	number := session.Config().NextSequence
	raw, err := session.Seal(nil, record.TypeHandshake, bytes.Repeat([]byte{length - 1}, length))
	if err != nil {
		return nil, err
	}
	raw = raw[:record.HeaderSize+16+length]
	record.PutHeader(raw, record.TypeHandshake, 1, number, len(raw)-record.HeaderSize)
	return raw, nil
}

// A client whose Finished has padding for its MAC ends nobody but itself. Without
// the guard pion panics in a goroutine of its own, and the process is gone.
func TestPaddingForMAC(t *testing.T) {
	checkLeaks(t)
	config := pskConfig("key")
	config.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CBC_SHA256}
	l := listen(t, config, Config{})
	server[*Conn](t, l)
	evil := &evilConn{Conn: stranger(t, l), suite: record.SuiteID(dtls.TLS_PSK_WITH_AES_128_CBC_SHA256), forge: paddingForMAC}
	clientConfig := *config
	clientConfig.KeyLogWriter = writerFunc(evil.keyLog)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := dtls.ClientWithContext(ctx, evil, &clientConfig)
	require.Error(t, err)
	evil.mu.Lock()
	assert.Positive(t, evil.sent)
	evil.mu.Unlock()

	c, err := tryClient(l, nil, config)
	require.NoError(t, err)
	defer c.kill()
	echo(t, c.Conn, "the server is well")
	assert.EqualValues(t, 1, l.Stats().Completed)
}

// The user's key log gets what it got before.
func TestKeyLogIsPassedOn(t *testing.T) {
	checkLeaks(t)
	var mu sync.Mutex
	var log []byte
	config := pskConfig("key")
	config.KeyLogWriter = writerFunc(func(p []byte) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, p...)
	})
	l := listen(t, config, Config{})
	server[*Conn](t, l)
	echo(t, newClient(t, l, nil).Conn, "x")
	mu.Lock()
	defer mu.Unlock()
	assert.Regexp(t, `^CLIENT_RANDOM [0-9a-f]{64} [0-9a-f]{96}\n$`, string(log))
}
