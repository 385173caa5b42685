// SPDX-License-Identifier: MIT

package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1" //nolint:gosec // what the CBC_SHA suites authenticate with
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"

	"github.com/pion/dtls/v2/pkg/crypto/ccm"
	"github.com/pion/dtls/v2/pkg/crypto/ciphersuite"
	"github.com/pion/dtls/v2/pkg/protocol"
	"github.com/pion/dtls/v2/pkg/protocol/recordlayer"
)

// SuiteID is a cipher suite's number (IANA's TLS Cipher Suites registry).
type SuiteID uint16

// kind is how a suite protects records.
type kind uint8

const (
	gcm   kind = iota // RFC 5288
	ccm16             // RFC 6655
	ccm8
	cbc // RFC 5246 section 6.2.3.2
)

// suite is what the record layer must know of a cipher suite.
type suite struct {
	id             SuiteID
	kind           kind
	keyLen, macLen int
	prf            func() hash.Hash
	mac            func() hash.Hash // of the CBC suites
	psk            bool             // a pre-shared key authenticates, not a certificate
}

// suites are those that pion/dtls v2.2.12 offers.
var suites = []suite{
	{0xc0ac, ccm16, 16, 0, sha256.New, nil, false},      // ECDHE_ECDSA_WITH_AES_128_CCM
	{0xc0ae, ccm8, 16, 0, sha256.New, nil, false},       // ECDHE_ECDSA_WITH_AES_128_CCM_8
	{0xc02b, gcm, 16, 0, sha256.New, nil, false},        // ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	{0xc02f, gcm, 16, 0, sha256.New, nil, false},        // ECDHE_RSA_WITH_AES_128_GCM_SHA256
	{0xc02c, gcm, 32, 0, sha512.New384, nil, false},     // ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	{0xc030, gcm, 32, 0, sha512.New384, nil, false},     // ECDHE_RSA_WITH_AES_256_GCM_SHA384
	{0xc00a, cbc, 32, 20, sha256.New, sha1.New, false},  // ECDHE_ECDSA_WITH_AES_256_CBC_SHA
	{0xc014, cbc, 32, 20, sha256.New, sha1.New, false},  // ECDHE_RSA_WITH_AES_256_CBC_SHA
	{0xc0a4, ccm16, 16, 0, sha256.New, nil, true},       // PSK_WITH_AES_128_CCM
	{0xc0a8, ccm8, 16, 0, sha256.New, nil, true},        // PSK_WITH_AES_128_CCM_8
	{0xc0a9, ccm8, 32, 0, sha256.New, nil, true},        // PSK_WITH_AES_256_CCM_8
	{0x00a8, gcm, 16, 0, sha256.New, nil, true},         // PSK_WITH_AES_128_GCM_SHA256
	{0x00ae, cbc, 16, 32, sha256.New, sha256.New, true}, // PSK_WITH_AES_128_CBC_SHA256
	{0xc037, cbc, 16, 32, sha256.New, sha256.New, true}, // ECDHE_PSK_WITH_AES_128_CBC_SHA256
}

// suiteIndex is -1 for suites that are not among them.
func suiteIndex(id SuiteID) int {
	return slices.IndexFunc(suites, func(s suite) bool { return s.id == id })
}

// Known is whether it is one of pion's suites.
func (id SuiteID) Supported() bool { return suiteIndex(id) >= 0 }

// PSK is whether a pre-shared key authenticates the peers, and no certificate. It is
// false for suites that are not Known.
func (id SuiteID) PSK() bool {
	i := suiteIndex(id)
	return i >= 0 && suites[i].psk
}

const (
	explicitNonce = 8  // bytes, of the AEAD suites (RFC 5288 section 3, RFC 6655 section 3)
	aeadSalt      = 4  // bytes, the implicit part of their nonces
	cbcIV         = 16 // bytes
)

// ivLen is how much of the key block is for an IV. The CBC suites carry one in each
// record, but pion derives, and never uses, another.
func (s *suite) ivLen() int {
	if s.kind == cbc {
		return cbcIV
	}
	return aeadSalt
}

// overhead is how much longer than its payload a record's fragment can be.
func (s *suite) overhead() int {
	switch s.kind {
	case cbc:
		return cbcIV + s.macLen + aes.BlockSize
	case ccm8:
		return explicitNonce + 8
	default:
		return explicitNonce + 16
	}
}

// minimum is what a record's fragment has at least.
func (s *suite) minimum() int {
	if s.kind == cbc {
		return cbcIV + s.macLen + 1
	}
	return s.overhead()
}

// halfKeys are the keys of one direction.
type halfKeys struct{ mac, key, iv []byte }

// protection seals the records of one direction, and opens those of the other. It
// knows keys, not sequence numbers. It is not safe for concurrent use.
type protection interface {
	// seal appends a whole record to dst.
	seal(dst []byte, t Type, epoch uint16, sequence uint64, payload []byte) ([]byte, error)
	// open appends the payload of a record to dst, which must not overlap it.
	open(dst []byte, r Record) ([]byte, error)
	// openOwn opens what seal has sealed.
	openOwn(r Record) ([]byte, error)
}

