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

// pionHello is a ClientHello as pion writes it, in a record.
func pionHello(t testing.TB, messageSeq uint16, cookie []byte, extensions ...extension.Extension) []byte {
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
	return rec(TypeHandshake, 0, 0, raw...)
}

func parse(t testing.TB, raw []byte) (ClientHello, bool) {
	r, rest, fault := Next(raw)
	require.Equal(t, NoFault, fault)
	require.Empty(t, rest)
	return ParseClientHello(r)
}

func TestParseClientHello(t *testing.T) {
	hello, ok := parse(t, pionHello(t, 0, nil))
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

	hello, ok = parse(t, pionHello(t, 1, make([]byte, 20),
		&extension.ServerName{ServerName: "example.org"}, &extension.UseExtendedMasterSecret{Supported: true}))
	require.True(t, ok)
	assert.Equal(t, uint16(1), hello.MessageSeq)
	assert.Equal(t, make([]byte, 20), hello.Cookie)
	assert.Equal(t, "example.org", string(hello.ServerName))
	assert.True(t, hello.ExtendedMasterSecret)

	for want, body := range map[string][]byte{
		"a": {0, 8, 1, 0, 1, 'x', 0, 0, 1, 'a'}, // after a name of another kind
		"":  {0, 4, 0, 0, 2, 'a'},               // over the end
	} {
		assert.Equal(t, want, string(hostName(body)))
	}
}

// Every byte that a length is made of, changed, and every end, cut off: nothing is
// taken for a ClientHello whose lengths do not agree.
func TestParseClientHelloRefuses(t *testing.T) {
	sound := pionHello(t, 0, make([]byte, 8), &extension.UseExtendedMasterSecret{Supported: true})
	const (
		message   = HeaderSize
		body      = message + handshakeHeaderSize
		sessionID = body + 2 + 32
		cookie    = sessionID + 1 + 7
		suiteIDs  = cookie + 1 + 8
		methods   = suiteIDs + 2 + 4
		exts      = methods + 2
	)
	for name, change := range map[string]func(b []byte){
		"another content type":              func(b []byte) { b[0] = byte(TypeApplicationData) },
		"another epoch":                     func(b []byte) { b[4] = 1 },
		"another message":                   func(b []byte) { b[message] = MessageServerHello },
		"longer than its record":            func(b []byte) { b[message+3]++ },
		"a fragment of it":                  func(b []byte) { b[message+11]-- },
		"a fragment from the middle of it":  func(b []byte) { b[message+8]++ },
		"TLS's version":                     func(b []byte) { b[body] = 3 },
		"a session id over its bound":       func(b []byte) { b[sessionID] = 33 },
		"a session id over the end":         func(b []byte) { b[sessionID] = 255 },
		"a cookie over the end":             func(b []byte) { b[cookie] = 255 },
		"no suites":                         func(b []byte) { b[suiteIDs+1] = 0 },
		"half a suite":                      func(b []byte) { b[suiteIDs+1] = 3 },
		"suites over the end":               func(b []byte) { b[suiteIDs] = 255 },
		"no compression method":             func(b []byte) { b[methods] = 0 },
		"compression methods over the end":  func(b []byte) { b[methods] = 255 },
		"extensions over the end":           func(b []byte) { b[exts+1]++ },
		"something after the extensions":    func(b []byte) { b[exts+1]-- },
		"an extension over the end of them": func(b []byte) { b[exts+5]++ },
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(sound)
			change(b)
			_, ok := parse(t, b)
			assert.False(t, ok)
		})
	}
	_, ok := parse(t, sound)
	require.True(t, ok)
	for cut := range len(sound) - body {
		// The record and the message say their new length, so that only what is in it is short.
		b := bytes.Clone(sound[:len(sound)-1-cut])
		b[11], b[12] = 0, byte(len(b)-HeaderSize)
		b[message+3], b[message+11] = byte(len(b)-body), byte(len(b)-body)
		_, ok := parse(t, b)
		// A ClientHello may end before the extensions.
		assert.Equal(t, len(b) == exts, ok, "cut to %d bytes", len(b))
	}
	_, ok = parse(t, append(sound[:11:11], append([]byte{0, byte(len(sound))}, append(sound[13:], make([]byte, 13)...)...)...))
	assert.False(t, ok, "something after the message")
}

func TestParseServerHello(t *testing.T) {
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
		cut, ok := ParseServerHello(body[:n])
		// It may end before the extensions.
		assert.Equal(t, n == 2+32+1+7+3, ok, n)
		assert.Empty(t, cut.Protocol)
	}
}

func TestNextHandshake(t *testing.T) {
	r, _, _ := Next(pionHello(t, 3, nil))
	two := append(bytes.Clone(r.Fragment()), r.Fragment()...)
	h, rest, ok := NextHandshake(two)
	require.True(t, ok)
	assert.Equal(t, r.Fragment(), rest)
	assert.True(t, h.Complete())
	assert.Equal(t, uint16(3), h.MessageSeq)
	assert.EqualValues(t, MessageClientHello, h.Type)
	_, _, ok = NextHandshake(two[:handshakeHeaderSize-1])
	assert.False(t, ok)
}

func TestAlert(t *testing.T) {
	for _, c := range []struct {
		payload    []byte
		want       Alert
		ok, ending bool
	}{
		{[]byte{1, 0}, Alert{LevelWarning, CloseNotify}, true, true},
		{[]byte{2, 0}, Alert{LevelFatal, CloseNotify}, true, true},
		{[]byte{2, 40}, Alert{LevelFatal, 40}, true, true},
		{[]byte{1, 100}, Alert{LevelWarning, NoRenegotiation}, true, false},
		{[]byte{3, 0}, Alert{}, false, false},
		{[]byte{1}, Alert{}, false, false},
		{[]byte{1, 0, 0}, Alert{}, false, false},
	} {
		a, ok := ParseAlert(c.payload)
		assert.Equal(t, c.want, a)
		assert.Equal(t, c.ok, ok)
		if ok {
			assert.Equal(t, c.ending, a.EndsSession())
			assert.Equal(t, c.payload, a.Payload())
		}
	}
}
