// SPDX-License-Identifier: MIT

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/go-dsm/dsm/pionv2"
)

// loadKey returns the key of a file, and makes both if there is no such file. Whoever can
// read this file and the snapshot has the secrets of all sessions: a server with a vault has
// its key from there.
func loadKey(path string) (pionv2.Key, error) {
	key := pionv2.Key{ID: 1}
	secret, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		secret, err = newSecret(path)
	}
	if err != nil {
		return key, err
	}
	if len(secret) != len(key.Secret) {
		return key, fmt.Errorf("%s has %d bytes, and a key has %d: remove it, and all sessions are lost", path, len(secret), len(key.Secret))
	}
	copy(key.Secret[:], secret)
	return key, nil
}

// newSecret makes a secret and its file.
func newSecret(path string) ([]byte, error) {
	secret := make([]byte, len(pionv2.Key{}.Secret))
	_, _ = rand.Read(secret) // which never fails
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = file.Write(secret)
	return secret, errors.Join(err, file.Sync(), file.Close())
}
