// SPDX-License-Identifier: MIT

package record

import "encoding/binary"

// Handshake message types (RFC 5246 section 7.4, RFC 6347 section 4.3.2).
const (
	MessageClientHello        = 1
	MessageServerHello        = 2
	MessageHelloVerifyRequest = 3
	MessageFinished           = 20
)

const handshakeHeaderSize = 12

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

// NextHandshake parses the first handshake message, or fragment of one, in the payload
// of a record of TypeHandshake. rest is the payload after it.
func NextHandshake(payload []byte) (h Handshake, rest []byte, ok bool) {
	if len(payload) < handshakeHeaderSize {
		return Handshake{}, nil, false
	}
	h = Handshake{
		Type:       payload[0],
		Length:     uint24(payload[1:]),
		MessageSeq: binary.BigEndian.Uint16(payload[4:]),
		Offset:     uint24(payload[6:]),
	}
	length := uint24(payload[9:])
	payload = payload[handshakeHeaderSize:]
	if length > len(payload) || h.Offset+length > h.Length {
		return Handshake{}, nil, false
	}
	h.Body = payload[:length:length]
	return h, payload[length:], true
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }
