// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"math/bits"
	"slices"

	"github.com/go-dsm/dsm/internal/record"
)

// partial is a handshake message of which some fragments were received (RFC 6347 section
// 4.2.3). The zero partial has none.
type partial struct {
	kind    uint8
	begun   bool // a fragment was received
	body    []byte
	have    []uint64 // a bit for each byte of body, unless nothing is missing
	missing int      // bytes
}

// wholePartial returns a message all of which was received.
func wholePartial(kind uint8, body []byte) partial {
	return partial{kind: kind, begun: true, body: body}
}

// fits reports whether a fragment can be of the same message as what was received.
func (p *partial) fits(f record.Handshake) bool {
	if !p.begun {
		return true
	}
	if p.kind != f.Type || len(p.body) != f.Length {
		return false
	}
	old := p.body[f.Offset:][:len(f.Body)]
	if p.missing == 0 {
		return bytes.Equal(old, f.Body)
	}
	for i, b := range f.Body {
		if at := f.Offset + i; old[i] != b && p.have[at/64]>>(at%64)&1 != 0 {
			return false
		}
	}
	return true
}

// add adds a fragment. Where it contradicts what was received before, one of the two is
// forged: the message begins anew with this fragment, and the other one is right when it
// is repeated. add reports whether the fragment was new.
func (p *partial) add(f record.Handshake) bool {
	if !p.fits(f) {
		p.reset()
	}
	if !p.begun {
		p.kind, p.begun, p.missing = f.Type, true, f.Length
		p.body = slices.Grow(p.body, f.Length)[:f.Length]
		if f.Complete() {
			copy(p.body, f.Body)
			p.missing = 0
			return true
		}
		words := (f.Length + 63) / 64
		p.have = slices.Grow(p.have, words)[:words]
		clear(p.have)
	}
	if p.missing == 0 {
		return false
	}
	copy(p.body[f.Offset:], f.Body)
	before := p.missing
	for at, end := f.Offset, f.Offset+len(f.Body); at < end; {
		// The bits of one word, from at on.
		n := min(64-at%64, end-at)
		mask := ^uint64(0) >> (64 - n) << (at % 64)
		p.missing -= bits.OnesCount64(mask &^ p.have[at/64])
		p.have[at/64] |= mask
		at += n
	}
	return p.missing < before
}

// reset forgets what was received. It keeps the memory, so that fragments which contradict
// each other cost no allocation each. Nobody else may refer to the body.
func (p *partial) reset() { *p = partial{body: p.body[:0], have: p.have[:0]} }

// complete reports whether all of the message was received.
func (p *partial) complete() bool { return p.begun && p.missing == 0 }
