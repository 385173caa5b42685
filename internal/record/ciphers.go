// SPDX-License-Identifier: MIT

package record

import (
	"crypto/aes"
	"crypto/hmac"
	"encoding/binary"
	"slices"
)

// ciphers hold the keys of a session, and no sequence number. They are not safe for
// concurrent use.
type ciphers struct{ local, remote protection }

func (c *ciphers) own() protection    { return c.local }
func (c *ciphers) ofPeer() protection { return c.remote }

// protection seals and opens the records of one direction.
type protection interface {
	// overhead returns the length of what a fragment has before its ciphertext, an
	// explicit nonce or an IV, and the maximum number of bytes that seal appends.
	overhead() (prefix, suffix int)
	// seal protects the record that begins at offset begin of b, in place. Its header has
	// the given length, then come the prefix, which seal sets, and the inner plaintext.
	seal(b []byte, begin, header int) []byte
	// open appends the plaintext of a record to dst, which must not overlap the record. It
	// reports false for a record that is not authentic. Its fragment has at least
	// minFragment bytes.
	open(dst []byte, r Record) (opened []byte, ok bool)
}

// directionKeys are the keys of one direction (RFC 5246 section 6.3).
type directionKeys struct{ mac, key, iv []byte }

// newCiphers returns ciphers that seal with the local keys and open with the remote
// keys.
func (s *suite) newCiphers(local, remote directionKeys) (c *ciphers, err error) {
	c = &ciphers{}
	if c.local, err = s.newProtection(local); err != nil {
		return nil, err
	}
	if c.remote, err = s.newProtection(remote); err != nil {
		return nil, err
	}
	return c, nil
}

func (s *suite) newProtection(k directionKeys) (protection, error) {
	block, err := aes.NewCipher(k.key)
	if err != nil {
		return nil, err
	}
	if s.mode == modeCBC {
		return &cbcProtection{block: block, mac: hmac.New(s.mac, k.mac)}, nil
	}
	p := &aeadProtection{}
	p.additional = p.room[:0]
	copy(p.nonce[:], k.iv)
	p.aead, err = s.newAEAD(block)
	return p, err
}

// appendSealed appends a record to dst. With a connection ID the record is of TypeConnectionID, and
// its type is sealed behind the payload, without padding (RFC 9146 section 4).
func appendSealed(p protection, dst []byte, t Type, epoch uint16, sequence uint64, id, payload []byte) []byte {
	outer := t
	if len(id) > 0 {
		outer = TypeConnectionID
	}
	begin, header := len(dst), HeaderSize+len(id)
	prefix, suffix := p.overhead()
	dst = slices.Grow(dst, header+prefix+len(payload)+innerOverhead(len(id))+suffix)
	dst = AppendHeader(dst, outer, epoch, sequence, 0)
	dst = append(dst[:len(dst)-2], id...)
	dst = append(dst, make([]byte, 2+prefix)...) // the length of the fragment is set last
	dst = append(dst, payload...)
	if len(id) > 0 {
		dst = append(dst, byte(t))
	}
	dst = p.seal(dst, begin, header)
	binary.BigEndian.PutUint16(dst[begin+header-2:], uint16(len(dst)-begin-header))
	return dst
}

// appendAdditional appends the additional data of a record to dst, which is also what the
// MAC of a CBC suite begins with. length is that of the record's inner plaintext.
//
// Without a connection ID the data is RFC 5246 section 6.2.3.3's, whose sequence number is
// that of the header, with the epoch (RFC 6347 section 4.1.2.1). With one it is RFC 9146
// section 5's.
func appendAdditional(dst, header []byte, length int) []byte {
	dst = slices.Grow(dst, 10+len(header))
	if t := header[0]; Type(t) == TypeConnectionID {
		dst = binary.BigEndian.AppendUint64(dst, 1<<64-1)
		dst = append(dst, t, byte(len(header)-HeaderSize))
		dst = append(dst, header[:len(header)-2]...)
	} else {
		dst = append(dst, header[3:11]...)
		dst = append(dst, header[:3]...)
	}
	return binary.BigEndian.AppendUint16(dst, uint16(length))
}
