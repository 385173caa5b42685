// SPDX-License-Identifier: MIT

package handshake

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// bodyCase is a body of a handshake message.
type bodyCase struct {
	name string
	body string
	ok   bool
}

// check parses each body, and each truncation of the valid ones, which are not valid:
// the lengths of all messages are known from their beginning.
func check(t *testing.T, cases []bodyCase, parse func(body []byte) bool) {
	t.Helper()
	for _, c := range cases {
		assert.Equal(t, c.ok, parse([]byte(c.body)), c.name)
		for n := 0; c.ok && n < len(c.body); n++ {
			assert.False(t, parse([]byte(c.body[:n])), "%s: %d bytes of %d", c.name, n, len(c.body))
		}
		if c.ok {
			assert.False(t, parse([]byte(c.body+"\x00")), "%s: a byte after it", c.name)
		}
	}
}

var helloVerifyRequests = []bodyCase{
	{"a cookie", "\xfe\xff\x03abc", true},
	{"no cookie", "\xfe\xfd\x00", true},
	{"a cookie longer than the body", "\xfe\xfd\x03ab", false},
}

func TestParseHelloVerifyRequest(t *testing.T) {
	check(t, helloVerifyRequests, func(body []byte) bool {
		_, ok := parseHelloVerifyRequest(body)
		return ok
	})
	cookie, ok := parseHelloVerifyRequest([]byte("\xfe\xff\x03abc"))
	assert.True(t, ok)
	assert.Equal(t, "abc", string(cookie))
}

var certificates = []bodyCase{
	{"no certificate", "\x00\x00\x00", true},
	{"one", "\x00\x00\x04\x00\x00\x01a", true},
	{"two", "\x00\x00\x09\x00\x00\x01a\x00\x00\x02bc", true},
	{"an empty certificate", "\x00\x00\x03\x00\x00\x00", false},
	{"an empty certificate after another", "\x00\x00\x07\x00\x00\x01a\x00\x00\x00", false},
	{"a list shorter than its certificates", "\x00\x00\x04\x00\x00\x02ab", false},
	{"a list longer than the body", "\x00\x01\x04\x00\x00\x01a", false},
	{"a certificate longer than the list", "\x00\x00\x04\x00\x00\x02a", false},
	{"part of a length", "\x00\x00\x06\x00\x00\x01a\x00\x00", false},
}

func TestParseCertificate(t *testing.T) {
	check(t, certificates, func(body []byte) bool {
		_, ok := parseCertificate(body, Limits{CertificateChain: 100, Certificates: 2})
		return ok
	})
}

func TestParseCertificateBoundsBytesAndCount(t *testing.T) {
	two := []byte("\x00\x00\x09\x00\x00\x01a\x00\x00\x02bc")
	for _, c := range []struct {
		limits Limits
		ok     bool
	}{
		{Limits{CertificateChain: 9, Certificates: 2}, true},
		{Limits{CertificateChain: 8, Certificates: 2}, false},
		{Limits{CertificateChain: 9, Certificates: 1}, false},
		{Limits{}, false},
	} {
		n, ok := parseCertificate(two, c.limits)
		assert.Equal(t, c.ok, ok, c.limits)
		if ok {
			assert.Equal(t, 2, n)
		}
	}
	n, ok := parseCertificate([]byte{0, 0, 0}, Limits{})
	assert.True(t, ok, "no certificate exceeds no limit")
	assert.Zero(t, n)
}

// x25519Point and p256Point are public keys with their lengths.
var (
	x25519Point = "\x20" + strings.Repeat("k", 32)
	p256Point   = "\x41\x04" + strings.Repeat("k", 64)
)

func TestParseClientKeyExchange(t *testing.T) {
	for _, c := range []struct {
		name     string
		kx       keyExchange
		identity string
		bodies   []bodyCase
	}{
		{"PSK", keyExchange{psk: true}, "id", []bodyCase{
			{"an identity", "\x00\x02id", true},
			{"longer than the body", "\x00\x03id", false},
			{"shorter than the body", "\x00\x01id", false},
			{"longer than the limit", "\x00\x05ident", false},
			{"a public key too", "\x00\x02id" + x25519Point, false},
		}},
		{"PSK, empty identity", keyExchange{psk: true}, "", []bodyCase{
			{"an empty identity", "\x00\x00", true},
		}},
		{"ECDHE on x25519", keyExchange{ecdhe: true, point: 32}, "", []bodyCase{
			{"a public key", x25519Point, true},
			{"of the low order", "\x20" + strings.Repeat("\x00", 32), true}, // crypto/ecdh refuses it
			{"one byte less", "\x1f" + strings.Repeat("k", 31), false},
			{"one byte more", "\x21" + strings.Repeat("k", 33), false},
			{"empty", "\x00", false},
			{"of another curve", p256Point, false},
			{"an identity too", "\x00\x02id" + x25519Point, false},
		}},
		{"ECDHE on secp256r1", keyExchange{ecdhe: true, point: 65}, "", []bodyCase{
			{"a public key", p256Point, true},
			{"a compressed form", "\x21\x02" + strings.Repeat("k", 32), false},
			{"the hybrid form", "\x41\x06" + strings.Repeat("k", 64), false},
			{"the point at infinity", "\x01\x00", false},
		}},
		{"ECDHE on secp384r1", keyExchange{ecdhe: true, point: 97}, "", []bodyCase{
			{"a public key", "\x61\x04" + strings.Repeat("k", 96), true},
			{"the hybrid form", "\x61\x06" + strings.Repeat("k", 96), false},
		}},
		{"ECDHE_PSK", keyExchange{psk: true, ecdhe: true, point: 32}, "id", []bodyCase{
			{"an identity and a public key", "\x00\x02id" + x25519Point, true},
			{"an identity", "\x00\x02id", false},
			{"two zeros", "\x00\x00", false},
			{"a public key", x25519Point, false},
			{"longer than the limit", "\x00\x05ident" + x25519Point, false},
		}},
		{"ECDHE on an unknown curve", keyExchange{ecdhe: true}, "", []bodyCase{
			{"an empty public key", "\x00", false},
		}},
		{"none", keyExchange{}, "", []bodyCase{
			{"empty", "", false},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			check(t, c.bodies, func(body []byte) bool {
				identity, ok := parseClientKeyExchange(body, c.kx, Limits{PSKIdentity: 4})
				if ok {
					assert.Equal(t, c.identity, string(identity))
				}
				return ok
			})
		})
	}
}

