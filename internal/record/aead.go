// SPDX-License-Identifier: MIT

package record

import (
	"crypto/cipher"
	"fmt"

	"github.com/pion/dtls/v2/pkg/crypto/ccm"
)

func (s *suite) newAEAD(block cipher.Block) (cipher.AEAD, error) {
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

// aeadProtection implements the AEAD suites. The explicit part of a nonce is the epoch and
// the sequence number of the record, so no nonce is used twice (RFC 9325 section 7.2.1).
type aeadProtection struct {
	aead cipher.AEAD
	// The following buffers are reused, so that a record allocates nothing. The nonce
	// begins with the salt, which does not change.
	nonce      [saltSize + explicitNonceSize]byte
	additional []byte
	room       [10 + HeaderSize]byte // of additional, unless there is a connection ID
}

func (p *aeadProtection) overhead() (prefix, suffix int) {
	return explicitNonceSize, p.aead.Overhead()
}

func (p *aeadProtection) seal(b []byte, begin, header int) []byte {
	record := b[begin:]
	explicit, plaintext := record[header:][:explicitNonceSize], record[header+explicitNonceSize:]
	copy(explicit, record[3:11])
	copy(p.nonce[saltSize:], explicit)
	p.additional = appendAdditional(p.additional[:0], record[:header], len(plaintext))
	return p.aead.Seal(b[:len(b)-len(plaintext)], p.nonce[:], plaintext, p.additional)
}

func (p *aeadProtection) open(dst []byte, r Record) (opened []byte, ok bool) {
	sealed := r.Fragment()
	copy(p.nonce[saltSize:], sealed)
	sealed = sealed[explicitNonceSize:]
	p.additional = appendAdditional(p.additional[:0], r.Raw[:r.headerSize()], len(sealed)-p.aead.Overhead())
	opened, err := p.aead.Open(dst, p.nonce[:], sealed, p.additional)
	return opened, err == nil
}
