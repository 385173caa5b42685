// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"slices"
	"strings"
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
	assert.Equal(t, uint16(0xfefd), hello.Version)
	assert.Empty(t, hello.Cookie)
	assert.Equal(t, []byte{1, 2, 3, 0}, hello.Random[4:8])
	assert.Equal(t, "session", string(hello.SessionID))
	assert.True(t, hello.Offers(0xc0a8))
	assert.True(t, hello.Offers(0x00a8))
	assert.False(t, hello.Offers(0xa800), "the halves of two suites")
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

// TestParseClientHelloRejectsWrongLengths changes each length of a valid ClientHello,
// and truncates it at each byte.
func TestParseClientHelloRejectsWrongLengths(t *testing.T) {
	valid := pionClientHello(t, 0, make([]byte, 8), &extension.UseExtendedMasterSecret{Supported: true})
	const ( // offsets
		message            = HeaderSize
		body               = message + HandshakeHeaderSize
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
		"no null compression method":           func(b []byte) { b[compressionMethods+1] = 1 },
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

func TestParseClientHelloBoundsSessionID(t *testing.T) {
	short := clientHelloBody(nil)
	for size, want := range map[int]bool{0: true, 32: true, 33: false} {
		body := slices.Insert(bytes.Clone(short), 35, make([]byte, size)...)
		body[34] = byte(size)
		hello, ok := ParseClientHelloBody(body)
		assert.Equal(t, want, ok, size)
		if ok {
			assert.Len(t, hello.SessionID, size)
		}
	}
}

// readClientHellos returns the datagrams of testdata/clienthellos.txt by client.
func readClientHellos(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/clienthellos.txt")
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")[1:]
	datagrams := map[string][]byte{}
	for i := 0; i+1 < len(lines); i += 2 {
		datagrams[lines[i]], err = hex.DecodeString(lines[i+1])
		require.NoError(t, err)
	}
	require.NotEmpty(t, datagrams)
	return datagrams
}

func TestParseClientHelloAcceptsOtherClients(t *testing.T) {
	for client, datagram := range readClientHellos(t) {
		hello, ok := parseClientHello(t, datagram)
		require.True(t, ok, client)
		for option, name := range map[string]string{"example.org": "example.org", " localhost": "localhost", "//localhost": "localhost", "//127": "127.0.0.1"} {
			if strings.Contains(client, option) {
				assert.Equal(t, name, string(hello.ServerName), client)
			}
		}
		isDTLS10 := strings.Contains(client, "-dtls1 ")
		assert.Equal(t, isDTLS10, hello.Version == 0xfeff, client)
		assert.True(t, hello.ExtendedMasterSecret, client)
	}
}

func TestSameParametersIgnoresCookieAndExtensions(t *testing.T) {
	first := pionClientHello(t, 0, nil)
	parse := func(datagram []byte) ClientHello {
		hello, ok := parseClientHello(t, datagram)
		require.True(t, ok)
		return hello
	}
	assert.True(t, SameParameters(parse(first),
		parse(pionClientHello(t, 1, make([]byte, 20), &extension.UseExtendedMasterSecret{Supported: true}))))

	const body = HeaderSize + HandshakeHeaderSize
	for name, offset := range map[string]int{
		"version": body + 1, "random": body + 2 + 31, "session ID": body + 34 + 1, "cipher suites": body + 34 + 1 + 7 + 1 + 2,
	} {
		b := bytes.Clone(first)
		b[offset] ^= 1
		assert.False(t, SameParameters(parse(first), parse(b)), name)
	}
	b := bytes.Clone(first)
	methods := len(b) - 2 - 2 // two bytes, then the length of the extensions
	b = slices.Replace(b, methods, methods+1, 2, 64)
	b[12]++
	b[HeaderSize+3]++
	b[HeaderSize+11]++
	assert.False(t, SameParameters(parse(first), parse(b)), "compression methods")
}

func TestParseClientHelloDoesNotAllocate(t *testing.T) {
	for client, datagram := range readClientHellos(t) {
		r := parseOne(t, datagram)
		assert.Zero(t, testing.AllocsPerRun(100, func() { ParseClientHello(r) }), client)
	}
}

// clientHelloBody returns the body of a ClientHello with the extensions, which are
// without their length.
func clientHelloBody(extensions []byte) []byte {
	body := append([]byte{254, 253}, make([]byte, 32+1+1)...)
	body = append(body, 0, 2, 0xc0, 0xa8, 1, 0)
	return append(binary.BigEndian.AppendUint16(body, uint16(len(extensions))), extensions...)
}

// BenchmarkParseClientHello measures the parsing of a client's first datagram, and of
// the datagram that takes longest: as many empty extensions as a record has room for.
func BenchmarkParseClientHello(b *testing.B) {
	var extensions []byte
	for i := range 4000 {
		extensionType := 1000 + i*2741%4093 // in no order, and no type twice
		extensions = binary.BigEndian.AppendUint32(extensions, uint32(extensionType)<<16)
	}
	for name, body := range map[string][]byte{
		"none": clientHelloBody(nil), "pion": pionClientHello(b, 0, nil, &extension.ServerName{ServerName: "example.org"})[HeaderSize+HandshakeHeaderSize:],
		"4000 extensions": clientHelloBody(extensions),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ParseClientHelloBody(body)
			}
		})
	}
}

