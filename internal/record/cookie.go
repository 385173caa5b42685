// SPDX-License-Identifier: MIT

package record

import (
	"encoding/binary"
	"hash"
	"math"
	"slices"
)

// ClientHelloStart parses a ClientHello, or the first fragment of one, up to the compression
// methods: all that a server needs to ask for a cookie, and to verify it (RFC 6347 section
// 4.2.1). It does not allocate. The extensions, and the fields of the ClientHello that they
// set, are left out.
func ClientHelloStart(f Handshake) (ClientHello, bool) {
	if f.Type != MessageClientHello || f.Offset != 0 {
		return ClientHello{}, false
	}
	rest := f.Body
	hello, ok := parseHelloParameters(&rest)
	hello.MessageSeq = f.MessageSeq
	return hello, ok
}

// WriteParameters writes to h what a ClientHello must have in common with the one before it:
// see SameParameters. No two ClientHellos that differ in that write the same bytes. room is
// overwritten; it saves an allocation if it has a capacity of 36 bytes.
func (c *ClientHello) WriteParameters(h hash.Hash, room []byte) {
	room = binary.BigEndian.AppendUint16(room[:0], c.Version)
	room = append(room, c.Random[:]...)
	for _, list := range [...][]byte{c.SessionID, c.cipherSuites, c.compressionMethods} {
		h.Write(binary.BigEndian.AppendUint16(room, uint16(len(list))))
		h.Write(list)
		room = room[:0]
	}
}

// WithoutCookie returns a copy of the body of a ClientHello that ParseClientHelloBody accepts,
// with an empty cookie.
func WithoutCookie(body []byte) []byte {
	rest := body
	_, _, _, _ = parseHelloStart(&rest)
	before := body[:len(body)-len(rest)]
	_, _ = ReadVector8(&rest)
	return slices.Concat(before, []byte{0}, rest)
}

// WithGroup returns a copy of the body of a ClientHello that ParseClientHelloBody accepts, with one
// more extension supported_groups at the end (RFC 8422 section 5.1.1), which names one group. It
// returns body itself if there is no room for the extension.
func WithGroup(body []byte, group uint16) []byte {
	rest := body
	_, _ = parseHelloParameters(&rest)
	parameters := body[:len(body)-len(rest)]
	extensions, _ := ReadVector16(&rest) // none: the ClientHello may end here
	const size = 8
	if len(extensions)+size > math.MaxUint16 {
		return body
	}
	out := make([]byte, 0, len(body)+2+size)
	out = append(out, parameters...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(extensions)+size))
	out = append(out, extensions...)
	for _, field := range [...]uint16{extensionSupportedGroups, 4, 2, group} { // two lengths, in bytes
		out = binary.BigEndian.AppendUint16(out, field)
	}
	return out
}

// AppendHelloVerifyRequest appends a record of epoch 0 with a HelloVerifyRequest, the first
// message of a server, to dst (RFC 6347 section 4.2.1). The record has the sequence number and
// the version of the ClientHello that it answers.
func AppendHelloVerifyRequest(dst []byte, version uint16, sequence uint64, cookie []byte) []byte {
	begin := len(dst)
	body := 3 + len(cookie)
	dst = AppendHeader(dst, TypeHandshake, 0, sequence, HandshakeHeaderSize+body)
	PutVersion(dst[begin:], version)
	dst = Handshake{Type: MessageHelloVerifyRequest, Length: body}.appendHeader(dst, body)
	dst = AppendVersion(dst, version)
	return append(append(dst, byte(len(cookie))), cookie...)
}
