// SPDX-License-Identifier: MIT

package redisstore

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	version      = 1
	headerSize   = 1 + 4   // the version and the key's id
	sealOverhead = 12 + 16 // the nonce and the tag
)

// Key encrypts and authenticates entries. All servers that share entries need the same
// keys.
//
// A Key that is printed or marshalled to JSON shows only its ID. Package fmt calls no
// methods of an unexported field, however, nor of an argument of the verb %p: in both
// cases it prints the Secret.
type Key struct {
	// ID is stored with each entry that the key has encrypted. It must not be used for
	// another secret while entries of the first secret exist.
	ID uint32
	// Secret must come from a cryptographic source of randomness, such as crypto/rand.
	Secret [32]byte `json:"-"`
}

// Format implements fmt.Formatter.
func (k Key) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "{ID:%d}", k.ID) }

// openResult says whether a value from Redis could be opened, and if not, why.
type openResult int

const (
	opened openResult = iota
	truncated
	otherVersion
	unknownKey
	forged
	openResults // the number of results
)

// keyring seals with its first key and opens with any of its keys.
type keyring struct {
	firstID uint32
	aeads   map[uint32]cipher.AEAD // by Key.ID
}

func newKeyring(keys []Key) (keyring, error) {
	if len(keys) == 0 {
		return keyring{}, errors.New("redisstore: Config.Keys is empty")
	}
	ring := keyring{firstID: keys[0].ID, aeads: make(map[uint32]cipher.AEAD, len(keys))}
	secrets := make(map[[32]byte]uint32, len(keys))
	for _, key := range keys {
		if key.Secret == [32]byte{} {
			return keyring{}, fmt.Errorf("redisstore: Config.Keys: the secret of key %d is all zero", key.ID)
		}
		if _, ok := ring.aeads[key.ID]; ok {
			return keyring{}, fmt.Errorf("redisstore: Config.Keys has key %d twice", key.ID)
		}
		if other, ok := secrets[key.Secret]; ok {
			return keyring{}, fmt.Errorf("redisstore: Config.Keys: keys %d and %d have the same secret", other, key.ID)
		}
		block, err := aes.NewCipher(key.Secret[:])
		if err != nil {
			return keyring{}, fmt.Errorf("redisstore: %w", err)
		}
		// Seal of this AEAD draws a random nonce and writes it before the ciphertext;
		// Open reads it from there. One key may seal 2^32 values: NIST SP 800-38D,
		// section 8.3.
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return keyring{}, fmt.Errorf("redisstore: %w", err)
		}
		ring.aeads[key.ID], secrets[key.Secret] = aead, key.ID
	}
	return ring, nil
}

// seal encrypts an entry. The result can be opened under the same name only.
func (r keyring) seal(name string, entry []byte) []byte {
	value := make([]byte, headerSize, headerSize+sealOverhead+len(entry))
	value[0] = version
	binary.BigEndian.PutUint32(value[1:], r.firstID)
	return r.aeads[r.firstID].Seal(value, nil, entry, additionalData(value, name))
}

// open decrypts the entry in a value. The entry is not nil, even if it is empty, if and
// only if the result is opened.
func (r keyring) open(name string, value []byte) ([]byte, openResult) {
	switch {
	case len(value) < headerSize+sealOverhead:
		return nil, truncated
	case value[0] != version:
		return nil, otherVersion
	}
	header, sealed := value[:headerSize], value[headerSize:]
	aead, ok := r.aeads[binary.BigEndian.Uint32(header[1:])]
	if !ok {
		return nil, unknownKey
	}
	entry, err := aead.Open([]byte{}, nil, sealed, additionalData(header, name))
	if err != nil {
		return nil, forged
	}
	return entry, opened
}

// additionalData returns the data that is authenticated together with an entry. The
// header has a fixed length, so the concatenation is unambiguous.
func additionalData(header []byte, name string) []byte {
	data := make([]byte, 0, headerSize+len(name))
	return append(append(data, header...), name...)
}
