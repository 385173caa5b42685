// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/require"
)

// The operations of FuzzGate.
const (
	opHonest    = iota // what comes next in an honest handshake
	opPion             // what pion does next, if it is its turn
	opPlaintext        // a record of epoch 0: type, size, payload
	opMessage          // a message: place, size, body
	opFragment         // a fragment of an honest message: place, offset, size, change
	opProtected        // a record that the client has sealed: type, size, payload
	opFinished         // a fragment of the Finished: offset, size, change
	opForged           // a record of epoch 1 that no key opens: type, size
	opRaw              // a record with its header: size
	opSleep            // time passes: tenths of seconds
	opRepeat           // the client's ClientHello once more
	operations
)

// player plays the operations that a fuzzer has made up.
type player struct {
	*script
	input  []byte
	slept  time.Duration
	flight []byte // the messages of pion's answer
}

func (p *player) byte() int {
	if len(p.input) == 0 {
		return 0
	}
	b := p.input[0]
	p.input = p.input[1:]
	return int(b)
}

func (p *player) bytes(n int) []byte {
	n = min(n, len(p.input))
	b := p.input[:n:n]
	p.input = p.input[n:]
	return b
}

// place returns a message's type and number: mostly one that may come.
func (p *player) place() (kind uint8, seq uint16) {
	b := p.byte()
	ahead := b & 7 % (maxAhead + 2)
	kind = p.expected()
	if n := int(p.gate.step-awaitCertificate) + ahead; p.gate.step.fromClient() && n < len(clientFlight) {
		kind = clientFlight[n]
	}
	if b >= 0xc0 {
		kind = messageTypes[b%len(messageTypes)]
	}
	if b&0x20 != 0 && int(p.gate.nextSeq) >= ahead {
		return kind, p.gate.nextSeq - uint16(ahead)
	}
	return kind, p.gate.nextSeq + uint16(ahead)
}

// play plays the next operation.
func (p *player) play() {
	switch p.byte() % operations {
	case opHonest:
		p.honestly()
	case opPion:
		p.pionActs()
	case opPlaintext:
		kind := record.Type(20 + p.byte()%4)
		p.plaintext(kind, p.bytes(p.byte())...)
	case opMessage:
		kind, seq := p.place()
		p.messages(whole(kind, seq, p.bytes(p.byte())))
	case opFragment:
		kind, seq := p.place()
		p.messages(p.part(whole(kind, seq, bytes.Clone(p.bodyOf(kind)))))
	case opProtected:
		kind := record.Type(21 + p.byte()%3)
		p.protected(kind, p.bytes(p.byte()))
	case opFinished:
		p.synchronize()
		p.protected(record.TypeHandshake, p.part(p.oneMessage(p.finishedMessage())).Append(nil))
	case opForged:
		kind := record.Type(21 + p.byte()%3)
		p.sequence++
		p.handle(p.one(dtlstest.Unauthentic(kind, p.sequence, p.byte()*p.byte()%5000)))
	case opRaw:
		for rest := p.bytes(p.byte()); len(rest) > 0; {
			r, after, fault := record.Next(rest)
			if rest = after; fault == record.NoFault {
				p.handle(r)
			}
		}
	case opSleep:
		// Less than the time after which a client that does not answer is gone.
		d := time.Duration(p.byte()%10) * 100 * time.Millisecond
		if p.slept+d < 3*DefaultInterval {
			p.slept += d
			time.Sleep(d)
		}
	case opRepeat:
		p.messages(whole(record.MessageClientHello, p.gate.hello.MessageSeq, p.helloBody(p.cookie)))
	}
	synctest.Wait()
	p.bounded()
}

// part returns a fragment, one of whose bytes may be wrong.
func (p *player) part(m record.Handshake) record.Handshake {
	from := min(p.byte()*p.byte(), m.Length-1)
	to := min(from+1+p.byte()*p.byte(), m.Length)
	if change := p.byte(); change >= 0x80 {
		m.Body[from+change%(to-from)] ^= byte(change)
	}
	return fragment(m, from, to)
}

// pionActs answers, or gives the gate the keys. It answers no forged ClientHello.
func (p *player) pionActs() {
	p.pionReads()
	switch {
	case p.gate.step == awaitServer && p.forged():
	case p.gate.step == awaitServer:
		p.script.transcript = nil
		p.honest()
		p.flight = p.script.transcript
	case p.gate.step == awaitFinished:
		p.gate.MasterSecret(secret)
	}
}

// synchronize makes the client's transcript and message number those of what was accepted.
func (p *player) synchronize() {
	p.messageSeq = p.gate.nextSeq
	p.script.transcript = nil
	for _, m := range p.pionReads() {
		switch m.Type {
		case record.MessageClientHello:
			p.script.transcript = append(m.Append(nil), p.flight...)
		case record.MessageFinished:
		default:
			p.script.transcript = m.Append(p.script.transcript)
		}
	}
}

