// SPDX-License-Identifier: MIT

package record

import (
	"encoding/binary"
	"slices"
)

// Handshake message types (RFC 5246 section 7.4, RFC 6347 section 4.3.2).
const (
	MessageClientHello        = 1
	MessageServerHello        = 2
	MessageHelloVerifyRequest = 3
	MessageCertificate        = 11
	MessageServerKeyExchange  = 12
	MessageCertificateRequest = 13
	MessageServerHelloDone    = 14
	MessageCertificateVerify  = 15
	MessageClientKeyExchange  = 16
	MessageFinished           = 20
)

// HandshakeHeaderSize is the length of a handshake message's header, in bytes (RFC 6347
// section 4.2.2).
const HandshakeHeaderSize = 12

// Handshake is a handshake message or a fragment of one (RFC 6347 section 4.2.2).
type Handshake struct {
	Type       uint8
	Length     int // of the complete message, in bytes
	MessageSeq uint16
	Offset     int // of Body in the message, in bytes
	Body       []byte
}

// Complete reports whether Body is the complete message.
func (h Handshake) Complete() bool { return h.Offset == 0 && len(h.Body) == h.Length }

// AppendHeader appends the header of h to dst.
func (h Handshake) AppendHeader(dst []byte) []byte { return h.appendHeader(dst, len(h.Body)) }

// appendHeader is AppendHeader for a body of a given length.
func (h Handshake) appendHeader(dst []byte, length int) []byte {
	dst = appendUint24(append(dst, h.Type), h.Length)
	dst = appendUint24(binary.BigEndian.AppendUint16(dst, h.MessageSeq), h.Offset)
	return appendUint24(dst, length)
}

// Append appends h with its header to dst.
func (h Handshake) Append(dst []byte) []byte {
	dst = slices.Grow(dst, HandshakeHeaderSize+len(h.Body))
	return append(h.AppendHeader(dst), h.Body...)
}

// NextHandshake parses the first handshake message, or fragment of one, in the payload
// of a record of TypeHandshake. rest is the payload after it.
func NextHandshake(payload []byte) (h Handshake, rest []byte, ok bool) {
	if len(payload) < HandshakeHeaderSize {
		return Handshake{}, nil, false
	}
	h = Handshake{
		Type:       payload[0],
		Length:     uint24(payload[1:]),
		MessageSeq: binary.BigEndian.Uint16(payload[4:]),
		Offset:     uint24(payload[6:]),
	}
	length := uint24(payload[9:])
	payload = payload[HandshakeHeaderSize:]
	if length > len(payload) || h.Offset+length > h.Length {
		return Handshake{}, nil, false
	}
	h.Body = payload[:length:length]
	return h, payload[length:], true
}

func appendUint24(dst []byte, n int) []byte {
	return append(dst, byte(n>>16), byte(n>>8), byte(n))
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }
