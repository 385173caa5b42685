// SPDX-License-Identifier: MIT

package handshake

import "github.com/go-dsm/dsm/internal/record"

// NameGroup makes a group the last one that the client's first ClientHello names, as far as pion
// can see. Pion v2 makes a key pair of that group for each first ClientHello, also if the cipher
// suite uses none, and the group decides what that costs.
//
// An adapter calls NameGroup before pion has read anything, and only for a full handshake with a
// suite that uses no key pair. The first ClientHello of a full handshake is not part of the
// transcript (RFC 6347 section 4.2.1), so the client does not notice. Everything else that pion
// learns from it is the client's.
func (g *Gate) NameGroup(group uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	body := record.WithGroup(g.helloBody, group)
	g.queue, g.sequence = nil, 0
	g.passOnLocked(record.Handshake{Type: record.MessageClientHello, Length: len(body), MessageSeq: g.hello.MessageSeq, Body: body})
}
