// SPDX-License-Identifier: MIT

package handshake_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/require"
)

// seeds is how often each recording is replayed, each time divided, ordered and
// duplicated in another way.
const seeds = 200

// TestRecordedHandshakesPassHoweverTheyCome replays the handshakes of foreign clients
// through the gate. Each of the client's flights is divided into fragments anew, some of
// which overlap, and comes out of order and partly twice. What pion gets is what the client
// has sent, whole and in order.
func TestRecordedHandshakesPassHoweverTheyCome(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/recordings/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			recording, err := dtlstest.ReadRecording(file)
			require.NoError(t, err)
			for seed := range uint64(seeds) {
				synctest.Test(t, func(t *testing.T) { newReplay(t, recording, seed).run() })
				if t.Failed() {
					return
				}
			}
		})
	}
}

// replay is one replay of a recording.
type replay struct {
	*testing.T
	recording dtlstest.Recording
	random    *rand.Rand
	gate      *handshake.Gate
	client    *record.Session // seals as the client
	server    *record.Session // opens what the client has sealed
	sent      uint64          // records of epoch 0 that the client has sent

	// What pion reads.
	messages  []record.Handshake // whole
	next      record.Handshake   // the message that is not whole yet
	sequence  uint64             // of the next record
	changes   int                // ChangeCipherSpec records
	finished  []byte             // the Finished, opened
	hasSecret bool
}

func newReplay(t *testing.T, recording dtlstest.Recording, seed uint64) *replay {
	r := &replay{T: t, recording: recording, random: rand.New(rand.NewPCG(seed, 1))}
	r.gate = handshake.NewGate(handshake.Parameters{
		Send:   func([]byte) {},
		PSK:    func(context.Context, string, []byte) ([]byte, error) { return []byte("key"), nil },
		Count:  func(v handshake.Verdict) { require.Equal(t, handshake.Accepted, v) },
		Limits: handshake.Limits{ClientHello: 8 << 10, PSKIdentity: 1 << 10, CertificateChain: 16 << 10, Certificates: 10},
	}, handshake.Options{})
	config := record.Config{MasterSecret: recording.MasterSecret, ClientRandom: recording.ClientRandom, Epoch: 1}
	for _, m := range r.recorded(false) {
		if m.Type == record.MessageServerHello {
			hello, ok := record.ParseServerHello(m.Body)
			require.True(t, ok)
			config.Suite, config.ServerRandom = hello.Suite, hello.Random
		}
	}
	var err error
	r.server, err = record.New(config)
	require.NoError(t, err)
	config.IsClient = true
	r.client, err = record.New(config)
	require.NoError(t, err)
	if !r.sends(record.MessageClientKeyExchange) {
		r.gate.Resume(recording.MasterSecret) // an abbreviated handshake
	}
	return r
}

// recorded returns the plaintext messages of one side, whole, in their order.
func (r *replay) recorded(ofClient bool) []record.Handshake {
	var whole []record.Handshake
	for _, d := range r.recording.Datagrams {
		if d.FromClient == ofClient {
			whole = r.join(whole, d.Data)
		}
	}
	return whole
}

// join adds the plaintext messages of a datagram. A fragment continues the last message.
func (r *replay) join(whole []record.Handshake, datagram []byte) []record.Handshake {
	for _, rec := range dtlstest.Records(datagram) {
		if rec.Type != record.TypeHandshake || rec.Epoch != 0 {
			continue
		}
		for rest := rec.Fragment(); len(rest) > 0; {
			f, after, ok := record.NextHandshake(rest)
			require.True(r, ok)
			rest = after
			if f.Offset > 0 {
				last := &whole[len(whole)-1]
				require.Len(r, last.Body, f.Offset)
				last.Body = append(last.Body[:len(last.Body):len(last.Body)], f.Body...)
				continue
			}
			whole = append(whole, f)
		}
	}
	return whole
}

func (r *replay) run() {
	var want []record.Handshake
	datagrams := r.recording.Datagrams
	for len(datagrams) > 0 {
		// A flight is what one side sends until the other one answers.
		n := 1
		for n < len(datagrams) && datagrams[n].FromClient == datagrams[0].FromClient {
			n++
		}
		flight := datagrams[:n]
		datagrams = datagrams[n:]
		if !flight[0].FromClient {
			for _, d := range flight {
				r.gate.FromPion(d.Data)
			}
			continue
		}
		var messages []record.Handshake
		var protected []record.Handshake
		change := false
		for _, d := range flight {
			messages = r.join(messages, d.Data)
			for _, rec := range dtlstest.Records(d.Data) {
				change = change || rec.Type == record.TypeChangeCipherSpec
				if rec.Epoch > 0 {
					payload, _, err := r.server.Open(nil, rec)
					require.NoError(r, err)
					f, rest, ok := record.NextHandshake(payload)
					require.True(r, ok && len(rest) == 0 && f.Complete())
					protected = append(protected, f)
				}
			}
		}
		want = append(want, messages...)
		r.sendFlight(messages, protected, change)
	}
	r.checkOutcome(want)
}

