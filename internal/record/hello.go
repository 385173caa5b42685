// SPDX-License-Identifier: MIT

package record

import "encoding/binary"

// Random is the random value of a ClientHello or ServerHello (RFC 5246 section
// 7.4.1.2).
type Random [32]byte

// The extensions that are parsed (IANA's TLS ExtensionType Values).
const (
	extensionServerName           = 0
	extensionALPN                 = 16
	extensionExtendedMasterSecret = 23
)

// maxSessionID bounds the session ID of a ClientHello, in bytes (RFC 5246 section
// 7.4.1.2).
const maxSessionID = 32

// ClientHello holds the fields of a ClientHello that a server needs before it starts a
// handshake. It refers to the bytes of the record.
type ClientHello struct {
	MessageSeq           uint16
	Random               Random
	SessionID            []byte // of the session that the client wants to resume, or empty
	Cookie               []byte
	ServerName           []byte // the first DNS name (RFC 6066 section 3), or nil
	ExtendedMasterSecret bool   // RFC 7627 section 5.1

	cipherSuites []byte
}

// Offers reports whether the client offers a cipher suite.
func (h ClientHello) Offers(id SuiteID) bool {
	for s := h.cipherSuites; len(s) > 0; s = s[2:] {
		if SuiteID(binary.BigEndian.Uint16(s)) == id {
			return true
		}
	}
	return false
}

// ParseClientHello parses a record of epoch 0 that holds one complete ClientHello and
// nothing else. It checks that all lengths agree. It does not check whether the cipher
// suites and extensions are acceptable; the handshake does.
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
	if hello.SessionID, ok = readVector8(&b); !ok || len(hello.SessionID) > maxSessionID {
		return ClientHello{}, false
	}
	if hello.Cookie, ok = readVector8(&b); !ok {
		return ClientHello{}, false
	}
	if hello.cipherSuites, ok = readVector16(&b); !ok || len(hello.cipherSuites) == 0 || len(hello.cipherSuites)%2 != 0 {
		return ClientHello{}, false
	}
	if compressionMethods, ok := readVector8(&b); !ok || len(compressionMethods) == 0 {
		return ClientHello{}, false
	}
	if len(b) == 0 {
		return hello, true // no extensions
	}
	extensions, ok := readVector16(&b)
	if !ok || len(b) != 0 {
		return ClientHello{}, false
	}
	for len(extensions) > 0 {
		extensionType, data, ok := readExtension(&extensions)
		if !ok {
			return ClientHello{}, false
		}
		switch extensionType {
		case extensionServerName:
			hello.ServerName = hostName(data)
		case extensionExtendedMasterSecret:
			hello.ExtendedMasterSecret = true
		}
	}
	return hello, true
}

// hostName returns the first DNS name in the data of a server_name extension, or nil.
func hostName(data []byte) []byte {
	const typeHostName = 0
	for list, ok := readVector16(&data); ok && len(list) > 0; {
		nameType := list[0]
		list = list[1:]
		var name []byte
		if name, ok = readVector16(&list); ok && nameType == typeHostName {
			return name
		}
	}
	return nil
}

// ServerHello holds the fields of a ServerHello that are stored with a session (RFC 5246
// section 7.4.1.3).
type ServerHello struct {
	Random               Random
	SessionID            string // empty if the session cannot be resumed
	Suite                SuiteID
	Protocol             string // selected by ALPN (RFC 7301 section 3.1), or empty
	ExtendedMasterSecret bool   // RFC 7627 section 5.1
}

// ParseServerHello parses the body of a ServerHello.
func ParseServerHello(b []byte) (ServerHello, bool) {
	const randomEnd = 2 + len(Random{})
	if len(b) < randomEnd {
		return ServerHello{}, false
	}
	hello := ServerHello{Random: Random(b[2:])}
	b = b[randomEnd:]
	sessionID, ok := readVector8(&b)
	if !ok || len(b) < 3 {
		return ServerHello{}, false
	}
	hello.SessionID = string(sessionID)
	hello.Suite = SuiteID(binary.BigEndian.Uint16(b))
	b = b[3:] // cipher suite and compression method
	if len(b) == 0 {
		return hello, true // no extensions
	}
	extensions, ok := readVector16(&b)
	if !ok {
		return ServerHello{}, false
	}
	for len(extensions) > 0 {
		extensionType, data, ok := readExtension(&extensions)
		if !ok {
			return ServerHello{}, false
		}
		switch extensionType {
		case extensionALPN:
			if names, ok := readVector16(&data); ok {
				if name, ok := readVector8(&names); ok {
					hello.Protocol = string(name)
				}
			}
		case extensionExtendedMasterSecret:
			hello.ExtendedMasterSecret = true
		}
	}
	return hello, true
}

// readExtension removes the first extension from a list of extensions.
func readExtension(list *[]byte) (extensionType uint16, data []byte, ok bool) {
	if len(*list) < 2 {
		return 0, nil, false
	}
	extensionType = binary.BigEndian.Uint16(*list)
	*list = (*list)[2:]
	data, ok = readVector16(list)
	return extensionType, data, ok
}

// readVector8 removes a vector from the start of b. Its length has one byte (RFC 5246
// section 4.3).
func readVector8(b *[]byte) ([]byte, bool) {
	if len(*b) < 1 {
		return nil, false
	}
	return readVector(b, 1, int((*b)[0]))
}

// readVector16 is readVector8 for a length of two bytes.
func readVector16(b *[]byte) ([]byte, bool) {
	if len(*b) < 2 {
		return nil, false
	}
	return readVector(b, 2, int(binary.BigEndian.Uint16(*b)))
}

func readVector(b *[]byte, lengthSize, length int) ([]byte, bool) {
	if len(*b)-lengthSize < length {
		return nil, false
	}
	v := (*b)[lengthSize : lengthSize+length]
	*b = (*b)[lengthSize+length:]
	return v, true
}
