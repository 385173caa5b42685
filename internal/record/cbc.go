// SPDX-License-Identifier: MIT

package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"hash"
)

// maxPadding is the maximum length of a record's padding, with the byte that gives the
// length (RFC 5246 section 6.2.3.2).
const maxPadding = 256

// cbcProtection implements the CBC suites (RFC 5246 section 6.2.3.2): the MAC, then the
// padding, then the encryption.
type cbcProtection struct {
	block cipher.Block
	mac   hash.Hash
	// The following buffers are reused.
	additional []byte
	sum        [sha256.Size]byte // has room for the longest MAC
}

func (p *cbcProtection) overhead() (prefix, suffix int) {
	return cbcIVSize, p.mac.Size() + aes.BlockSize
}

func (p *cbcProtection) seal(b []byte, begin, header int) []byte {
	plaintext := begin + header + cbcIVSize
	iv := b[plaintext-cbcIVSize : plaintext]
	_, _ = rand.Read(iv) // never fails
	b = append(b, p.sign(b[begin:][:header], b[plaintext:])...)
	padding := aes.BlockSize - (len(b)-plaintext)%aes.BlockSize
	for range padding {
		b = append(b, byte(padding-1))
	}
	cipher.NewCBCEncrypter(p.block, b[plaintext-cbcIVSize:plaintext]).CryptBlocks(b[plaintext:], b[plaintext:])
	return b
}

// open checks the padding and the MAC both, also if one of them is wrong. A longer padding
// leaves less data for the MAC; the hash then processes as many blocks more after it. So the
// time depends on the length of the record only, and does not tell a sender of forged
// records whether the padding is valid (RFC 5246 section 6.2.3.2).
func (p *cbcProtection) open(dst []byte, r Record) (opened []byte, ok bool) {
	fragment := r.Fragment()
	if len(fragment)%aes.BlockSize != 0 {
		return dst, false
	}
	opened = append(dst, fragment[cbcIVSize:]...)
	body := opened[len(dst):]
	cipher.NewCBCDecrypter(p.block, fragment[:cbcIVSize]).CryptBlocks(body, body)

	size := p.mac.Size()
	padding, good := paddingLength(body, len(body)-size)
	longest, end := len(body)-size-1, len(body)-size-padding
	sum := p.sign(r.Raw[:r.headerSize()], body[:end])
	_, _ = p.mac.Write(zeros[:hashBlockSize*(p.hashBlocks(longest)-p.hashBlocks(end))])
	if good&subtle.ConstantTimeCompare(sum, body[end:end+size]) != 1 {
		clear(body) // dst may have room for bytes that are not authentic
		return dst, false
	}
	return opened[:len(dst)+end], true
}

// sign returns the MAC of a record. The result is valid until the next call.
func (p *cbcProtection) sign(header, plaintext []byte) []byte {
	p.additional = appendAdditional(p.additional[:0], header, len(plaintext))
	p.mac.Reset()
	_, _ = p.mac.Write(p.additional)
	_, _ = p.mac.Write(plaintext)
	return p.mac.Sum(p.sum[:0])
}

// hashBlockSize is the size of a block of SHA-1 and of SHA-256, in bytes.
const hashBlockSize = 64

// zeros is data for the hash blocks that a longer padding leaves out.
var zeros [hashBlockSize * (maxPadding/hashBlockSize + 1)]byte

// hashBlocks returns how many blocks the hash of the MAC processes for a plaintext of the
// length: of the additional data that sign has used, the plaintext, a byte 0x80 and 8 bytes
// of length (FIPS 180-4 section 5.1.1).
func (p *cbcProtection) hashBlocks(length int) int {
	return (len(p.additional) + length + 1 + 8 + hashBlockSize - 1) / hashBlockSize
}

// paddingLength returns the length of the padding at the end of b, with the byte that gives
// the length. good is 1 if the padding has at most limit bytes and all are equal. Otherwise
// it is 0, and the length is 1. The time depends only on the length of b.
func paddingLength(b []byte, limit int) (length, good int) {
	last := b[len(b)-1]
	length = int(last) + 1
	good = subtle.ConstantTimeLessOrEq(length, limit)
	for i := range min(len(b), maxPadding) {
		isPadding := subtle.ConstantTimeLessOrEq(i+1, length)
		good &= subtle.ConstantTimeSelect(isPadding, subtle.ConstantTimeByteEq(b[len(b)-1-i], last), 1)
	}
	return subtle.ConstantTimeSelect(good, length, 1), good
}
