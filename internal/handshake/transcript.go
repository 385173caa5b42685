// SPDX-License-Identifier: MIT

package handshake

import (
	"hash"

	"github.com/go-dsm/dsm/internal/record"
)

// transcript is the hash of the handshake messages so far, which a Finished covers (RFC
// 5246 section 7.4.9). It begins with the ClientHello that the ServerHello answers: the
// first ClientHello and the HelloVerifyRequest before that are not part of it (RFC 6347
// section 4.2.1). The zero transcript has not begun.
type transcript struct {
	hash   hash.Hash
	header [record.HandshakeHeaderSize]byte // of the message that is added; on the heap with the gate
}

// begin begins with the suite that the ServerHello has chosen, which says what the hash is.
func (t *transcript) begin(id record.SuiteID) { t.hash = id.NewHash() }

// add adds a whole message.
func (t *transcript) add(m record.Handshake) {
	t.hash.Write(m.AppendHeader(t.header[:0]))
	t.hash.Write(m.Body)
}

// sum returns the hash.
func (t *transcript) sum() []byte { return t.hash.Sum(nil) }