// FuzzParseClientHello checks that pion parses each ClientHello that this package
// accepts, and to the same values.
func FuzzParseClientHello(f *testing.F) {
	for _, datagram := range readClientHellos(f) {
		f.Add(datagram[HeaderSize+HandshakeHeaderSize:])
	}
	f.Add(clientHelloBody(nil))
	for _, e := range extensionCases {
		f.Add(clientHelloBody(e.marshal()))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		hello, ok := ParseClientHelloBody(body)
		if !ok {
			return
		}
		var message handshake.MessageClientHello
		require.NoError(t, message.Unmarshal(body))
		require.Equal(t, message.Version, protocol.Version{Major: uint8(hello.Version >> 8), Minor: uint8(hello.Version)})
		require.Equal(t, message.Random.MarshalFixed(), [32]byte(hello.Random))
		require.Equal(t, message.SessionID, append([]byte{}, hello.SessionID...))
		require.Equal(t, message.Cookie, append([]byte{}, hello.Cookie...))
		var suites []byte
		for _, id := range message.CipherSuiteIDs {
			require.True(t, hello.Offers(SuiteID(id)))
			suites = binary.BigEndian.AppendUint16(suites, id)
		}
		require.Equal(t, suites, hello.cipherSuites)
		require.NotEmpty(t, message.CompressionMethods)
		name, extendedMasterSecret := "", false
		for _, e := range message.Extensions {
			switch e := e.(type) {
			case *extension.ServerName:
				name = e.ServerName
			case *extension.UseExtendedMasterSecret:
				extendedMasterSecret = true
			}
		}
		require.Equal(t, name, string(hello.ServerName))
		require.Equal(t, extendedMasterSecret, hello.ExtendedMasterSecret)
		require.True(t, SameParameters(hello, hello))
	})
}

// pionServerHello returns the body of a ServerHello as pion writes it.
func pionServerHello(t testing.TB, extensions ...extension.Extension) []byte {
	t.Helper()
	id := uint16(0xc00a)
	message := &handshake.MessageServerHello{
		Version: protocol.Version1_2, Random: handshake.Random{RandomBytes: [28]byte{1, 2, 3}},
		SessionID: []byte("session"), CipherSuiteID: &id, CompressionMethod: &protocol.CompressionMethod{},
		Extensions: extensions,
	}
	body, err := message.Marshal()
	require.NoError(t, err)
	return body
}

func TestParseServerHelloRejectsTruncation(t *testing.T) {
	body := pionServerHello(t, &extension.UseExtendedMasterSecret{Supported: true}, &extension.ALPN{ProtocolNameList: []string{"coap"}})
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
	_, ok = ParseServerHello(append(body, 0))
	assert.False(t, ok, "a byte after the extensions")
}

