// SPDX-License-Identifier: MIT

package record

import (
	"crypto/aes"
	"crypto/sha1" //nolint:gosec // the MAC of the CBC_SHA suites
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"slices"
)

// SuiteID is the number of a cipher suite (IANA's TLS Cipher Suites registry).
type SuiteID uint16

// Supported reports whether the package has the cipher suite.
func (id SuiteID) Supported() bool { return suiteIndex(id) >= 0 }

// PSK reports whether the peers authenticate with a pre-shared key and no certificate.
// It is false for a suite that is not supported.
func (id SuiteID) PSK() bool {
	i := suiteIndex(id)
	return i >= 0 && suites[i].psk
}

// NewHash returns a new hash of the suite: that of its PRF, and of the transcript of a
// handshake (RFC 5246 section 7.4.9).
func (id SuiteID) NewHash() hash.Hash {
	if i := suiteIndex(id); i >= 0 {
		return suites[i].prf()
	}
	return sha256.New()
}

// ECDHE reports whether the key exchange messages hold ephemeral elliptic curve keys (RFC
// 8422). It is false for a suite that is not supported.
func (id SuiteID) ECDHE() bool {
	i := suiteIndex(id)
	return i >= 0 && suites[i].ecdhe
}

// mode is the way in which a cipher suite protects records.
type mode uint8

const (
	modeGCM  mode = iota // RFC 5288
	modeCCM              // RFC 6655, with a tag of 16 bytes
	modeCCM8             // RFC 6655, with a tag of 8 bytes
	modeCBC              // RFC 5246 section 6.2.3.2
)

// suite holds the parameters of a cipher suite that the record layer needs.
type suite struct {
	id     SuiteID
	mode   mode
	keyLen int // bytes
	macLen int // bytes of a MAC key and of a MAC; 0 for the AEAD suites
	prf    func() hash.Hash
	mac    func() hash.Hash // nil for the AEAD suites
	psk    bool             // PSK authentication, without a certificate
	ecdhe  bool             // an ephemeral key in the key exchange messages
}

// suites are the cipher suites of pion/dtls v2.2.12.
var suites = []suite{
	{0xc0ac, modeCCM, 16, 0, sha256.New, nil, false, true},         // ECDHE_ECDSA_WITH_AES_128_CCM
	{0xc0ae, modeCCM8, 16, 0, sha256.New, nil, false, true},        // ECDHE_ECDSA_WITH_AES_128_CCM_8
	{0xc02b, modeGCM, 16, 0, sha256.New, nil, false, true},         // ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	{0xc02f, modeGCM, 16, 0, sha256.New, nil, false, true},         // ECDHE_RSA_WITH_AES_128_GCM_SHA256
	{0xc02c, modeGCM, 32, 0, sha512.New384, nil, false, true},      // ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	{0xc030, modeGCM, 32, 0, sha512.New384, nil, false, true},      // ECDHE_RSA_WITH_AES_256_GCM_SHA384
	{0xc00a, modeCBC, 32, 20, sha256.New, sha1.New, false, true},   // ECDHE_ECDSA_WITH_AES_256_CBC_SHA
	{0xc014, modeCBC, 32, 20, sha256.New, sha1.New, false, true},   // ECDHE_RSA_WITH_AES_256_CBC_SHA
	{0xc0a4, modeCCM, 16, 0, sha256.New, nil, true, false},         // PSK_WITH_AES_128_CCM
	{0xc0a8, modeCCM8, 16, 0, sha256.New, nil, true, false},        // PSK_WITH_AES_128_CCM_8
	{0xc0a9, modeCCM8, 32, 0, sha256.New, nil, true, false},        // PSK_WITH_AES_256_CCM_8
	{0x00a8, modeGCM, 16, 0, sha256.New, nil, true, false},         // PSK_WITH_AES_128_GCM_SHA256
	{0x00ae, modeCBC, 16, 32, sha256.New, sha256.New, true, false}, // PSK_WITH_AES_128_CBC_SHA256
	{0xc037, modeCBC, 16, 32, sha256.New, sha256.New, true, true},  // ECDHE_PSK_WITH_AES_128_CBC_SHA256
}

// suiteIndex returns the index of a cipher suite in suites, or -1.
func suiteIndex(id SuiteID) int {
	return slices.IndexFunc(suites, func(s suite) bool { return s.id == id })
}

const (
	saltSize          = 4  // bytes: the implicit part of an AEAD nonce (RFC 5288 section 3, RFC 6655 section 3)
	explicitNonceSize = 8  // bytes: the explicit part, which each record carries
	cbcIVSize         = 16 // bytes: the IV, which each record of a CBC suite carries
)

// ivLen returns the length of one IV of the key block. For the CBC suites pion derives
// an IV too, which no record uses.
func (s *suite) ivLen() int {
	if s.mode == modeCBC {
		return cbcIVSize
	}
	return saltSize
}

// overhead returns the maximum difference between the length of a fragment and the
// length of its payload.
func (s *suite) overhead() int {
	switch s.mode {
	case modeCBC:
		return cbcIVSize + s.macLen + aes.BlockSize
	case modeCCM8:
		return explicitNonceSize + 8
	default:
		return explicitNonceSize + 16
	}
}

// minFragment returns the length of the shortest fragment that can be authentic, with an
// inner plaintext of at least plaintext bytes.
func (s *suite) minFragment(plaintext int) int {
	if s.mode == modeCBC {
		return cbcIVSize + plaintext + s.macLen + 1 // the padding has at least one byte
	}
	return s.overhead() + plaintext
}
