// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"errors"
)

// maxConnectionID bounds a connection ID, in bytes (RFC 9146 section 3).
const maxConnectionID = 255

var errConnectionIDTooLong = errors.New("dsm: a connection ID has at most 255 bytes")

// connectionIDs are the connection IDs of a session (RFC 9146). They do not change: copies
// of a Session share them.
type connectionIDs struct {
	own  []byte // in the peer's records; may be empty
	peer []byte // in the records to the peer; may be empty
}

// SetConnectionIDs sets Config.ConnectionID and Config.PeerConnectionID of a session that
// ParseState has made. It copies them.
func (s *Session) SetConnectionIDs(own, peer []byte) {
	if len(own) > maxConnectionID || len(peer) > maxConnectionID {
		panic(errConnectionIDTooLong)
	}
	s.ids = nil
	if len(own)+len(peer) > 0 {
		both := append(append(make([]byte, 0, len(own)+len(peer)), own...), peer...)
		s.ids = &connectionIDs{own: both[:len(own):len(own)], peer: both[len(own):]}
	}
}

// ConnectionID returns the connection ID in the peer's records. It is empty if these have
// none. The caller must not change it.
func (s *Session) ConnectionID() []byte {
	if s.ids == nil {
		return nil
	}
	return s.ids.own
}

// PeerConnectionID returns the connection ID in the records to the peer. It is empty if
// these have none. The caller must not change it.
func (s *Session) PeerConnectionID() []byte {
	if s.ids == nil {
		return nil
	}
	return s.ids.peer
}

// hasID reports whether a record is one of a direction with the connection ID: of
// TypeConnectionID with that ID, or of another type if the ID is empty (RFC 9146 section 3).
func hasID(r Record, id []byte) bool {
	return (r.Type == TypeConnectionID) == (len(id) > 0) && bytes.Equal(r.ConnectionID, id)
}

// innerOverhead returns the number of bytes by which an inner plaintext is longer than its
// payload: the byte of the type, in records with a connection ID.
func innerOverhead(idLength int) int { return min(idLength, 1) }

// splitInner removes the zero padding and the type from the end of an inner plaintext that
// begins at offset begin of b (RFC 9146 section 4). It returns type 0 if the inner plaintext
// has only zeros, and no type.
func splitInner(b []byte, begin int) (payload []byte, t Type) {
	for i := len(b) - 1; i >= begin; i-- {
		if b[i] != 0 {
			return b[:i], Type(b[i])
		}
	}
	return b, 0
}
