// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"sync"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
)

// connectionIDs makes the connection IDs that a listener gives its clients (RFC 9146). An ID
// is Config.ServerID and an AES block, the encryption of the slot's number, its generation
// and zeros. So an ID leads to a slot without a map, and tells an observer nothing. A block
// that somebody has made up decrypts to these zeros with a probability of 2^-64.
//
// The zero connectionIDs gives no IDs. It is set before the first datagram is read and never
// changed.
type connectionIDs struct {
	block    cipher.Block // nil: there are no IDs
	key      [idKeySize]byte
	serverID []byte
	adopted  bool // the key is that of restored sessions
}

// idKeySize is the size of the key of IDs in bytes: AES-128.
const idKeySize = 16

// The block of an ID: the slot's number and its generation, then zeros.
const (
	idGenerationAt = 4
	idZerosAt      = 8
)

// newConnectionIDs returns connectionIDs with a random key.
func newConnectionIDs(serverID []byte) connectionIDs {
	c := connectionIDs{serverID: serverID}
	var key [idKeySize]byte
	_, _ = rand.Read(key[:]) // which never fails
	c.setKey(key)
	return c
}

func (c *connectionIDs) setKey(key [idKeySize]byte) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("dsm: " + err.Error())
	}
	c.block, c.key = block, key
}

// adopt takes the key of a session that is restored, so that its ID and those of the others
// lead to their slots again. Only the first key counts. No ID was given yet, and no datagram
// was read.
func (c *connectionIDs) adopt(key [idKeySize]byte) {
	if c.block != nil && !c.adopted {
		c.setKey(key)
		c.adopted = true
	}
}

// length returns the length of an ID in bytes, or 0 if there are no IDs.
func (c *connectionIDs) length() int {
	if c.block == nil {
		return 0
	}
	return len(c.serverID) + aes.BlockSize
}

// id returns the ID of a slot in a generation, or nil if there are no IDs.
func (c *connectionIDs) id(slot int, generation uint32) []byte {
	if c.block == nil {
		return nil
	}
	id := append(make([]byte, 0, c.length()), c.serverID...)
	id = binary.BigEndian.AppendUint32(id, uint32(slot))
	id = binary.BigEndian.AppendUint32(id, generation)
	id = append(id, make([]byte, aes.BlockSize-idZerosAt)...)
	block := id[len(c.serverID):]
	c.block.Encrypt(block, block)
	return id
}

// parse returns the slot and the generation of an ID. It reports false for an ID that the
// method id has not made.
func (c *connectionIDs) parse(id []byte) (slot int, generation uint32, ok bool) {
	if c.block == nil || len(id) != c.length() || !bytes.HasPrefix(id, c.serverID) {
		return 0, 0, false
	}
	block := idBlocks.Get().(*[aes.BlockSize]byte)
	defer idBlocks.Put(block)
	c.block.Decrypt(block[:], id[len(c.serverID):])
	if binary.BigEndian.Uint64(block[idZerosAt:]) != 0 {
		return 0, 0, false
	}
	return int(binary.BigEndian.Uint32(block[:])), binary.BigEndian.Uint32(block[idGenerationAt:]), true
}

// idBlocks saves parse an allocation: what is passed to a cipher.Block escapes.
var idBlocks = sync.Pool{New: func() any { return new([aes.BlockSize]byte) }}

// nextRecord parses the first record of a datagram. If the listener gives no IDs, a record of
// record.TypeConnectionID has the fault record.BadType.
func (l *Listener) nextRecord(datagram []byte) (r record.Record, rest []byte, fault record.Fault) {
	return record.NextWithID(datagram, l.ids.length())
}

// peerOf returns the peer that a datagram is for, or nil: by the connection ID of its first
// record, or else by its address. A record that was found by its ID can come from any
// address.
//
// A session that was restored or attached, and did not get its old slot, keeps its ID, which
// can then lead to another peer. Such a session is found by its address.
func (l *Listener) peerOf(from route, datagram []byte) *Peer {
	found, id := l.sessionWithID(datagram)
	if found.Value != nil && found.Peer == from.peer {
		return found.Value
	}
	session, state := l.table.Get(l.sock, from.peer)
	if state != dsm.StateNone && (found.Value == nil || session.Value.hasID(id)) {
		return session.Value
	}
	return found.Value
}

// hasID reports whether the peer's session has a connection ID.
func (p *Peer) hasID(id []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn != nil && bytes.Equal(p.conn.records.ConnectionID(), id)
}

// sessionWithID returns the session in the table to which the connection ID of a datagram's
// first record leads, and the ID. It returns the zero Session if there is none.
func (l *Listener) sessionWithID(datagram []byte) (found dsm.Session[*Peer], id []byte) {
	if len(datagram) == 0 || record.Type(datagram[0]) != record.TypeConnectionID {
		return found, nil
	}
	r, _, fault := l.nextRecord(datagram)
	if fault != record.NoFault {
		return found, nil
	}
	slot, generation, ok := l.ids.parse(r.ConnectionID)
	if !ok {
		return found, nil
	}
	session, state := l.table.At(slot, generation).Get()
	if state == dsm.StateNone || session.Value.listener != l { // of another listener of the table
		return found, nil
	}
	return session, r.ConnectionID
}
