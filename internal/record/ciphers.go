// SPDX-License-Identifier: MIT

package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/pion/dtls/v2/pkg/crypto/ccm"
	"github.com/pion/dtls/v2/pkg/crypto/ciphersuite"
	"github.com/pion/dtls/v2/pkg/protocol"
	"github.com/pion/dtls/v2/pkg/protocol/recordlayer"
)

// ciphers seals the records of one direction and opens the records of the other. It
// holds the keys, and no sequence number. It is not safe for concurrent use.
type ciphers interface {
	// seal appends a record, with its header, to dst.
	seal(dst []byte, t Type, epoch uint16, sequence uint64, payload []byte) ([]byte, error)
	// open appends the payload of a record to dst, which must not overlap the record.
	open(dst []byte, r Record) ([]byte, error)
	// openOwn returns the payload of a record that seal has made.
	openOwn(r Record) ([]byte, error)
	// sealAsPeer is seal with the peer's keys.
	sealAsPeer(dst []byte, t Type, epoch uint16, sequence uint64, payload []byte) ([]byte, error)
}

// directionKeys are the keys of one direction (RFC 5246 section 6.3).
type directionKeys struct{ mac, key, iv []byte }

// newCiphers returns ciphers that seal with the local keys and open with the remote
// keys.
func (s *suite) newCiphers(local, remote directionKeys) (ciphers, error) {
	if s.mode == modeCBC {
		cbc, err := s.newCBC(local, remote)
		if err != nil {
			return nil, err
		}
		exchanged := func() (*ciphersuite.CBC, error) { return s.newCBC(remote, local) }
		return &cbcCiphers{cbc: cbc, exchanged: exchanged, minFragment: s.minFragment()}, nil
	}
	c := &aeadCiphers{}
	var err error
	if c.local, err = s.newAEAD(local.key); err != nil {
		return nil, err
	}
	if c.remote, err = s.newAEAD(remote.key); err != nil {
		return nil, err
	}
	copy(c.localNonce[:], local.iv)
	copy(c.remoteNonce[:], remote.iv)
	return c, nil
}

func (s *suite) newCBC(local, remote directionKeys) (*ciphersuite.CBC, error) {
	return ciphersuite.NewCBC(local.key, local.iv, local.mac, remote.key, remote.iv, remote.mac, s.mac)
}

func (s *suite) newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	switch s.mode {
	case modeGCM:
		return cipher.NewGCM(block)
	case modeCCM:
		return ccm.NewCCM(block, 16, saltSize+explicitNonceSize)
	case modeCCM8:
		return ccm.NewCCM(block, 8, saltSize+explicitNonceSize)
	default:
		return nil, fmt.Errorf("dsm: suite %#04x is no AEAD", uint16(s.id))
	}
}

// aeadCiphers implements the AEAD suites. The explicit part of a nonce is the epoch and
// the sequence number of the record, so no nonce is used twice (RFC 9325 section 7.2.1).
type aeadCiphers struct {
	local, remote cipher.AEAD
	// The following buffers are reused, so that a record allocates nothing. A nonce
	// begins with the salt, which does not change.
	localNonce, remoteNonce [saltSize + explicitNonceSize]byte
	additional              [13]byte
}

// additionalData returns the additional data of a record whose payload has the given
// length (RFC 5246 section 6.2.3.3). Its sequence number is that of the header, with the
// epoch (RFC 6347 section 4.1.2.1).
func (c *aeadCiphers) additionalData(header []byte, length int) []byte {
	copy(c.additional[:8], header[3:11])
	copy(c.additional[8:11], header[:3])
	binary.BigEndian.PutUint16(c.additional[11:], uint16(length))
	return c.additional[:]
}

func (c *aeadCiphers) seal(dst []byte, t Type, epoch uint16, sequence uint64, payload []byte) ([]byte, error) {
	return c.sealWith(c.local, c.localNonce[:], dst, t, epoch, sequence, payload)
}

func (c *aeadCiphers) sealAsPeer(dst []byte, t Type, epoch uint16, sequence uint64, payload []byte) ([]byte, error) {
	return c.sealWith(c.remote, c.remoteNonce[:], dst, t, epoch, sequence, payload)
}