// protect builds what local keys seal and remote ones open.
func (s *suite) protect(local, remote halfKeys) (protection, error) {
	if s.kind == cbc {
		c, err := ciphersuite.NewCBC(local.key, local.iv, local.mac, remote.key, remote.iv, remote.mac, s.mac)
		if err != nil {
			return nil, err
		}
		own := func() (*ciphersuite.CBC, error) {
			return ciphersuite.NewCBC(remote.key, remote.iv, remote.mac, local.key, local.iv, local.mac, s.mac)
		}
		return &cbcProtection{cbc: c, own: own, minimum: s.minimum()}, nil
	}
	p := &aeadProtection{}
	var err error
	if p.local, err = s.aead(local.key); err != nil {
		return nil, err
	}
	if p.remote, err = s.aead(remote.key); err != nil {
		return nil, err
	}
	copy(p.localNonce[:], local.iv)
	copy(p.remoteNonce[:], remote.iv)
	return p, nil
}

func (s *suite) aead(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	switch s.kind {
	case gcm:
		return cipher.NewGCM(block)
	case ccm16:
		return ccm.NewCCM(block, 16, aeadSalt+explicitNonce)
	case ccm8:
		return ccm.NewCCM(block, 8, aeadSalt+explicitNonce)
	default:
		return nil, fmt.Errorf("dsm: suite %#04x is no AEAD", uint16(s.id))
	}
}

// aeadProtection does the AEAD suites. The explicit part of a nonce is the epoch and
// the sequence number (RFC 9325 section 7.2.1), so it never comes twice.
type aeadProtection struct {
	local, remote cipher.AEAD
	// Scratch, that nothing is allocated for a record. A nonce begins with the salt.
	localNonce, remoteNonce [aeadSalt + explicitNonce]byte
	additional              [13]byte
}

// additionalData is RFC 5246 section 6.2.3.3's, the sequence number being epoch and
// sequence number.
func (p *aeadProtection) additionalData(header []byte, length int) []byte {
	copy(p.additional[:8], header[3:11])
	copy(p.additional[8:11], header[:3])
	binary.BigEndian.PutUint16(p.additional[11:], uint16(length))
	return p.additional[:]
}

func (p *aeadProtection) seal(dst []byte, t Type, epoch uint16, sequence uint64, payload []byte) ([]byte, error) {
	begin := len(dst)
	dst = append(dst, make([]byte, HeaderSize+explicitNonce)...)
	header := dst[begin:]
	PutHeader(header, t, epoch, sequence, explicitNonce+len(payload)+p.local.Overhead())
	copy(header[HeaderSize:], header[3:11])
	copy(p.localNonce[aeadSalt:], header[3:11])
	return p.local.Seal(dst, p.localNonce[:], payload, p.additionalData(header, len(payload))), nil
}

func (p *aeadProtection) open(dst []byte, r Record) ([]byte, error) {
	return p.openWith(p.remote, p.remoteNonce[:], dst, r)
}

func (p *aeadProtection) openOwn(r Record) ([]byte, error) {
	return p.openWith(p.local, p.localNonce[:], nil, r)
}

// openWith opens with a direction's cipher, and its nonce but for the explicit part.
func (p *aeadProtection) openWith(aead cipher.AEAD, nonce, dst []byte, r Record) ([]byte, error) {
	sealed := r.Fragment()
	length := len(sealed) - explicitNonce - aead.Overhead()
	if length < 0 {
		return dst, ErrNotAuthentic
	}
	copy(nonce[aeadSalt:], sealed)
	opened, err := aead.Open(dst, nonce, sealed[explicitNonce:], p.additionalData(r.Raw, length))
	if err != nil {
		return dst, ErrNotAuthentic
	}
	return opened, nil
}

// cbcProtection does the CBC suites by pion's code, which allocates.
type cbcProtection struct {
	cbc     *ciphersuite.CBC
	own     func() (*ciphersuite.CBC, error) // with the directions exchanged
	minimum int                              // bytes of a fragment: an IV, a MAC and a byte of padding
}

func (p *cbcProtection) seal(dst []byte, t Type, epoch uint16, sequence uint64, payload []byte) ([]byte, error) {
	raw := make([]byte, HeaderSize+len(payload), HeaderSize+len(payload)+2*aes.BlockSize+sha256.Size)
	PutHeader(raw, t, epoch, sequence, len(payload))
	copy(raw[HeaderSize:], payload)
	sealed, err := p.cbc.Encrypt(&recordlayer.RecordLayer{Header: recordlayer.Header{
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

func (p *cbcProtection) open(dst []byte, r Record) ([]byte, error) {
	return p.openWith(p.cbc, dst, r)
}

func (p *cbcProtection) openOwn(r Record) ([]byte, error) {
	own, err := p.own()
	if err != nil {
		return nil, err
	}
	return p.openWith(own, nil, r)
}

func (p *cbcProtection) openWith(cbc *ciphersuite.CBC, dst []byte, r Record) (opened []byte, err error) {
	if n := len(r.Fragment()); n < p.minimum || n%aes.BlockSize != 0 {
		return dst, ErrNotAuthentic
	}
	// A peer that has the keys can send padding that is sound and longer than what
	// is left beside the MAC. pion slices with a negative bound there.
	defer func() {
		if recover() != nil {
			opened, err = dst, ErrNotAuthentic
		}
	}()
	plain, err := cbc.Decrypt(append([]byte(nil), r.Raw...)) // it works in place
	if err != nil {
		return dst, ErrNotAuthentic
	}
	return append(dst, plain[HeaderSize:]...), nil
}