// sendFlight sends a flight of the client in records of the replay's own.
func (r *replay) sendFlight(messages, protected []record.Handshake, change bool) {
	records := r.divide(messages, false)
	if change {
		records = append(records, []byte{byte(record.TypeChangeCipherSpec)})
	}
	records = append(records, r.divide(protected, true)...)
	if r.random.IntN(4) > 0 {
		r.random.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	}
	for _, content := range records {
		for range 1 + r.random.IntN(5)/4 { // one in five comes twice
			r.send(content)
		}
	}
	for _, content := range records { // and all of it once more, as when an answer is lost
		if r.random.IntN(8) == 0 {
			r.send(content)
		}
	}
}

// divide cuts messages into fragments, and puts these into the contents of records. The
// first byte of each is the content type, which protected records have with the highest bit
// set.
func (r *replay) divide(messages []record.Handshake, protected bool) [][]byte {
	kind := byte(record.TypeHandshake)
	if protected {
		kind |= 0x80
	}
	size := []int{1, 7, 100, 1000, 1 << 14}[r.random.IntN(5)]
	var records [][]byte
	var content []byte
	for _, m := range messages {
		if m.Length > 100*size {
			size = m.Length / 100 // so that a large chain does not take a second
		}
		for offset := 0; offset < m.Length; {
			n := min(1+r.random.IntN(size), m.Length-offset)
			begin := max(0, offset-r.random.IntN(3)) // some overlap
			f := m
			f.Offset, f.Body = begin, m.Body[begin:offset+n]
			offset += n
			if len(content)+len(f.Body) > 1<<13 || r.random.IntN(2) == 0 {
				records, content = appendRecord(records, content), nil
			}
			if content == nil {
				content = []byte{kind}
			}
			content = f.Append(content)
		}
	}
	return appendRecord(records, content)
}

func appendRecord(records [][]byte, content []byte) [][]byte {
	if content == nil {
		return records
	}
	return append(records, content)
}

// send sends the content of a record.
func (r *replay) send(content []byte) {
	var raw []byte
	kind, payload := record.Type(content[0]&0x7f), content[1:]
	switch {
	case kind == record.TypeChangeCipherSpec:
		raw = dtlstest.Plaintext(kind, r.sent, 1)
		r.sent++
	case content[0]&0x80 != 0:
		var err error
		raw, err = r.client.Seal(nil, kind, payload)
		require.NoError(r, err)
	default:
		raw = dtlstest.Plaintext(kind, r.sent, payload...)
		r.sent++
	}
	rec, rest, fault := record.Next(raw)
	require.True(r, fault == record.NoFault && len(rest) == 0)
	verdict := r.gate.HandleRecord(rec)
	require.NotContains(r, []handshake.Verdict{
		handshake.Malformed, handshake.NewClientHello, handshake.NotAuthentic, handshake.WrongKey, handshake.WrongFinished,
	}, verdict)
	r.read()
}

// read takes what pion reads, as pion would.
func (r *replay) read() {
	for datagram := r.gate.Next(); datagram != nil; datagram = r.gate.Next() {
		require.LessOrEqual(r, len(datagram), 8192)
		for _, rec := range dtlstest.Records(datagram) {
			r.readRecord(rec)
		}
	}
}

func (r *replay) readRecord(rec record.Record) {
	require.LessOrEqual(r, len(rec.Raw), 4096)
	require.Nil(r, r.finished, "nothing comes after the Finished")
	if rec.Epoch > 0 {
		require.Equal(r, 1, r.changes)
		require.Zero(r, rec.Sequence)
		opener, err := record.New(r.server.Config())
		require.NoError(r, err)
		r.finished, _, err = opener.Open(nil, rec)
		require.NoError(r, err)
		return
	}
	require.Equal(r, r.sequence, rec.Sequence)
	r.sequence++
	if rec.Type == record.TypeChangeCipherSpec {
		require.Equal(r, []byte{1}, rec.Fragment())
		r.changes++
		return
	}
	f, rest, ok := record.NextHandshake(rec.Fragment())
	require.True(r, ok && len(rest) == 0)
	require.Len(r, r.next.Body, f.Offset, "fragments are in order")
	f.Body, f.Offset = append(r.next.Body, f.Body...), 0
	r.next = f
	if !f.Complete() {
		return
	}
	r.next = record.Handshake{}
	r.messages = append(r.messages, f)
	lastMessage := f.Type == record.MessageCertificateVerify || f.Type == record.MessageClientKeyExchange && !r.sends(record.MessageCertificateVerify)
	if lastMessage && !r.hasSecret {
		r.hasSecret = true
		r.gate.MasterSecret(r.recording.MasterSecret)
	}
}

// sends reports whether the client sends a message.
func (r *replay) sends(kind uint8) bool {
	for _, m := range r.recorded(true) {
		if m.Type == kind {
			return true
		}
	}
	return false
}

func (r *replay) checkOutcome(want []record.Handshake) {
	require.Len(r, r.messages, len(want))
	for i, m := range want {
		require.Equal(r, m.Type, r.messages[i].Type, fmt.Sprint("message ", i))
		require.Equal(r, m.MessageSeq, r.messages[i].MessageSeq)
		require.Equal(r, m.Body, r.messages[i].Body)
	}
	require.NotNil(r, r.finished, "the client's Finished was right")
	require.True(r, r.gate.AddressValidated())
	result, err := r.gate.Result()
	require.NoError(r, err)
	require.Equal(r, r.recording.MasterSecret, result.Records.Config().MasterSecret)
}
