// SPDX-License-Identifier: MIT

package handshake

import "github.com/go-dsm/dsm/internal/record"

// epoch is that of the records of every session: there is no renegotiation.
const epoch = 1

// Bounds of an adapter's configuration.
const (
	MinMTU          = 256     // bytes: the ServerHello fits into one datagram; the session cannot be taken over without having seen it
	MaxReplayWindow = 1 << 16 // records; a session has a bit for each
)

// Bounds that the user does not choose: what each bounds, and against which attack or
// cost.
const (
	// Messages from the next one on of which fragments are kept: a client's longest
	// flight, Certificate, ClientKeyExchange, CertificateVerify and Finished.
	maxAhead = 4
	// Protected records, and their bytes, that may be the client's Finished, and came
	// before the keys: anybody can send them. A Finished can come in one-byte fragments.
	maxEarly      = 32
	maxEarlyBytes = 4 << 10
	// Bytes of a fragment that show that the client repeats its message: a stranger does
	// not know them.
	minRepeated = 10
	// Bytes of a record for pion, and of a datagram: pion v2 reads 8192 bytes at a time.
	maxRecord  = 4 << 10
	maxForPion = 8 << 10
	// Bytes of a CertificateVerify: its signature is an RSA key's, of up to 16384 bits.
	maxCertificateVerify = 4 + 2048
	// Bytes of a public point in a ClientKeyExchange, with its length (RFC 8422 section
	// 5.7).
	maxPoint = 1 + 255
)

// maxLength returns the bound of a client's message, in bytes.
func (g *Gate) maxLength(kind uint8) int {
	l := g.parameters.Limits
	// No message is as long, and sums with a bound of math.MaxInt do not overflow.
	l.PSKIdentity, l.CertificateChain = min(l.PSKIdentity, 1<<24), min(l.CertificateChain, 1<<24)
	switch kind {
	case record.MessageClientHello:
		return l.ClientHello
	case record.MessageCertificate:
		return 3 + l.CertificateChain
	case record.MessageClientKeyExchange:
		return 2 + l.PSKIdentity + maxPoint
	case record.MessageCertificateVerify:
		return maxCertificateVerify
	default:
		return record.VerifyDataSize
	}
}
