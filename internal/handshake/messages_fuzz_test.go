// SPDX-License-Identifier: MIT

package handshake

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/pion/dtls/v2/pkg/crypto/elliptic"
	"github.com/pion/dtls/v2/pkg/crypto/hash"
	"github.com/pion/dtls/v2/pkg/crypto/signature"
	"github.com/pion/dtls/v2/pkg/protocol/handshake"
	"github.com/stretchr/testify/require"
)

// The fuzz targets check that pion parses each body that this package accepts, without a
// panic, without an error unless pion does not support what it says, and to the same
// values.

func addBodies(f *testing.F, cases []bodyCase) {
	for _, c := range cases {
		f.Add([]byte(c.body))
	}
}

// requireSameBody requires that pion writes a message as it was read, so that pion has
// read each of its bytes.
func requireSameBody(t *testing.T, body []byte, message handshake.Message) {
	t.Helper()
	marshaled, err := message.Marshal()
	require.NoError(t, err)
	require.Equal(t, body, marshaled)
}

func FuzzParseHelloVerifyRequest(f *testing.F) {
	addBodies(f, helloVerifyRequests)
	f.Fuzz(func(t *testing.T, body []byte) {
		cookie, ok := parseHelloVerifyRequest(body)
		if !ok {
			return
		}
		var message handshake.MessageHelloVerifyRequest
		require.NoError(t, message.Unmarshal(body))
		require.Equal(t, message.Cookie, append([]byte{}, cookie...))
		requireSameBody(t, body, &message)
	})
}

func FuzzParseCertificate(f *testing.F) {
	addBodies(f, certificates)
	f.Fuzz(func(t *testing.T, body []byte) {
		limits := Limits{CertificateChain: 1000, Certificates: 10}
		n, ok := parseCertificate(body, limits)
		if !ok {
			return
		}
		var message handshake.MessageCertificate
		require.NoError(t, message.Unmarshal(body))
		require.Len(t, message.Certificate, n)
		require.LessOrEqual(t, n, limits.Certificates)
		size := 0
		for _, der := range message.Certificate {
			require.NotEmpty(t, der)
			size += 3 + len(der)
		}
		require.LessOrEqual(t, size, limits.CertificateChain)
		requireSameBody(t, body, &message)
	})
}

// The bits of pion's KeyExchangeAlgorithm, whose type is internal.
const (
	pionPSK   = 2
	pionECDHE = 4
)

func FuzzParseClientKeyExchange(f *testing.F) {
	for _, body := range []string{"\x00\x02id", "\x00\x00", x25519Point, p256Point, "\x00\x02id" + x25519Point} {
		for _, curve := range []elliptic.Curve{elliptic.X25519, elliptic.P256, elliptic.P384} {
			f.Add([]byte(body), true, false, uint16(curve))
			f.Add([]byte(body), false, true, uint16(curve))
			f.Add([]byte(body), true, true, uint16(curve))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, psk, ecdhe bool, curve uint16) {
		limits := Limits{PSKIdentity: 1000}
		kx := keyExchange{psk: psk, ecdhe: ecdhe, point: pointSize(curve)}
		identity, ok := parseClientKeyExchange(body, kx, limits)
		if !ok {
			return
		}
		var message handshake.MessageClientKeyExchange
		if psk {
			message.KeyExchangeAlgorithm |= pionPSK
		}
		if ecdhe {
			message.KeyExchangeAlgorithm |= pionECDHE
		}
		require.NoError(t, message.Unmarshal(body))
		require.Equal(t, string(message.IdentityHint), string(identity))
		require.LessOrEqual(t, len(identity), limits.PSKIdentity)
		if ecdhe {
			// pion keeps all bytes that follow the length.
			require.Len(t, message.PublicKey, kx.point)
		}
		requireSameBody(t, body, &message)
	})
}

func FuzzParseServerKeyExchange(f *testing.F) {
	const signed = "\x04\x03\x00\x03sig"
	for _, body := range []string{
		"\x00\x04hint", "\x00\x00\x03\x00\x1d" + x25519Point, "\x03\x00\x1d" + x25519Point + signed,
		"\x03\x00\x17" + p256Point + signed, "\x03\x00\x18\x61\x04" + strings.Repeat("k", 96) + signed,
	} {
		f.Add([]byte(body), true, false)
		f.Add([]byte(body), false, true)
		f.Add([]byte(body), true, true)
	}
	f.Fuzz(func(t *testing.T, body []byte, psk, ecdhe bool) {
		point, ok := parseServerKeyExchange(body, psk, ecdhe)
		if !ok {
			return
		}
		var message handshake.MessageServerKeyExchange
		if psk {
			message.KeyExchangeAlgorithm |= pionPSK
		}
		if ecdhe {
			message.KeyExchangeAlgorithm |= pionECDHE
		}
		if message.Unmarshal(body) != nil {
			return // a curve or a scheme that pion does not have
		}
		require.Len(t, message.PublicKey, point)
		require.Equal(t, pointSize(uint16(message.NamedCurve)), point)
		if message.HashAlgorithm != hash.None && message.SignatureAlgorithm != signature.Anonymous {
			requireSameBody(t, body, &message)
		}
	})
}

func FuzzParseCertificateRequest(f *testing.F) {
	addBodies(f, certificateRequests)
	f.Fuzz(func(t *testing.T, body []byte) {
		schemes, ok := parseCertificateRequest(body)
		if !ok {
			return
		}
		var message handshake.MessageCertificateRequest
		require.NoError(t, message.Unmarshal(body))
		var known []byte
		for ; len(schemes) > 0; schemes = schemes[2:] {
			if isKnown(schemes) {
				known = append(known, schemes[:2]...)
			}
		}
		var parsed []byte
		for _, a := range message.SignatureHashAlgorithms {
			parsed = append(parsed, byte(a.Hash), byte(a.Signature))
		}
		require.Equal(t, known, parsed)
		for _, name := range message.CertificateAuthoritiesNames {
			require.NotEmpty(t, name)
		}
	})
}

func FuzzParseCertificateVerify(f *testing.F) {
	var schemes []byte // those that pion has
	for h := range hash.Algorithms() {
		for s := range signature.Algorithms() {
			schemes = append(schemes, byte(h), byte(s))
		}
	}
	f.Add([]byte("\x04\x03\x00\x03sig"))
	f.Add([]byte("\x08\x07\x00\x01s"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if !parseCertificateVerify(body, schemes) {
			return
		}
		var message handshake.MessageCertificateVerify
		require.NoError(t, message.Unmarshal(body))
		require.NotEmpty(t, message.Signature)
		require.Equal(t, binary.BigEndian.Uint16(body), uint16(message.HashAlgorithm)<<8|uint16(message.SignatureAlgorithm))
		requireSameBody(t, body, &message)
	})
}

// isKnown reports whether pion has the scheme.
func isKnown(scheme []byte) bool {
	_, hashOK := hash.Algorithms()[hash.Algorithm(scheme[0])]
	_, signatureOK := signature.Algorithms()[signature.Algorithm(scheme[1])]
	return hashOK && signatureOK
}
