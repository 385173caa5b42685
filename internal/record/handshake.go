// SPDX-License-Identifier: MIT

package record

import "encoding/binary"

// Handshake types (RFC 5246 section 7.4, RFC 6347 section 4.3.2).
const (
	MessageClientHello        = 1
	MessageServerHello        = 2
	MessageHelloVerifyRequest = 3
	MessageFinished           = 20
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
func (h Handshake) Complete() bool { return h.Offset == 0 && len(h.Body) == h.Length }

// NextHandshake takes the first message, or fragment of one, from the payload of a
// record of TypeHandshake.
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
// It refers to the record's bytes.
type ClientHello struct {
	MessageSeq           uint16
	Random               Random
	SessionID            []byte // that the client would resume
	Cookie               []byte
	ServerName           []byte // the first DNS name (RFC 6066 section 3)
	ExtendedMasterSecret bool   // RFC 7627 section 5.1

	suites []byte
}

// Offers is whether a suite is among the client's.
func (h ClientHello) Offers(id SuiteID) bool {
	for s := h.suites; len(s) > 0; s = s[2:] {
		if SuiteID(binary.BigEndian.Uint16(s)) == id {
			return true
		}
	}
	return false
}

// Extensions (IANA's TLS ExtensionType Values) that are looked at.
const (
	extensionServerName           = 0
	extensionALPN                 = 16
	extensionExtendedMasterSecret = 23
)

// ParseClientHello reads a record that is one whole, well-formed ClientHello at
// epoch 0 and nothing else. Whether its suites or extensions mean anything is for
// the handshake to say; here, all lengths agree.
func ParseClientHello(r Record) (ClientHello, bool) {
	if r.Type != TypeHandshake || r.Epoch != 0 {
		return ClientHello{}, false
	}
	h, rest, ok := NextHandshake(r.Fragment())
	if !ok || len(rest) != 0 || h.Type != MessageClientHello || !h.Complete() {
		return ClientHello{}, false
	}
	b := h.Body
	if len(b) < 2+len(Random{}) || b[0] != versionMajor {
		return ClientHello{}, false
	}
	hello := ClientHello{MessageSeq: h.MessageSeq, Random: Random(b[2:])}
	b = b[2+len(Random{}):]
	if hello.SessionID, ok = vector8(&b); !ok || len(hello.SessionID) > 32 {
		return ClientHello{}, false
	}
	if hello.Cookie, ok = vector8(&b); !ok {
		return ClientHello{}, false
	}
	if hello.suites, ok = vector16(&b); !ok || len(hello.suites) == 0 || len(hello.suites)%2 != 0 {
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
		kind, body, ok := nextExtension(&extensions)
		if !ok {
			return ClientHello{}, false
		}
		switch kind {
		case extensionServerName:
			hello.ServerName = hostName(body)
		case extensionExtendedMasterSecret:
			hello.ExtendedMasterSecret = true
		}
	}
	return hello, true
}

// nextExtension takes an extension from a list of them.
func nextExtension(list *[]byte) (kind uint16, body []byte, ok bool) {
	if len(*list) < 2 {
		return 0, nil, false
	}
	kind = binary.BigEndian.Uint16(*list)
	*list = (*list)[2:]
	body, ok = vector16(list)
	return kind, body, ok
}

// hostName is the DNS name in the body of a server_name extension, or nil.
func hostName(body []byte) []byte {
	const dns = 0
	for list, ok := vector16(&body); ok && len(list) > 0; {
		kind := list[0]
		list = list[1:]
		var name []byte
		if name, ok = vector16(&list); ok && kind == dns {
			return name
		}
	}
	return nil
}

// ServerHello is what is wanted of one (RFC 5246 section 7.4.1.3).
type ServerHello struct {
	Random               Random
	SessionID            string // empty: it cannot be resumed
	Suite                SuiteID
	Protocol             string // of ALPN (RFC 7301 section 3.1), or empty
	ExtendedMasterSecret bool
}

// ParseServerHello reads the body of a ServerHello.
func ParseServerHello(b []byte) (ServerHello, bool) {
	const random = 2 + len(Random{})
	if len(b) < random {
		return ServerHello{}, false
	}
	hello := ServerHello{Random: Random(b[2:])}
	b = b[random:]
	sessionID, ok := vector8(&b)
	if !ok || len(b) < 3 {
		return ServerHello{}, false
	}
	hello.SessionID = string(sessionID)
	hello.Suite = SuiteID(binary.BigEndian.Uint16(b))
	b = b[3:] // the compression method too
	if len(b) == 0 {
		return hello, true
	}
	extensions, ok := vector16(&b)
	if !ok {
		return ServerHello{}, false
	}
	for len(extensions) > 0 {
		kind, body, ok := nextExtension(&extensions)
		if !ok {
			return ServerHello{}, false
		}
		switch kind {
		case extensionALPN:
			if names, ok := vector16(&body); ok {
				if name, ok := vector8(&names); ok {
					hello.Protocol = string(name)
				}
			}
		case extensionExtendedMasterSecret:
			hello.ExtendedMasterSecret = true
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
