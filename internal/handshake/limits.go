// SPDX-License-Identifier: MIT

package handshake

// Limits bounds what a client may send in a handshake before it is authenticated. There
// are no defaults: zero allows nothing, which for the last three fields means that the
// client may send an empty identity and an empty list of certificates.
type Limits struct {
	// ClientHello bounds the body of a ClientHello, in bytes. Each first one is parsed,
	// whoever sent it, and the body is copied when it comes in fragments.
	ClientHello int
	// PSKIdentity bounds the identity in a ClientKeyExchange, in bytes (RFC 4279 section
	// 5.3 requires at least 128 to be supported). The session keeps it.
	PSKIdentity int
	// CertificateChain bounds the certificate_list of a Certificate message, in bytes,
	// with the three bytes in front of each certificate (RFC 5246 section 7.4.2). The
	// message is copied when it comes in fragments, and the session keeps the
	// certificates.
	CertificateChain int
	// Certificates bounds the number of certificates in that list. Each is parsed, and
	// verification may try each as an issuer of the others.
	Certificates int
}
