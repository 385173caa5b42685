// SPDX-License-Identifier: MIT

package redisstore

import (
	"errors"
	"fmt"

	"github.com/go-dsm/dsm/keyring"
)

const (
	version    = 1
	headerSize = 1 // the version; what follows is sealed by package keyring
)

// Key encrypts and authenticates entries. All servers that share entries need the same
// keys.
type Key = keyring.Key

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

func newKeyring(keys []Key) (*keyring.Ring, error) {
	if len(keys) == 0 {
		return nil, errors.New("redisstore: Config.Keys is empty")
	}
	ring, err := keyring.New(keys...)
	if err != nil {
		return nil, fmt.Errorf("redisstore: Config.Keys: %w", err)
	}
	return ring, nil
}

// seal encrypts an entry. The result can be opened under the same name only.
func seal(ring *keyring.Ring, name string, entry []byte) []byte {
	value := make([]byte, headerSize, headerSize+keyring.Overhead+len(entry))
	value[0] = version
	return ring.Seal(value, entry, []byte(name))
}

// open decrypts the entry in a value. The entry is not nil, even if it is empty, if and
// only if the result is opened.
func open(ring *keyring.Ring, name string, value []byte) ([]byte, openResult) {
	switch {
	case len(value) < headerSize+keyring.Overhead:
		return nil, truncated
	case value[0] != version:
		return nil, otherVersion
	}
	entry, err := ring.Open([]byte{}, value[:headerSize], value[headerSize:], []byte(name))
	var unknown *keyring.UnknownKeyError
	switch {
	case err == nil:
		return entry, opened
	case errors.As(err, &unknown):
		return nil, unknownKey
	}
	return nil, forged
}
