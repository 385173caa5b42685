// SPDX-License-Identifier: MIT

package pionv4

import (
	"bytes"
	"crypto/sha256"

	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v4"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
)

// pionStore is pion's dtls.SessionStore in one handshake. It makes pion draw a session
// ID, and returns the session that was looked up for the ClientHello. It stores nothing: the
// server does that, also for clients with certificates, which pion would not.
type pionStore struct{ session dtls.Session }

// storeOf returns the store with the session that a ClientHello names by id. Pion wants to see
// that the session's pre-shared key is still the client's, which was checked before. So known
// gives it a key with the hash that the session has.
func storeOf(id []byte, s *resume.Session) (store pionStore, known dtls.PSKServerCallback) {
	key := []byte("checked by handshake.Handshaker.CheckResumable")
	store = pionStore{dtls.Session{
		ID: id, Secret: bytes.Clone(s.Secret), Version: 1, CipherSuiteID: ciphersuite.ID(s.Suite),
		ExtendedMasterSecret: s.ExtendedMasterSecret, IdentityHint: []byte{0}, PSKHash: sha256.Sum256(key),
	}}
	return store, func(identities [][]byte) (*dtls.PSK, error) {
		return &dtls.PSK{Identity: identities[0], Key: key}, nil
	}
}

func (s pionStore) Get(id []byte) (dtls.Session, error) {
	if s.session.ID == nil || !bytes.Equal(id, s.session.ID) {
		return dtls.Session{}, nil // not found
	}
	return s.session, nil
}

func (pionStore) Set([]byte, dtls.Session) error { return nil }
func (pionStore) Del([]byte) error               { return nil }