// sealWith seals a record with the AEAD of one direction and the nonce of that direction,
// whose explicit part it sets.
func (c *aeadCiphers) sealWith(aead cipher.AEAD, nonce, dst []byte, t Type, epoch uint16, sequence uint64, payload []byte) ([]byte, error) {
	begin := len(dst)
	dst = append(dst, make([]byte, HeaderSize+explicitNonceSize)...)
	header := dst[begin:]
	PutHeader(header, t, epoch, sequence, explicitNonceSize+len(payload)+aead.Overhead())
	copy(header[HeaderSize:], header[3:11])
	copy(nonce[saltSize:], header[3:11])
	return aead.Seal(dst, nonce, payload, c.additionalData(header, len(payload))), nil
}

func (c *aeadCiphers) open(dst []byte, r Record) ([]byte, error) {
	return c.openWith(c.remote, c.remoteNonce[:], dst, r)
}

func (c *aeadCiphers) openOwn(r Record) ([]byte, error) {
	return c.openWith(c.local, c.localNonce[:], nil, r)
}

// openWith opens a record with the AEAD of one direction and the nonce of that
// direction, whose explicit part it sets.
func (c *aeadCiphers) openWith(aead cipher.AEAD, nonce, dst []byte, r Record) ([]byte, error) {
	sealed := r.Fragment()
	length := len(sealed) - explicitNonceSize - aead.Overhead()
	if length < 0 {
		return dst, ErrNotAuthentic
	}
	copy(nonce[saltSize:], sealed)
	opened, err := aead.Open(dst, nonce, sealed[explicitNonceSize:], c.additionalData(r.Raw, length))
	if err != nil {
		return dst, ErrNotAuthentic
	}
	return opened, nil
}

// cbcCiphers implements the CBC suites with pion's CBC, which allocates for each record.
type cbcCiphers struct {
	cbc         *ciphersuite.CBC
	exchanged   func() (*ciphersuite.CBC, error) // builds a CBC with the keys exchanged: the peer's
	minFragment int                              // bytes: IV, MAC and one byte of padding
}

func (c *cbcCiphers) seal(dst []byte, t Type, epoch uint16, sequence uint64, payload []byte) ([]byte, error) {
	return c.sealWith(c.cbc, dst, t, epoch, sequence, payload)
}

func (c *cbcCiphers) sealAsPeer(dst []byte, t Type, epoch uint16, sequence uint64, payload []byte) ([]byte, error) {
	cbc, err := c.exchanged()
	if err != nil {
		return dst, err
	}
	return c.sealWith(cbc, dst, t, epoch, sequence, payload)
}

func (c *cbcCiphers) sealWith(cbc *ciphersuite.CBC, dst []byte, t Type, epoch uint16, sequence uint64, payload []byte) ([]byte, error) {
	raw := make([]byte, HeaderSize+len(payload), HeaderSize+len(payload)+2*aes.BlockSize+sha256.Size)
	PutHeader(raw, t, epoch, sequence, len(payload))
	copy(raw[HeaderSize:], payload)
	sealed, err := cbc.Encrypt(&recordlayer.RecordLayer{Header: recordlayer.Header{
		ContentType:    protocol.ContentType(t),
		Version:        protocol.Version1_2,
		Epoch:          epoch,
		SequenceNumber: sequence,
	}}, raw)
	if err != nil {
		return dst, err
	}
	return append(dst, sealed...), nil
}

func (c *cbcCiphers) open(dst []byte, r Record) ([]byte, error) {
	return c.openWith(c.cbc, dst, r)
}

func (c *cbcCiphers) openOwn(r Record) ([]byte, error) {
	cbc, err := c.exchanged()
	if err != nil {
		return nil, err
	}
	return c.openWith(cbc, nil, r)
}

func (c *cbcCiphers) openWith(cbc *ciphersuite.CBC, dst []byte, r Record) (opened []byte, err error) {
	if n := len(r.Fragment()); n < c.minFragment || n%aes.BlockSize != 0 {
		return dst, ErrNotAuthentic
	}
	// A peer that has the keys can send valid padding that extends into the MAC. pion
	// then slices with a negative index and panics.
	defer func() {
		if recover() != nil {
			opened, err = dst, ErrNotAuthentic
		}
	}()
	plaintext, err := cbc.Decrypt(append([]byte(nil), r.Raw...)) // Decrypt overwrites its argument
	if err != nil {
		return dst, ErrNotAuthentic
	}
	return append(dst, plaintext[HeaderSize:]...), nil
}
