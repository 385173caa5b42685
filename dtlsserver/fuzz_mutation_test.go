// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
)

// The templates of an injected datagram. Their arguments follow.
const (
	fromClient   = iota // index: what a client has sent, the last one first
	fromServer          // index: what the server has sent, the last one first
	firstHello          // random: a stranger's first ClientHello
	secondHello         // random, cookie: with a cookie of the program's making
	message             // type, message_seq, length, body: a plaintext message
	plainRecord         // type, length, fragment
	epochRecord         // type, epoch, length, fragment
	literalBytes        // length, bytes
	templates
)

func (w *fuzzWorld) template(p *program) []byte {
	switch p.byte() % templates {
	case fromClient:
		return w.capturedOf(dtlstest.ToServer, p)
	case fromServer:
		return w.capturedOf(dtlstest.ToClient, p)
	case firstHello:
		return dtlstest.Hello(byte(p.byte()))
	case secondHello:
		random := dtlstest.RandomOf(byte(p.byte()))
		return dtlstest.ClientHello{Sequence: 1, MessageSeq: 1, Random: random, Cookie: p.bytes(p.byte())}.Datagram()
	case message:
		kind, seq := byte(p.byte()), uint16(p.byte())
		return dtlstest.Plaintext(record.TypeHandshake, 9, dtlstest.Message(kind, seq, p.bytes(p.byte())...)...)
	case plainRecord:
		kind := record.Type(p.byte())
		return dtlstest.Plaintext(kind, 9, p.bytes(p.byte())...)
	case epochRecord:
		kind, epoch := record.Type(p.byte()), p.byte()
		fragment := p.bytes(p.byte())
		b := make([]byte, record.HeaderSize)
		record.PutHeader(b, kind, uint16(epoch), 9, len(fragment))
		return append(b, fragment...)
	}
	return p.bytes(p.byte())
}

// capturedOf returns a copy of a datagram that was sent in this run.
func (w *fuzzWorld) capturedOf(direction dtlstest.Direction, p *program) []byte {
	index := p.byte()
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.captured[direction]
	if len(c) == 0 {
		return nil
	}
	return bytes.Clone(c[len(c)-1-index%len(c)])
}

// The mutations of a datagram. Their arguments follow.
const (
	flip       = iota // position, mask
	cut               // length
	extend            // length, bytes
	splice            // position, index: goes on as another datagram of a client
	header            // record, field, value: of a record's header
	msgHeader         // record, field, value: of a handshake message's header
	refragment        // record, size, order: the message in fragments, each in a record
	coalesce          // index: with another datagram of a client in front of it
	edit              // record, position, removed, length, bytes: all lengths remain right
	repeat            // times: the datagram several times in one
	mutations
)

// mutated returns a template after up to three mutations.
func (w *fuzzWorld) mutated(p *program) []byte {
	b := w.template(p)
	for range p.byte() % 4 {
		b = w.mutate(p, b)
	}
	return b[:min(len(b), maxInjected)]
}

func (w *fuzzWorld) mutate(p *program, b []byte) []byte {
	switch p.byte() % mutations {
	case flip:
		at, mask := p.number(), byte(p.byte())
		if len(b) > 0 {
			b[at%len(b)] ^= mask
		}
	case cut:
		b = b[:p.number()%(len(b)+1)]
	case extend:
		b = append(b, p.bytes(p.byte())...)
	case splice:
		at := p.number()
		other := w.capturedOf(dtlstest.ToServer, p)
		at %= min(len(b), len(other)) + 1
		b = append(b[:at:at], other[at:]...)
	case header:
		n, field, value := p.byte(), p.byte(), p.number()
		if begin, _, ok := nthRecord(b, n); ok {
			putHeaderField(b[begin:], field, value)
		}
	case msgHeader:
		n, field, value := p.byte(), p.byte(), p.number()
		if begin, end, ok := nthRecord(b, n); ok && end-begin >= record.HeaderSize+record.HandshakeHeaderSize {
			putMessageField(b[begin+record.HeaderSize:], field, value)
		}
	case refragment:
		n, size, order := p.byte(), p.number(), p.byte()
		if begin, end, ok := nthRecord(b, n); ok {
			b = slices.Concat(b[:begin], divided(b[begin:end], size, order), b[end:])
		}
	case coalesce:
		b = append(w.capturedOf(dtlstest.ToServer, p), b...)
	case edit:
		n, at, removed, added := p.byte(), p.number(), p.byte(), p.bytes(p.byte())
		if begin, end, ok := nthRecord(b, n); ok {
			b = slices.Concat(b[:begin], edited(b[begin:end], at, removed, added), b[end:])
		}
	case repeat:
		b = bytes.Repeat(b, 1+p.byte()%4)
	}
	return b
}

