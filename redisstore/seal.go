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
	version    = 1
	headerSize = 1 + 4   // version and key id
	overhead   = 12 + 16 // nonce and tag
)

// Key seals entries. All servers that share entries need the same.
//
// Formatted and as JSON it shows its ID alone. But in an unexported field of another
// struct, and for %p, package fmt does not ask: it shows everything.
type Key struct {
	// ID is written beside what the key has sealed. It must never be given to
	// another secret while entries of the old one live.
	ID uint32
	// Secret is from a good source of randomness, such as crypto/rand.
	Secret [32]byte `json:"-"`
}

// Format implements fmt.Formatter.
func (k Key) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "{ID:%d}", k.ID) }

// fault says why a value in Redis is no entry.
type fault int

const (
	sound fault = iota
	truncated
	otherVersion
	unknownKey
	forged
)

// keyring seals with its first key and opens with any.
type keyring struct {
	first uint32
	aeads map[uint32]cipher.AEAD
}

func newKeyring(keys []Key) (keyring, error) {
	if len(keys) == 0 {
		return keyring{}, errors.New("redisstore: Config.Keys is empty")
	}
	ring := keyring{first: keys[0].ID, aeads: make(map[uint32]cipher.AEAD, len(keys))}
	secrets := make(map[[32]byte]uint32, len(keys))
	for _, key := range keys {
		if key.Secret == [32]byte{} {
			return keyring{}, fmt.Errorf("redisstore: Config.Keys: the secret of key %d is all zero", key.ID)
		}
		if _, ok := ring.aeads[key.ID]; ok {
			return keyring{}, fmt.Errorf("redisstore: Config.Keys has key %d twice", key.ID)
		}
		if other, ok := secrets[key.Secret]; ok {
			return keyring{}, fmt.Errorf("redisstore: Config.Keys: keys %d and %d have one secret", other, key.ID)
		}
		block, err := aes.NewCipher(key.Secret[:])
		if err != nil {
			return keyring{}, fmt.Errorf("redisstore: %w", err)
		}
		// It takes a nonce from crypto/rand for each value, puts it before and finds
		// it there. No more than 2^32 values for a key: NIST SP 800-38D, section 8.3.
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return keyring{}, fmt.Errorf("redisstore: %w", err)
		}
		ring.aeads[key.ID], secrets[key.Secret] = aead, key.ID
	}
	return ring, nil
}

// seal makes the value that is kept under name, and opens under no other.
func (r keyring) seal(name string, entry []byte) []byte {
	value := make([]byte, headerSize, headerSize+overhead+len(entry))
	value[0] = version
	binary.BigEndian.PutUint32(value[1:], r.first)
	return r.aeads[r.first].Seal(value, nil, entry, additional(value, name))
}

// open returns the entry in a value, which is not nil if it is sound.
func (r keyring) open(name string, value []byte) ([]byte, fault) {
	switch {
	case len(value) < headerSize+overhead:
		return nil, truncated
	case value[0] != version:
		return nil, otherVersion
	}
	header, sealed := value[:headerSize], value[headerSize:]
	aead, ok := r.aeads[binary.BigEndian.Uint32(header[1:])]
	if !ok {
		return nil, unknownKey
	}
	entry, err := aead.Open([]byte{}, nil, sealed, additional(header, name))
	if err != nil {
		return nil, forged
	}
	return entry, sound
}

// additional is the data that is authenticated with an entry. The header's size is
// fixed, so that no two pairs give the same.
func additional(header []byte, name string) []byte {
	data := make([]byte, 0, headerSize+len(name))
	return append(append(data, header...), name...)
}
