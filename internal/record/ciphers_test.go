// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"testing"

	"github.com/pion/dtls/v2/pkg/crypto/ccm"
	"github.com/pion/dtls/v2/pkg/crypto/ciphersuite"
	"github.com/pion/dtls/v2/pkg/crypto/prf"
	"github.com/pion/dtls/v2/pkg/protocol"
	"github.com/pion/dtls/v2/pkg/protocol/recordlayer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAEADsMatchPublishedVectors uses cases 4 and 16 of NIST's GCM specification,
// example 3 of SP 800-38C, and packet vector 1 of RFC 3610, whose nonce is a byte longer
// than that of DTLS.
func TestAEADsMatchPublishedVectors(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		require.NoError(t, err)
		return b
	}
	const gcmPlaintext = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
	for _, v := range []struct {
		suite                                     SuiteID
		key, nonce, additional, plaintext, sealed string
	}{
		{0x00a8, "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2", gcmPlaintext,
			"42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091" + "5bc94fbc3221a5db94fae95ae7121a47"},
		{0xc02c, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2", gcmPlaintext,
			"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" + "76fc6ece0f4e1768cddf8853bb2d551b"},
		{0xc0a8, "404142434445464748494a4b4c4d4e4f", "101112131415161718191a1b", "000102030405060708090a0b0c0d0e0f10111213",
			"202122232425262728292a2b2c2d2e2f3031323334353637", "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951"},
	} {
		block, err := aes.NewCipher(unhex(v.key))
		require.NoError(t, err)
		aead, err := suiteOf(v.suite).newAEAD(block)
		require.NoError(t, err)
		assert.Equal(t, v.sealed, hex.EncodeToString(aead.Seal(nil, unhex(v.nonce), unhex(v.plaintext), unhex(v.additional))))
	}
	block, err := aes.NewCipher(unhex("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf"))
	require.NoError(t, err)
	aead, err := ccm.NewCCM(block, 8, 13)
	require.NoError(t, err)
	assert.Equal(t, "588c979a61c663d2f066d0c2c0f989806d5f6b61dac38417e8d12cfdf926e0",
		hex.EncodeToString(aead.Seal(nil, unhex("00000003020100a0a1a2a3a4a5"), unhex("08090a0b0c0d0e0f101112131415161718191a1b1c1d1e"), unhex("0001020304050607"))))
}

func TestCBCSuiteHasNoAEAD(t *testing.T) {
	_, err := suiteOf(0xc00a).newAEAD(nil)
	assert.Error(t, err)
}

// TestExplicitNonceIsEpochAndSequence shows that no nonce is used twice.
func TestExplicitNonceIsEpochAndSequence(t *testing.T) {
	forEachSuite(t, func(t *testing.T, id SuiteID) {
		client, _ := newSessions(t, id)
		if suiteOf(id).mode == modeCBC {
			t.Skip("a CBC suite has a random IV, no nonce")
		}
		used := map[string]bool{}
		for range 1000 {
			r := seal(t, client, "x")
			nonce := r.Fragment()[:explicitNonceSize]
			require.Equal(t, r.Raw[3:11], nonce)
			require.False(t, used[string(nonce)])
			used[string(nonce)] = true
		}
	})
}

// pionCipher seals and opens with pion's implementation of a cipher suite.
type pionCipher interface {
	Encrypt(pkt *recordlayer.RecordLayer, raw []byte) ([]byte, error)
	Decrypt(in []byte) ([]byte, error)
}

func newPionCipher(t testing.TB, s *suite, isClient bool) pionCipher {
	t.Helper()
	k, err := prf.GenerateEncryptionKeys(masterSecret, clientRandom[:], serverRandom[:], s.macLen, s.keyLen, s.ivLen(), s.prf)
	require.NoError(t, err)
	if !isClient {
		k.ClientMACKey, k.ServerMACKey = k.ServerMACKey, k.ClientMACKey
		k.ClientWriteKey, k.ServerWriteKey = k.ServerWriteKey, k.ClientWriteKey
		k.ClientWriteIV, k.ServerWriteIV = k.ServerWriteIV, k.ClientWriteIV
	}
	var c pionCipher
	switch s.mode {
	case modeGCM:
		c, err = ciphersuite.NewGCM(k.ClientWriteKey, k.ClientWriteIV, k.ServerWriteKey, k.ServerWriteIV)
	case modeCCM:
		c, err = ciphersuite.NewCCM(ciphersuite.CCMTagLength, k.ClientWriteKey, k.ClientWriteIV, k.ServerWriteKey, k.ServerWriteIV)
	case modeCCM8:
		c, err = ciphersuite.NewCCM(ciphersuite.CCMTagLength8, k.ClientWriteKey, k.ClientWriteIV, k.ServerWriteKey, k.ServerWriteIV)
	case modeCBC:
		c, err = ciphersuite.NewCBC(k.ClientWriteKey, k.ClientWriteIV, k.ClientMACKey, k.ServerWriteKey, k.ServerWriteIV, k.ServerMACKey, s.mac)
	}
	require.NoError(t, err)
	return c
}

// FuzzAgainstPion seals a payload with a Session and opens it with pion, and the other
// way round, with each suite and in both directions. The Session must reject pion's
// record when one byte of its fragment is changed.
func FuzzAgainstPion(f *testing.F) {
	f.Add([]byte("payload"), uint64(1), uint16(3), byte(1))
	f.Add([]byte{}, uint64(LastSequence), uint16(13), byte(0x80))
	f.Fuzz(func(t *testing.T, payload []byte, sequence uint64, offset uint16, flip byte) {
		if len(payload) > 4096 {
			return
		}
		sequence &= LastSequence
		for i := range suites {
			s := &suites[i]
			for _, isClient := range []bool{true, false} {
				c := newConfig(s.id, isClient)
				c.NextSequence = sequence
				session, err := New(c)
				require.NoError(t, err)
				pion := newPionCipher(t, s, !isClient)

				raw, err := session.Seal(nil, TypeApplicationData, payload)
				require.NoError(t, err)
				plaintext, err := pion.Decrypt(bytes.Clone(raw))
				require.NoError(t, err)
				require.Equal(t, string(payload), string(plaintext[HeaderSize:]))

				raw = newRecord(TypeApplicationData, 1, sequence, payload...)
				raw, err = pion.Encrypt(&recordlayer.RecordLayer{Header: recordlayer.Header{
					ContentType: protocol.ContentTypeApplicationData, Version: protocol.Version1_2,
					Epoch: 1, SequenceNumber: sequence, ContentLen: uint16(len(payload)),
				}}, raw)
				require.NoError(t, err)
				if flip != 0 {
					forged := bytes.Clone(raw)
					forged[HeaderSize+int(offset)%(len(raw)-HeaderSize)] ^= flip
					_, _, err = session.Open(nil, parseOne(t, forged))
					require.ErrorIs(t, err, ErrNotAuthentic)
				}
				plaintext, _, err = session.Open(nil, parseOne(t, raw))
				require.NoError(t, err)
				require.Equal(t, string(payload), string(plaintext))
			}
		}
	})
}
