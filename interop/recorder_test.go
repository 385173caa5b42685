// SPDX-License-Identifier: MIT

package interop

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	v2 "github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recorder records the handshake that goes through a relay. As a server's KeyLogWriter it
// learns the master secret.
type recorder struct {
	done chan bool // gets a value when both have sent Finished

	mu sync.Mutex
	// mu guards the following.
	datagrams            []dtlstest.RecordedDatagram
	ofClient, ofServer   bool // its Finished has been seen
	random, masterSecret []byte
}

func newRecorder() *recorder { return &recorder{done: make(chan bool, 1)} }

// relay starts a relay and records what goes through it.
func (r *recorder) relay(t *testing.T, server net.Addr) *dtlstest.Relay {
	t.Helper()
	relay := dtlstest.StartRelay(t, server)
	relay.SetIn(func(datagram []byte) bool { return r.note(true, datagram) })
	relay.SetOut(func(datagram []byte) bool { return r.note(false, datagram) })
	return relay
}

func (r *recorder) note(fromClient bool, datagram []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ofClient && r.ofServer {
		return true
	}
	r.datagrams = append(r.datagrams, dtlstest.RecordedDatagram{FromClient: fromClient, Data: bytes.Clone(datagram)})
	if dtlstest.Has(datagram, record.TypeHandshake, true) {
		r.ofClient = r.ofClient || fromClient
		r.ofServer = r.ofServer || !fromClient
		if r.ofClient && r.ofServer {
			r.done <- true
		}
	}
	return true
}

// Write takes a line of the key log: CLIENT_RANDOM, the client's random, the master secret.
func (r *recorder) Write(line []byte) (int, error) {
	fields := strings.Fields(string(line))
	if len(fields) != 3 {
		return 0, fmt.Errorf("key log: %q", line)
	}
	random, err := hex.DecodeString(fields[1])
	if err != nil {
		return 0, err
	}
	secret, err := hex.DecodeString(fields[2])
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.random, r.masterSecret = random, secret
	return len(line), nil
}

// recording waits for the end of the handshake and returns it.
func (r *recorder) recording(t *testing.T, client string) dtlstest.Recording {
	t.Helper()
	dtlstest.Receive(t, r.done)
	r.mu.Lock()
	defer r.mu.Unlock()
	recording := dtlstest.Recording{Client: client, ClientRandom: record.Random(r.random), MasterSecret: r.masterSecret, Datagrams: r.datagrams}
	recording.Suite = v2.CipherSuiteID(look(t, recording).server.Suite).String()
	return recording
}

// looked is what is in a recording.
type looked struct {
	client      record.ClientHello // the last one
	server      record.ServerHello
	certificate int // length of the client's Certificate message, in bytes; zero: there is none
	fragments   int // of messages of the client that are in more than one record
	abbreviated bool
	repeated    bool // a message, or a fragment of one, was sent twice
}

func (l looked) String() string {
	return fmt.Sprintf("abbreviated: %v; extended master secret: %v; the client's Certificate message: %d bytes; fragments: %d",
		l.abbreviated, l.server.ExtendedMasterSecret, l.certificate, l.fragments)
}

// look looks into a recording. It checks that the records are in order and that the secret
// opens both Finished, of which one ends the handshake.
func look(t *testing.T, r dtlstest.Recording) looked {
	t.Helper()
	var l looked
	type position struct {
		fromClient bool
		messageSeq uint16
		offset     int
	}
	seen := map[position]bool{}
	finished := map[bool][]record.Record{} // by fromClient
	var lastFinished bool
	for n, d := range r.Datagrams {
		lastFinished = false
		for _, rec := range dtlstest.Records(d.Data) {
			if rec.Type != record.TypeHandshake {
				require.Equal(t, record.TypeChangeCipherSpec, rec.Type, "datagram %d", n)
				continue
			}
			if rec.Epoch > 0 {
				l.abbreviated = l.abbreviated || d.FromClient && len(finished[false]) > 0
				finished[d.FromClient] = append(finished[d.FromClient], rec)
				lastFinished = true
				continue
			}
			if hello, ok := record.ParseClientHello(rec); ok && d.FromClient {
				l.client = hello
			}
			for rest := rec.Fragment(); len(rest) > 0; {
				m, after, ok := record.NextHandshake(rest)
				require.True(t, ok, "datagram %d", n)
				rest = after
				at := position{d.FromClient, m.MessageSeq, m.Offset}
				l.repeated = l.repeated || seen[at]
				seen[at] = true
				if d.FromClient && !m.Complete() {
					l.fragments++
				}
				switch {
				case m.Type == record.MessageServerHello && !d.FromClient:
					hello, ok := record.ParseServerHello(m.Body)
					require.True(t, ok)
					l.server = hello
				case m.Type == record.MessageCertificate && d.FromClient:
					l.certificate = m.Length
				}
			}
		}
	}
	assert.True(t, lastFinished, "the last datagram has a Finished")
	for _, fromClient := range []bool{true, false} {
		require.NotEmpty(t, finished[fromClient])
		l.repeated = l.repeated || len(finished[fromClient]) > 1
		session, err := record.New(record.Config{
			Suite: l.server.Suite, MasterSecret: r.MasterSecret, ClientRandom: r.ClientRandom, ServerRandom: l.server.Random,
			IsClient: !fromClient, Epoch: 1,
		})
		require.NoError(t, err)
		payload, _, err := session.Open(nil, finished[fromClient][0])
		require.NoError(t, err)
		m, rest, ok := record.NextHandshake(payload)
		require.True(t, ok)
		assert.Empty(t, rest)
		assert.EqualValues(t, record.MessageFinished, m.Type)
		assert.Len(t, m.Body, 12)
	}
	return l
}
