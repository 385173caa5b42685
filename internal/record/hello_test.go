// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"testing"

	"github.com/pion/dtls/v2/pkg/protocol"
	"github.com/pion/dtls/v2/pkg/protocol/extension"
	"github.com/pion/dtls/v2/pkg/protocol/handshake"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pionClientHello returns a record with a ClientHello as pion writes it.
func pionClientHello(t testing.TB, messageSeq uint16, cookie []byte, extensions ...extension.Extension) []byte {
	t.Helper()
	message := &handshake.Handshake{
		Header: handshake.Header{MessageSequence: messageSeq},
		Message: &handshake.MessageClientHello{
			Version:            protocol.Version1_2,
			Random:             handshake.Random{RandomBytes: [28]byte{1, 2, 3}},
			SessionID:          []byte("session"),
			Cookie:             cookie,
			CipherSuiteIDs:     []uint16{0xc0a8, 0x00a8},
			CompressionMethods: []*protocol.CompressionMethod{{}},
			Extensions:         extensions,
		},
	}
	raw, err := message.Marshal()
	require.NoError(t, err)
	return newRecord(TypeHandshake, 0, 0, raw...)
}

func parseClientHello(t testing.TB, datagram []byte) (ClientHello, bool) {
	t.Helper()
	return ParseClientHello(parseOne(t, datagram))
}

func TestParseClientHello(t *testing.T) {
	hello, ok := parseClientHello(t, pionClientHello(t, 0, nil))
	require.True(t, ok)
	assert.Zero(t, hello.MessageSeq)
	assert.Empty(t, hello.Cookie)
	assert.Equal(t, []byte{1, 2, 3, 0}, hello.Random[4:8])
	assert.Equal(t, "session", string(hello.SessionID))
	assert.True(t, hello.Offers(0xc0a8))
	assert.True(t, hello.Offers(0x00a8))
	assert.False(t, hello.Offers(0xa8c0))
	assert.False(t, hello.ExtendedMasterSecret)
	assert.Nil(t, hello.ServerName)

	hello, ok = parseClientHello(t, pionClientHello(t, 1, make([]byte, 20),
		&extension.ServerName{ServerName: "example.org"}, &extension.UseExtendedMasterSecret{Supported: true}))
	require.True(t, ok)
	assert.Equal(t, uint16(1), hello.MessageSeq)
	assert.Equal(t, make([]byte, 20), hello.Cookie)
	assert.Equal(t, "example.org", string(hello.ServerName))
	assert.True(t, hello.ExtendedMasterSecret)
}

func TestHostNameSkipsOtherNameTypes(t *testing.T) {
	for want, data := range map[string][]byte{
		"a": {0, 8, 1, 0, 1, 'x', 0, 0, 1, 'a'}, // after a name of another type
		"":  {0, 4, 0, 0, 2, 'a'},               // longer than the list
	} {
		assert.Equal(t, want, string(hostName(data)))
	}
}

// TestParseClientHelloRejectsWrongLengths changes each length of a valid ClientHello,
// and truncates it at each byte.
func TestParseClientHelloRejectsWrongLengths(t *testing.T) {
	valid := pionClientHello(t, 0, make([]byte, 8), &extension.UseExtendedMasterSecret{Supported: true})
	const ( // offsets
		message            = HeaderSize
		body               = message + handshakeHeaderSize
		sessionID          = body + 2 + 32
		cookie             = sessionID + 1 + 7
		cipherSuites       = cookie + 1 + 8
		compressionMethods = cipherSuites + 2 + 4
		extensions         = compressionMethods + 2
	)
	for name, change := range map[string]func(b []byte){
		"another content type":                 func(b []byte) { b[0] = byte(TypeApplicationData) },
		"another epoch":                        func(b []byte) { b[4] = 1 },
		"another message type":                 func(b []byte) { b[message] = MessageServerHello },
		"message longer than the record":       func(b []byte) { b[message+3]++ },
		"first fragment":                       func(b []byte) { b[message+11]-- },
		"middle fragment":                      func(b []byte) { b[message+8]++ },
		"version of TLS":                       func(b []byte) { b[body] = 3 },
		"session ID longer than 32 bytes":      func(b []byte) { b[sessionID] = 33 },
		"session ID longer than the message":   func(b []byte) { b[sessionID] = 255 },
		"cookie longer than the message":       func(b []byte) { b[cookie] = 255 },
		"no suites":                            func(b []byte) { b[cipherSuites+1] = 0 },
		"odd length of suites":                 func(b []byte) { b[cipherSuites+1] = 3 },
		"suites longer than the message":       func(b []byte) { b[cipherSuites] = 255 },
		"no compression method":                func(b []byte) { b[compressionMethods] = 0 },
		"methods longer than the message":      func(b []byte) { b[compressionMethods] = 255 },
		"extensions longer than the message":   func(b []byte) { b[extensions+1]++ },
		"bytes after the extensions":           func(b []byte) { b[extensions+1]-- },
		"extension longer than the extensions": func(b []byte) { b[extensions+5]++ },
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(valid)
			change(b)
			_, ok := parseClientHello(t, b)
			assert.False(t, ok)
		})
	}
	_, ok := parseClientHello(t, valid)
	require.True(t, ok)
	for cut := range len(valid) - body {
		// The lengths of the record and of the message are those of the truncated
		// body, so that only the fields of the body are wrong.
		b := bytes.Clone(valid[:len(valid)-1-cut])
		b[11], b[12] = 0, byte(len(b)-HeaderSize)
		b[message+3], b[message+11] = byte(len(b)-body), byte(len(b)-body)
		_, ok := parseClientHello(t, b)
		// A ClientHello without extensions is valid.
		assert.Equal(t, len(b) == extensions, ok, "truncated to %d bytes", len(b))
	}
	_, ok = parseClientHello(t, append(valid[:11:11], append([]byte{0, byte(len(valid))}, append(valid[13:], make([]byte, 13)...)...)...))
	assert.False(t, ok, "bytes after the message")
}

func TestParseServerHelloRejectsTruncation(t *testing.T) {
	id := uint16(0xc00a)
	message := &handshake.MessageServerHello{
		Version: protocol.Version1_2, Random: handshake.Random{RandomBytes: [28]byte{1, 2, 3}},
		SessionID: []byte("session"), CipherSuiteID: &id, CompressionMethod: &protocol.CompressionMethod{},
		Extensions: []extension.Extension{
			&extension.UseExtendedMasterSecret{Supported: true},
			&extension.ALPN{ProtocolNameList: []string{"coap"}},
		},
	}
	body, err := message.Marshal()
	require.NoError(t, err)
	hello, ok := ParseServerHello(body)
	require.True(t, ok)
	assert.Equal(t, ServerHello{Random: hello.Random, SessionID: "session", Suite: 0xc00a, Protocol: "coap", ExtendedMasterSecret: true}, hello)
	assert.Equal(t, []byte{1, 2, 3, 0}, hello.Random[4:8])
	for n := range body {
		truncated, ok := ParseServerHello(body[:n])
		// A ServerHello without extensions is valid.
		assert.Equal(t, n == 2+32+1+7+3, ok, n)
		assert.Empty(t, truncated.Protocol)
	}
}
