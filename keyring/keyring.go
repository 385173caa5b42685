// SPDX-License-Identifier: MIT

// Package keyring encrypts and authenticates session secrets that leave the memory of a
// server. It uses AES-256-GCM with keys of the operator. Each key has an ID, so keys can be
// changed while values of an earlier key still exist.
package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Overhead is the number of bytes that Ring.Seal appends in addition to the ciphertext: the
// key's ID, the nonce and the tag.
const Overhead = idSize + 12 + 16

const idSize = 4

// The errors of Ring.Open, together with UnknownKeyError.
var (
	// ErrTruncated: the sealed value is shorter than Overhead.
	ErrTruncated = errors.New("keyring: the sealed value is truncated")
	// ErrForged: the sealed value, the header or the additional data differs from what
	// was sealed, or the key with this ID had another secret then.
	ErrForged = errors.New("keyring: the sealed value is not authentic")
)

// UnknownKeyError is the error of Ring.Open if the Ring has no key with the ID that stands in
// the sealed value. The ID is not authenticated.
type UnknownKeyError struct{ ID uint32 }

// Error implements error.
func (e *UnknownKeyError) Error() string { return fmt.Sprintf("keyring: unknown key %d", e.ID) }

// Ring seals with its first key and opens with any of its keys. Make one with New; the zero
// Ring cannot be used. A Ring never changes, so it is safe for concurrent use.
type Ring struct {
	firstID uint32
	aeads   map[uint32]cipher.AEAD // by Key.ID
}

// New returns a Ring. It is an error if there is no key, if two keys have the same ID or the
// same Secret, or if a Secret is all zero.
func New(keys ...Key) (*Ring, error) {
	if len(keys) == 0 {
		return nil, errors.New("keyring: no keys")
	}
	ring := &Ring{firstID: keys[0].ID, aeads: make(map[uint32]cipher.AEAD, len(keys))}
	secrets := make(map[[32]byte]uint32, len(keys))
	for _, key := range keys {
		if key.Secret == [32]byte{} {
			return nil, fmt.Errorf("keyring: the secret of key %d is all zero", key.ID)
		}
		if _, ok := ring.aeads[key.ID]; ok {
			return nil, fmt.Errorf("keyring: got key %d twice", key.ID)
		}
		if other, ok := secrets[key.Secret]; ok {
			return nil, fmt.Errorf("keyring: keys %d and %d have the same secret", other, key.ID)
		}
		block, err := aes.NewCipher(key.Secret[:])
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		// Seal of this AEAD draws a random nonce and writes it before the ciphertext;
		// Open reads it from there.
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		ring.aeads[key.ID], secrets[key.Secret] = aead, key.ID
	}
	return ring, nil
}

// Seal encrypts plaintext with the first key. It appends the key's ID (4 bytes, big endian), a
// random nonce (12 bytes), the ciphertext and the tag (16 bytes) to dst, and returns the
// result. The content of dst is a header in the clear: Seal authenticates it, followed by the
// ID and additional. The caller of Open must know where the header ends without reading it from
// the sealed value, for instance because the header has a fixed length.
//
// The plaintext must not overlap dst, up to its capacity.
//
// With random nonces, one key may seal 2^32 values in total (NIST SP 800-38D, section 8.3), on
// all servers that use it.
func (r *Ring) Seal(dst, plaintext, additional []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, r.firstID)
	return r.aeads[r.firstID].Seal(dst, nil, plaintext, slices.Concat(dst, additional))
}

// Open decrypts what Seal has appended to header, appends the plaintext to dst and returns the
// result. The header and additional must be those of Seal. With an error the result is nil:
// ErrTruncated, a *UnknownKeyError or ErrForged.
//
// The spare capacity of dst must not overlap sealed.
func (r *Ring) Open(dst, header, sealed, additional []byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return nil, ErrTruncated
	}
	id, sealed := sealed[:idSize], sealed[idSize:]
	aead, ok := r.aeads[binary.BigEndian.Uint32(id)]
	if !ok {
		return nil, &UnknownKeyError{ID: binary.BigEndian.Uint32(id)}
	}
	plaintext, err := aead.Open(dst, nil, sealed, slices.Concat(header, id, additional))
	if err != nil {
		return nil, ErrForged
	}
	return plaintext, nil
}
