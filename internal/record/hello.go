// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"encoding/binary"
)

// Random is the random value of a ClientHello or ServerHello (RFC 5246 section
// 7.4.1.2).
type Random [32]byte

// maxSessionID bounds the session ID of a hello, in bytes (RFC 5246 section 7.4.1.2).
const maxSessionID = 32

// ClientHello holds the fields of a ClientHello that a server needs before it starts a
// handshake. It refers to the bytes of the message.
type ClientHello struct {
	MessageSeq           uint16
	Version              uint16 // the latest that the client supports: 0xfefd for DTLS 1.2
	Random               Random
	SessionID            []byte // of the session that the client wants to resume, or empty
	Cookie               []byte
	ServerName           []byte // the DNS name (RFC 6066 section 3), or nil
	ExtendedMasterSecret bool   // RFC 7627 section 5.1
	ConnectionID         []byte // for records to the client (RFC 9146 section 3); may be empty
	HasConnectionID      bool   // the client offers connection_id
	RoutabilityCheck     bool   // the client offers rrc (RFC 9853)

	cipherSuites       []byte
	compressionMethods []byte
	versions           []byte // of the extension supported_versions; nil: there is none
}

// Offers reports whether the client offers a cipher suite.
func (h ClientHello) Offers(id SuiteID) bool { return ContainsUint16(h.cipherSuites, uint16(id)) }

// OffersVersion12 reports whether the client offers DTLS 1.2 or 1.0, perhaps together with later
// versions (RFC 8446 section 4.2.1).
func (h ClientHello) OffersVersion12() bool {
	return h.versions == nil || ContainsUint16(h.versions, Version12) || ContainsUint16(h.versions, Version10)
}

// RandomIn returns the random of a ClientHello that a fragment has, if it has all of it.
func RandomIn(f Handshake) (random Random, ok bool) {
	const begin = 2 // after the version
	if f.Type != MessageClientHello || f.Offset != 0 || len(f.Body) < begin+len(random) {
		return random, false
	}
	return Random(f.Body[begin : begin+len(random)]), true
}

// SameParameters reports whether two ClientHellos have the same version, random, session
// ID, cipher suites and compression methods, as the ClientHello with the cookie must have
// them of the first one (RFC 6347 section 4.2.1).
func SameParameters(a, b ClientHello) bool {
	return a.Version == b.Version && a.Random == b.Random && bytes.Equal(a.SessionID, b.SessionID) &&
		bytes.Equal(a.cipherSuites, b.cipherSuites) && bytes.Equal(a.compressionMethods, b.compressionMethods)
}

// ParseClientHello parses a record of epoch 0 that holds one complete ClientHello and
// nothing else. ParseClientHelloBody says what it checks.
func ParseClientHello(r Record) (ClientHello, bool) {
	if r.Type != TypeHandshake || r.Epoch != 0 {
		return ClientHello{}, false
	}
	h, rest, ok := NextHandshake(r.Fragment())
	if !ok || len(rest) != 0 || h.Type != MessageClientHello || !h.Complete() {
		return ClientHello{}, false
	}
	hello, ok := ParseClientHelloBody(h.Body)
	hello.MessageSeq = h.MessageSeq
	return hello, ok
}

// ParseClientHelloBody parses the body of a ClientHello (RFC 6347 section 4.2.1) to the
// last byte, and leaves MessageSeq zero. It checks that all lengths agree, also those in
// the extensions that pion/dtls parses, and that no extension comes twice. It does not
// check whether the version, the cipher suites and the extensions are acceptable; the
// handshake does. It allocates only for more extensions than clients send.
func ParseClientHelloBody(b []byte) (ClientHello, bool) {
	hello, ok := parseHelloParameters(&b)
	if !ok || !parseExtensions(b, hello.parseExtension) {
		return ClientHello{}, false
	}
	return hello, true
}

// parseHelloParameters removes from b the fields of a ClientHello in front of the extensions.
func parseHelloParameters(b *[]byte) (ClientHello, bool) {
	var hello ClientHello
	var ok bool
	if hello.Version, hello.Random, hello.SessionID, ok = parseHelloStart(b); !ok {
		return ClientHello{}, false
	}
	if hello.Cookie, ok = ReadVector8(b); !ok {
		return ClientHello{}, false
	}
	if hello.cipherSuites, ok = ReadUint16List(b); !ok {
		return ClientHello{}, false
	}
	// Every client must offer the null method (RFC 5246 section 7.4.1.2).
	if hello.compressionMethods, ok = ReadVector8(b); !ok || bytes.IndexByte(hello.compressionMethods, 0) < 0 {
		return ClientHello{}, false
	}
	return hello, true
}

// ServerHello holds the fields of a ServerHello that are stored with a session (RFC 5246
// section 7.4.1.3).
type ServerHello struct {
	Random               Random
	SessionID            string // empty if the session cannot be resumed
	Suite                SuiteID
	Protocol             string // selected by ALPN (RFC 7301 section 3.1), or empty
	ExtendedMasterSecret bool   // RFC 7627 section 5.1
	ConnectionID         string // for records to the server (RFC 9146 section 3); may be empty
	HasConnectionID      bool   // connection_id was negotiated
	RoutabilityCheck     bool   // rrc was negotiated (RFC 9853)
}

// ParseServerHello parses the body of a ServerHello to the last byte. It allocates the
// strings.
func ParseServerHello(b []byte) (ServerHello, bool) {
	_, random, sessionID, ok := parseHelloStart(&b)
	if !ok || len(b) < 3 {
		return ServerHello{}, false
	}
	hello := ServerHello{
		Random:    random,
		SessionID: string(sessionID),
		Suite:     SuiteID(binary.BigEndian.Uint16(b)),
	}
	b = b[3:] // cipher suite and compression method
	ok = parseExtensions(b, func(extensionType uint16, data []byte) bool {
		switch extensionType {
		case extensionALPN:
			// The server selects one protocol (RFC 7301 section 3.1).
			list, ok := parseProtocols(data)
			if !ok {
				return false
			}
			name, _ := ReadVector8(&list)
			hello.Protocol = string(name)
			return len(list) == 0
		case extensionExtendedMasterSecret:
			hello.ExtendedMasterSecret = true
			return len(data) == 0
		case extensionConnectionID:
			id, ok := parseConnectionID(data)
			hello.ConnectionID, hello.HasConnectionID = string(id), true
			return ok
		case extensionRoutabilityCheck:
			hello.RoutabilityCheck = true
			return len(data) == 0
		default:
			return true
		}
	})
	if !ok {
		return ServerHello{}, false
	}
	return hello, true
}

// parseHelloStart removes from b the fields with which both hellos begin: version,
// random and session ID. It returns no ClientHello: a ServerHello is parsed deep on the stack of
// a goroutine of pion's, which would have to grow for it.
func parseHelloStart(b *[]byte) (version uint16, random Random, sessionID []byte, ok bool) {
	const randomEnd = 2 + len(Random{})
	if len(*b) < randomEnd || (*b)[0] != versionMajor {
		return 0, random, nil, false
	}
	version = binary.BigEndian.Uint16(*b)
	random = Random((*b)[2:])
	*b = (*b)[randomEnd:]
	sessionID, ok = ReadVector8(b)
	return version, random, sessionID, ok && len(sessionID) <= maxSessionID
}