// honestly does what comes next, as the client whose messages were accepted so far. It
// reports whether it can: nobody goes on with a forged ClientHello.
func (p *player) honestly() bool {
	p.synchronize()
	switch at := p.gate.step; {
	case at > awaitHello && p.forged():
		return false
	case at == awaitServer:
		p.pionActs()
		require.NotEqual(p, at, p.gate.step)
	case at == finished:
	case at == awaitHello || at == awaitCookie:
		switch p.messages(whole(record.MessageClientHello, p.gate.nextSeq, p.helloBody(p.cookie))) {
		case Accepted:
		case NewClientHello:
			require.Equal(p, awaitHello, at)
			return false
		default:
			require.Fail(p, "an honest ClientHello")
		}
	case at == awaitFinished:
		if p.pionActs(); p.gate.step == awaitFinished { // the Finished has not come before the keys
			p.finish()
		}
		require.Equal(p, finished, p.gate.step, "an honest Finished")
	default:
		p.messages(whole(p.expected(), p.messageSeq, p.bodyOf(p.expected())))
		require.Greater(p, p.gate.step, at, "an honest message")
	}
	return true
}

// forged reports whether the ClientHello that was accepted is not the client's.
func (p *player) forged() bool {
	own, ok := record.ParseClientHelloBody(p.helloBody(p.cookie))
	require.True(p, ok)
	return !record.SameParameters(p.gate.hello, own)
}

// bounded requires that the gate keeps no more than it may.
func (p *player) bounded() {
	g := p.gate
	if g.step != awaitServer && g.step != finished {
		require.LessOrEqual(p, g.kept(), g.mostKept())
	}
	require.LessOrEqual(p, g.earlyBytes, maxEarlyBytes)
	size := 0
	for _, r := range g.early {
		size += len(r.Raw)
	}
	require.Equal(p, size, g.earlyBytes)
	size = 0
	for _, d := range g.queue {
		size += len(d)
	}
	most := 2 * g.maxLength(record.MessageClientHello)
	for _, kind := range clientFlight {
		most += g.maxLength(kind)
	}
	require.LessOrEqual(p, size, most+12*(record.HeaderSize+record.HandshakeHeaderSize)+100)
}

// FuzzGate feeds a gate with what anybody can send to it, in a handshake of any kind and in
// any step, also sealed with the right keys. Whatever comes, what pion reads is canonical,
// the gate keeps no more than it may, and an honest client can go on to the end.
func FuzzGate(f *testing.F) {
	for n := range kinds {
		k := byte(n)
		f.Add(append([]byte{k}, make([]byte, 20)...)) // an honest handshake
		for at := range 9 {
			start := append([]byte{k}, make([]byte, at)...)
			for _, tail := range [][]byte{
				{opPlaintext, 2, 2, 0, 1, opPlaintext, 1, 2, 2, 40, opPlaintext, 0, 1, 1},
				{opMessage, 0, 4, 0, 0, 0, 0, opMessage, 1, 6, 0, 4, 'n', 'a', 'm', 'e', opMessage, 2, 6, 4, 3, 0, 2, 1, 1},
				{opFragment, 0, 0, 0, 1, 10, 0, opFragment, 1, 2, 1, 5, 5, 0, opFragment, 2, 0, 0, 255, 255, 0x85, opFragment, 0, 1, 1, 255, 255, 0},
				{opPion, opProtected, 2, 3, 'a', 'b', 'c', opProtected, 0, 2, 2, 40, opProtected, 1, 3, 1, 2, 3},
				{opForged, 1, 6, 8, opPion, opFinished, 0, 0, 1, 5, 0x81, opFinished, 0, 0, 1, 3, 0, opFinished, 1, 4, 4, 4, 0},
				{opRaw, 15, 21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40, opSleep, 9, opRepeat, opSleep, 9, opRepeat},
				{opForged, 1, 40, 50, opForged, 1, 255, 8, opFinished, 0, 0, 4, 4, 0, opPion, opPlaintext, 0, 1, 1},
			} {
				f.Add(append(bytes.Clone(start), tail...))
			}
		}
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) == 0 || len(input) > 4<<10 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			p := &player{script: newScript(t, kinds[int(input[0])%len(kinds)]), input: input[1:]}
			for len(p.input) > 0 {
				p.play()
			}
			for p.gate.step != finished {
				if !p.honestly() {
					return
				}
			}
			if p.gate.outcome.authentic > 1 {
				return // the client itself has sent a wrong Finished twice
			}
			require.False(t, p.hasFailed())
			p.pionReads()
			p.result()
			time.Sleep(time.Hour)
		})
	})
}
