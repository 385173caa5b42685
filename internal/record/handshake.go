// SPDX-License-Identifier: MIT

package record

import "encoding/binary"

// Handshake types (RFC 5246 section 7.4, RFC 6347 section 4.3.2).
const (
	ClientHelloType        = 1
	ServerHelloType        = 2
	HelloVerifyRequestType = 3
	FinishedType           = 20
)

const handshakeHeaderSize = 12

// Handshake is a handshake message, or a fragment of one (RFC 6347 section 4.2.2).
type Handshake struct {
	Type       uint8
	Length     int // of the whole message
	MessageSeq uint16
	Offset     int // where Body belongs in it
	Body       []byte
}

// Whole is whether it is the whole message.
func (h Handshake) Whole() bool { return h.Offset == 0 && len(h.Body) == h.Length }

// NextHandshake takes the first message, or fragment of one, from the payload of a
// record of HandshakeType.
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

// Random is a hello's random (RFC 5246 section 7.4.1.2).
type Random [32]byte

// ClientHello is what a server must know of one before it does anything for it.
type ClientHello struct {
	MessageSeq uint16
	Random     Random
	Cookie     []byte // refers to the record
}

// ParseClientHello reads a record that is one whole, well-formed ClientHello at
// epoch 0 and nothing else. Whether its suites or extensions mean anything is for
// the handshake to say; here, all lengths agree.
func ParseClientHello(r Record) (ClientHello, bool) {
	if r.Type != HandshakeType || r.Epoch != 0 {
		return ClientHello{}, false
	}
	h, rest, ok := NextHandshake(r.Fragment())
	if !ok || len(rest) != 0 || h.Type != ClientHelloType || !h.Whole() {
		return ClientHello{}, false
	}
	b := h.Body
	if len(b) < 2+len(Random{}) || b[0] != versionMajor {
		return ClientHello{}, false
	}
	hello := ClientHello{MessageSeq: h.MessageSeq, Random: Random(b[2:])}
	b = b[2+len(Random{}):]
	if sessionID, ok := vector8(&b); !ok || len(sessionID) > 32 {
		return ClientHello{}, false
	}
	cookie, ok := vector8(&b)
	if !ok {
		return ClientHello{}, false
	}
	hello.Cookie = cookie
	if suites, ok := vector16(&b); !ok || len(suites) == 0 || len(suites)%2 != 0 {
		return ClientHello{}, false
	}
	if compression, ok := vector8(&b); !ok || len(compression) == 0 {
		return ClientHello{}, false
	}
	if len(b) == 0 {
		return hello, true // no extensions
	}
	extensions, ok := vector16(&b)
	if !ok || len(b) != 0 {
		return ClientHello{}, false
	}
	for len(extensions) > 0 {
		if len(extensions) < 2 {
			return ClientHello{}, false
		}
		extensions = extensions[2:]
		if _, ok := vector16(&extensions); !ok {
			return ClientHello{}, false
		}
	}
	return hello, true
}

// ServerHello is what is wanted of one (RFC 5246 section 7.4.1.3).
type ServerHello struct {
	Random   Random
	Suite    SuiteID
	Protocol string // of ALPN (RFC 7301 section 3.1), or empty
}

// ParseServerHello reads the body of a ServerHello.
func ParseServerHello(b []byte) (ServerHello, bool) {
	const random = 2 + len(Random{})
	if len(b) < random {
		return ServerHello{}, false
	}
	hello := ServerHello{Random: Random(b[2:])}
	b = b[random:]
	if _, ok := vector8(&b); !ok || len(b) < 3 {
		return ServerHello{}, false
	}
	hello.Suite = SuiteID(binary.BigEndian.Uint16(b))
	b = b[3:] // the compression method too
	if len(b) == 0 {
		return hello, true
	}
	extensions, ok := vector16(&b)
	if !ok {
		return ServerHello{}, false
	}
	for len(extensions) > 2 {
		kind := binary.BigEndian.Uint16(extensions)
		extensions = extensions[2:]
		body, ok := vector16(&extensions)
		if !ok {
			return ServerHello{}, false
		}
		const alpn = 16
		if kind == alpn {
			if names, ok := vector16(&body); ok {
				if name, ok := vector8(&names); ok {
					hello.Protocol = string(name)
				}
			}
		}
	}
	return hello, true
}

// vector8 takes a vector with a length of one byte, vector16 one of two.
func vector8(b *[]byte) ([]byte, bool) {
	if len(*b) < 1 {
		return nil, false
	}
	return take(b, 1, int((*b)[0]))
}

func vector16(b *[]byte) ([]byte, bool) {
	if len(*b) < 2 {
		return nil, false
	}
	return take(b, 2, int(binary.BigEndian.Uint16(*b)))
}

func take(b *[]byte, skip, n int) ([]byte, bool) {
	if len(*b)-skip < n {
		return nil, false
	}
	v := (*b)[skip : skip+n]
	*b = (*b)[skip+n:]
	return v, true
}