func TestParseServerKeyExchange(t *testing.T) {
	const signature = "\x04\x03\x00\x03sig"
	for _, c := range []struct {
		name       string
		psk, ecdhe bool
		point      int
		bodies     []bodyCase
	}{
		{"PSK", true, false, 0, []bodyCase{
			{"a hint", "\x00\x04hint", true},
			{"a public key too", "\x00\x00\x03\x00\x1d" + x25519Point, false},
		}},
		{"ECDHE_PSK", true, true, 32, []bodyCase{
			{"a hint", "\x00\x04hint\x03\x00\x1d" + x25519Point, true},
			{"an empty hint", "\x00\x00\x03\x00\x1d" + x25519Point, true},
			{"no hint", "\x03\x00\x1d" + x25519Point, false},
			{"a signature", "\x00\x00\x03\x00\x1d" + x25519Point + signature, false},
		}},
		{"ECDHE on x25519", false, true, 32, []bodyCase{
			{"signed", "\x03\x00\x1d" + x25519Point + signature, true},
			{"not signed", "\x03\x00\x1d" + x25519Point, false},
			{"an empty signature", "\x03\x00\x1d" + x25519Point + "\x04\x03\x00\x00", false},
			{"explicit_prime", "\x01\x00\x1d" + x25519Point + signature, false},
			{"a key of another curve", "\x03\x00\x1d" + p256Point + signature, false},
			{"an unknown curve", "\x03\x00\x01" + x25519Point + signature, false},
			{"an unknown curve and an empty key", "\x03\x00\x01\x00" + signature, false},
		}},
		{"ECDHE on secp256r1", false, true, 65, []bodyCase{
			{"signed", "\x03\x00\x17" + p256Point + signature, true},
		}},
		{"ECDHE on secp384r1", false, true, 97, []bodyCase{
			{"signed", "\x03\x00\x18\x61\x04" + strings.Repeat("k", 96) + signature, true},
		}},
		{"ECDHE on secp521r1", false, true, 133, []bodyCase{
			{"signed", "\x03\x00\x19\x85\x04" + strings.Repeat("k", 132) + signature, true},
		}},
		{"ECDHE on x448", false, true, 56, []bodyCase{
			{"signed", "\x03\x00\x1e\x38" + strings.Repeat("k", 56) + signature, true},
		}},
		{"none", false, false, 0, []bodyCase{
			{"empty", "", false},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			check(t, c.bodies, func(body []byte) bool {
				point, ok := parseServerKeyExchange(body, c.psk, c.ecdhe)
				if ok {
					assert.Equal(t, c.point, point)
				}
				return ok
			})
		})
	}
}

var certificateRequests = []bodyCase{
	{"any authority", "\x02\x01\x40\x00\x04\x04\x03\x08\x07\x00\x00", true},
	{"two authorities", "\x01\x40\x00\x04\x04\x03\x08\x07\x00\x07\x00\x02ab\x00\x01c", true},
	{"no type", "\x00\x00\x04\x04\x03\x08\x07\x00\x00", false},
	{"no scheme", "\x01\x40\x00\x00\x00\x00", false},
	{"half a scheme", "\x01\x40\x00\x03\x04\x03\x08\x00\x00", false},
	{"an empty authority", "\x01\x40\x00\x02\x04\x03\x00\x02\x00\x00", false},
	{"an authority longer than the list", "\x01\x40\x00\x02\x04\x03\x00\x03\x00\x02a", false},
}

func TestParseCertificateRequest(t *testing.T) {
	check(t, certificateRequests, func(body []byte) bool {
		schemes, ok := parseCertificateRequest(body)
		if ok {
			assert.Equal(t, "\x04\x03\x08\x07", string(schemes))
		}
		return ok
	})
}

func TestParseCertificateVerify(t *testing.T) {
	check(t, []bodyCase{
		{"the first scheme", "\x04\x03\x00\x03sig", true},
		{"the last scheme", "\x08\x07\x00\x03sig", true},
		{"a scheme that was not requested", "\x04\x01\x00\x03sig", false},
		{"the halves of two schemes", "\x03\x08\x00\x03sig", false},
		{"an empty signature", "\x04\x03\x00\x00", false},
	}, func(body []byte) bool { return parseCertificateVerify(body, []byte("\x04\x03\x08\x07")) })
	assert.False(t, parseCertificateVerify([]byte("\x04\x03\x00\x03sig"), nil), "not requested")
}
