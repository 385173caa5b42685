// SPDX-License-Identifier: MIT

package handshake

import (
	"encoding/binary"

	"github.com/go-dsm/dsm/internal/record"
)

// The functions of this file parse bodies of handshake messages to the last byte. They
// report false for a body whose lengths do not agree, and for one that the handshake
// cannot use. What they return refers to the body's bytes. ClientHello and ServerHello
// are parsed by package record.

// uncompressedPoint is the first byte of a point on one of the NIST curves (RFC 8422
// section 5.4.1). The other forms are deprecated.
const uncompressedPoint = 4

// parseHelloVerifyRequest parses the body of a HelloVerifyRequest (RFC 6347 section
// 4.2.1).
func parseHelloVerifyRequest(body []byte) (cookie []byte, ok bool) {
	if len(body) < 2 {
		return nil, false
	}
	body = body[2:] // the version, which tells nothing
	cookie, ok = record.ReadVector8(&body)
	return cookie, ok && len(body) == 0
}

// parseCertificate parses the body of a Certificate message (RFC 5246 section 7.4.2) and
// returns the number of certificates. A client that has no certificate sends an empty
// list. The certificates themselves are not parsed.
func parseCertificate(body []byte, l Limits) (n int, ok bool) {
	list, ok := record.ReadVector24(&body)
	if !ok || len(body) != 0 || len(list) > l.CertificateChain {
		return 0, false
	}
	for ; len(list) > 0; n++ {
		der, ok := record.ReadVector24(&list)
		if !ok || len(der) == 0 || n == l.Certificates {
			return 0, false
		}
	}
	return n, true
}

// keyExchange is how the peers of a handshake agree on a premaster secret. At least one
// of psk and ecdhe is set.
type keyExchange struct {
	psk   bool // with a pre-shared key
	ecdhe bool // with ephemeral keys on an elliptic curve
	point int  // bytes of a public key on the curve that the server chose; with ecdhe
}

// parseClientKeyExchange parses the body of a ClientKeyExchange and returns the PSK
// identity, which may be empty. The body holds the identity (RFC 4279 section 2), the
// client's public key (RFC 8422 section 5.7), or both (RFC 5489 section 2).
func parseClientKeyExchange(body []byte, kx keyExchange, l Limits) (identity []byte, ok bool) {
	if !kx.psk && !kx.ecdhe {
		return nil, false
	}
	if kx.psk {
		if identity, ok = record.ReadVector16(&body); !ok || len(identity) > l.PSKIdentity {
			return nil, false
		}
	}
	if kx.ecdhe && !readPoint(&body, kx.point) {
		return nil, false
	}
	return identity, len(body) == 0
}

// parseServerKeyExchange parses the body of a ServerKeyExchange: the PSK identity hint
// (RFC 4279 section 2), the server's public key (RFC 8422 section 5.4), or both (RFC 5489
// section 2). It returns the size of public keys on the curve of that key, in bytes. The
// server signs its public key unless a pre-shared key authenticates it.
func parseServerKeyExchange(body []byte, psk, ecdhe bool) (point int, ok bool) {
	if !psk && !ecdhe {
		return 0, false
	}
	if psk {
		if _, ok = record.ReadVector16(&body); !ok {
			return 0, false
		}
	}
	if ecdhe {
		const namedCurve = 3 // curve_type
		if len(body) < 3 || body[0] != namedCurve {
			return 0, false
		}
		point = pointSize(binary.BigEndian.Uint16(body[1:]))
		body = body[3:]
		if !readPoint(&body, point) {
			return 0, false
		}
		if !psk {
			if _, ok = readSignature(&body); !ok {
				return 0, false
			}
		}
	}
	return point, len(body) == 0
}

// pointSize returns the size of a public key on a curve, in bytes (IANA's TLS Supported
// Groups), or 0 for a curve that is not known.
func pointSize(curve uint16) int {
	switch curve {
	case 23: // secp256r1
		return 1 + 2*32
	case 24: // secp384r1
		return 1 + 2*48
	case 25: // secp521r1
		return 1 + 2*66
	case 29: // x25519
		return 32
	case 30: // x448
		return 56
	default:
		return 0
	}
}

// readPoint removes a public key of a size in bytes, with its length, from the start of
// b. Whether the point is on the curve is left to who computes with it.
func readPoint(b *[]byte, size int) bool {
	point, ok := record.ReadVector8(b)
	if !ok || size == 0 || len(point) != size {
		return false
	}
	isNIST := size%2 == 1 // the form of the point and two coordinates
	return !isNIST || point[0] == uncompressedPoint
}

// readSignature removes a signature, with the scheme in front of it, from the start of b
// (RFC 5246 section 4.7), and returns the scheme.
func readSignature(b *[]byte) (scheme uint16, ok bool) {
	if len(*b) < 2 {
		return 0, false
	}
	scheme = binary.BigEndian.Uint16(*b)
	*b = (*b)[2:]
	signature, ok := record.ReadVector16(b)
	return scheme, ok && len(signature) > 0
}

// parseCertificateRequest parses the body of a CertificateRequest and returns its
// supported_signature_algorithms, two bytes each (RFC 5246 section 7.4.4).
func parseCertificateRequest(body []byte) (schemes []byte, ok bool) {
	if types, ok := record.ReadVector8(&body); !ok || len(types) == 0 {
		return nil, false
	}
	if schemes, ok = record.ReadUint16List(&body); !ok {
		return nil, false
	}
	authorities, ok := record.ReadVector16(&body)
	if !ok || len(body) != 0 {
		return nil, false
	}
	for len(authorities) > 0 {
		if name, ok := record.ReadVector16(&authorities); !ok || len(name) == 0 {
			return nil, false
		}
	}
	return schemes, true
}

// parseCertificateVerify parses the body of a CertificateVerify. The client must sign
// with one of the schemes of the CertificateRequest (RFC 5246 section 7.4.8).
func parseCertificateVerify(body, schemes []byte) bool {
	scheme, ok := readSignature(&body)
	return ok && len(body) == 0 && record.ContainsUint16(schemes, scheme)
}