func TestParseHellosWithConnectionID(t *testing.T) {
	hello, ok := parseClientHello(t, pionClientHello(t, 0, nil))
	require.True(t, ok)
	assert.False(t, hello.HasConnectionID || hello.RoutabilityCheck)
	for _, id := range []string{"", "a", strings.Repeat("a", 255)} {
		extension := extensionCase{extensionType: extensionConnectionID, data: string([]byte{byte(len(id))}) + id}.marshal()
		check := extensionCase{extensionType: extensionRoutabilityCheck}.marshal()
		client, ok := ParseClientHelloBody(clientHelloBody(extension))
		require.True(t, ok)
		assert.True(t, client.HasConnectionID && !client.RoutabilityCheck)
		assert.Equal(t, id, string(client.ConnectionID))
		server, ok := ParseServerHello(serverHelloBody(extension))
		require.True(t, ok)
		assert.Equal(t, ServerHello{Suite: 0xc0a8, ConnectionID: id, HasConnectionID: true}, server)

		client, ok = ParseClientHelloBody(clientHelloBody(append(check, extension...)))
		require.True(t, ok)
		assert.True(t, client.HasConnectionID && client.RoutabilityCheck)
		server, ok = ParseServerHello(serverHelloBody(append(check, extension...)))
		require.True(t, ok)
		assert.Equal(t, ServerHello{Suite: 0xc0a8, ConnectionID: id, HasConnectionID: true, RoutabilityCheck: true}, server)
	}
}

func TestParseServerHelloRejectsMalformedConnectionID(t *testing.T) {
	for _, e := range extensionCases {
		if e.extensionType == extensionConnectionID || e.extensionType == extensionRoutabilityCheck {
			_, ok := ParseServerHello(serverHelloBody(e.marshal()))
			assert.Equal(t, e.ok, ok, e.name)
		}
	}
}

// serverHelloBody returns the body of a ServerHello with the extensions, which are
// without their length.
func serverHelloBody(extensions []byte) []byte {
	body := append([]byte{254, 253}, make([]byte, 32+1)...)
	body = append(body, 0xc0, 0xa8, 0)
	return append(binary.BigEndian.AppendUint16(body, uint16(len(extensions))), extensions...)
}

func TestParseServerHelloRejectsMalformedExtensions(t *testing.T) {
	for name, extensions := range map[string][]extension.Extension{
		"two protocols":      {&extension.ALPN{ProtocolNameList: []string{"coap", "h2"}}},
		"an empty name":      {&extension.ALPN{ProtocolNameList: []string{""}}},
		"no protocol":        {&extension.ALPN{}},
		"an extension twice": {&extension.RenegotiationInfo{}, &extension.RenegotiationInfo{}},
	} {
		_, ok := ParseServerHello(pionServerHello(t, extensions...))
		assert.False(t, ok, name)
	}
}

// FuzzParseServerHello checks that pion parses each ServerHello that this package
// accepts, and to the same values, unless pion does not support it.
func FuzzParseServerHello(f *testing.F) {
	f.Add(pionServerHello(f))
	f.Add(pionServerHello(f, &extension.UseExtendedMasterSecret{Supported: true}, &extension.ALPN{ProtocolNameList: []string{"coap"}},
		&extension.RenegotiationInfo{}))
	f.Fuzz(func(t *testing.T, body []byte) {
		hello, ok := ParseServerHello(body)
		if !ok {
			return
		}
		var message handshake.MessageServerHello
		if message.Unmarshal(body) != nil {
			return
		}
		require.Equal(t, message.Random.MarshalFixed(), [32]byte(hello.Random))
		require.Equal(t, string(message.SessionID), hello.SessionID)
		require.Equal(t, *message.CipherSuiteID, uint16(hello.Suite))
		protocol, extendedMasterSecret := "", false
		for _, e := range message.Extensions {
			switch e := e.(type) {
			case *extension.ALPN:
				require.Len(t, e.ProtocolNameList, 1)
				protocol = e.ProtocolNameList[0]
			case *extension.UseExtendedMasterSecret:
				extendedMasterSecret = true
			}
		}
		require.Equal(t, protocol, hello.Protocol)
		require.Equal(t, extendedMasterSecret, hello.ExtendedMasterSecret)
	})
}