// nthRecord returns where a record of a datagram is. n counts modulo their number.
func nthRecord(b []byte, n int) (begin, end int, ok bool) {
	var ends []int
	for at := 0; at+record.HeaderSize <= len(b); {
		at += record.HeaderSize + int(binary.BigEndian.Uint16(b[at+11:]))
		if at > len(b) {
			break
		}
		ends = append(ends, at)
	}
	if len(ends) == 0 {
		return 0, 0, false
	}
	if n %= len(ends); n > 0 {
		begin = ends[n-1]
	}
	return begin, ends[n], true
}

// putHeaderField changes a field of a record's header.
func putHeaderField(b []byte, field, value int) {
	switch field % 6 {
	case 0:
		b[0] = byte(record.TypeChangeCipherSpec) + byte(value%5)
	case 1:
		b[2] = byte(value)
	case 2:
		binary.BigEndian.PutUint16(b[3:], uint16(value%4)) // the epoch
	case 3:
		binary.BigEndian.PutUint16(b[9:], uint16(value)) // the low bytes of the sequence number
	case 4:
		binary.BigEndian.PutUint16(b[5:], uint16(value)) // and the high bytes
	case 5:
		binary.BigEndian.PutUint16(b[11:], uint16(value)) // the length
	}
}

// putMessageField changes a field of a handshake message's header.
func putMessageField(b []byte, field, value int) {
	switch field % 6 {
	case 0:
		b[0] = byte(value) // the type
	case 1:
		binary.BigEndian.PutUint16(b[2:], uint16(value)) // the length
	case 2:
		binary.BigEndian.PutUint16(b[4:], uint16(value%8)) // message_seq
	case 3:
		binary.BigEndian.PutUint16(b[7:], uint16(value)) // the fragment's offset
	case 4:
		binary.BigEndian.PutUint16(b[10:], uint16(value)) // the fragment's length
	case 5:
		b[1], b[6], b[9] = byte(value>>8), byte(value), byte(value>>8) // the high bytes of the lengths
	}
}

// divided divides the message of a record into fragments of a size. order says whether
// they come backwards, overlap, or lack the first one.
func divided(raw []byte, size, order int) []byte {
	const backwards, overlapping, incomplete, together = 1, 2, 4, 8
	m, _, ok := record.NextHandshake(raw[record.HeaderSize:])
	if raw[0] != byte(record.TypeHandshake) || !ok || !m.Complete() || len(m.Body) == 0 {
		return raw
	}
	size = max(size%512, len(m.Body)/20, 1)
	var parts [][]byte
	for at := 0; at < len(m.Body); at += size {
		end := min(at+size, len(m.Body))
		if order&overlapping != 0 {
			end = min(end+size/2, len(m.Body))
		}
		part := m
		part.Offset, part.Body = at, m.Body[at:end]
		parts = append(parts, part.Append(nil))
	}
	if order&backwards != 0 {
		slices.Reverse(parts)
	}
	if order&incomplete != 0 {
		parts = parts[1:]
	}
	if order&together != 0 {
		parts = [][]byte{bytes.Join(parts, nil)}
	}
	var out []byte
	for n, part := range parts {
		out = append(out, dtlstest.Plaintext(record.TypeHandshake, uint64(n), part...)...)
	}
	return out
}

// edited replaces bytes of the body of a record's message, or of the fragment of a record
// that has no message. The lengths in the headers change with it.
func edited(raw []byte, at, removed int, added []byte) []byte {
	body, m, ok := raw[record.HeaderSize:], record.Handshake{}, false
	if raw[0] == byte(record.TypeHandshake) && binary.BigEndian.Uint16(raw[3:]) == 0 {
		if m, _, ok = record.NextHandshake(body); ok {
			body = m.Body
		}
	}
	at %= len(body) + 1
	body = slices.Concat(body[:at], added, body[min(at+removed, len(body)):])
	if ok {
		m.Body, m.Length = body, m.Offset+len(body)
		body = m.Append(nil)
	}
	out := append(raw[:record.HeaderSize:record.HeaderSize], body...)
	binary.BigEndian.PutUint16(out[11:], uint16(len(body)))
	return out
}
