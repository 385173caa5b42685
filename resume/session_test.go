// SPDX-License-Identifier: MIT

package resume

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// secretOf is a master secret of one byte.
func secretOf(b byte) []byte { return bytes.Repeat([]byte{b}, secretLen) }

var someTime = time.Date(2026, 3, 1, 12, 30, 45, 678e6, time.UTC)

// fullSession has every field set; a client certificate takes some 500 bytes.
func fullSession() *Session {
	return &Session{
		Secret: secretOf('S'), Suite: 0xc0ac, ExtendedMasterSecret: true, Protocol: "coap\xff", ServerName: "example.org",
		PSKIdentity: []byte("device-17"), Certificates: [][]byte{bytes.Repeat([]byte{0x30}, 500), {}, {1}}, Verified: someTime.Add(-time.Second),
		Scope: "devices", Created: someTime, Expires: someTime.Add(time.Hour), Data: []byte("secret of the application"),
	}
}

func TestSessionRoundTrip(t *testing.T) {
	for name, s := range map[string]*Session{
		"full":    fullSession(),
		"least":   {Secret: secretOf(0)},
		"largest": {Secret: secretOf(1), Suite: 0xffff, Data: make([]byte, MaxData), Certificates: [][]byte{make([]byte, 60<<10)}},
		"old":     {Secret: secretOf(2), Created: time.Unix(0, 0).UTC(), Expires: time.Date(-1000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := s.Marshal()
			require.NoError(t, err)
			again, err := Unmarshal(data)
			require.NoError(t, err)
			assert.Equal(t, s, again)

			clear(data)
			assert.Equal(t, s, again, "the session shares memory with its bytes")
		})
	}
}

// What is lost, and no more.
func TestSessionRounding(t *testing.T) {
	zone := time.FixedZone("", 3600)
	s := &Session{
		Secret: secretOf(1), PSKIdentity: []byte{}, Certificates: [][]byte{}, Data: []byte{},
		Created: someTime.Add(999 * time.Microsecond).In(zone),
	}
	data, err := s.Marshal()
	require.NoError(t, err)
	again, err := Unmarshal(data)
	require.NoError(t, err)
	assert.Equal(t, &Session{Secret: secretOf(1), Created: someTime}, again)
	assert.True(t, again.Verified.IsZero())
}

func TestMarshalRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		s    *Session
		want string
	}{
		"no secret":    {&Session{}, "a secret of 0 bytes: want 48"},
		"short secret": {&Session{Secret: make([]byte, 47)}, "a secret of 47 bytes: want 48"},
		"long secret":  {&Session{Secret: make([]byte, 49)}, "a secret of 49 bytes: want 48"},
		"much data":    {&Session{Secret: secretOf(1), Data: make([]byte, MaxData+1)}, "1025 bytes of data: want at most 1024"},
		"much in all":  {&Session{Secret: secretOf(1), Certificates: [][]byte{make([]byte, MaxEncoded)}}, "want at most 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := c.s.Marshal()
			assert.ErrorContains(t, err, c.want)
			assert.Nil(t, data)
		})
	}
}

// der is an encoded session, changed.
func der(t testing.TB, change func(*encoded)) []byte {
	e := encoded{Version: formatVersion, Secret: secretOf(1)}
	change(&e)
	data, err := asn1.Marshal(e)
	require.NoError(t, err)
	return data
}

func TestUnmarshalRefuses(t *testing.T) {
	good := der(t, func(*encoded) {})
	_, err := Unmarshal(good)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":         {nil, "not a session"},
		"text":            {[]byte("no session at all"), "not a session"},
		"trailing byte":   {append(bytes.Clone(good), 0), "more than a session"},
		"trailing field":  {der(t, func(e *encoded) { e.More = asn1.RawValue{FullBytes: []byte{4, 1, 7}} }), "more than a session"},
		"trailing fields": {der(t, func(e *encoded) { e.More = asn1.RawValue{FullBytes: []byte{4, 1, 7, 4, 1, 7}} }), "more than a session"},
		"trailing rest":   {der(t, func(e *encoded) { e.More = asn1.RawValue{FullBytes: []byte{4}} }), "not a session"},
		"version 0":       {der(t, func(e *encoded) { e.Version = 0 }), "version 0: want 1"},
		"version 2":       {der(t, func(e *encoded) { e.Version = 2 }), "version 2: want 1"},
		"short secret":    {der(t, func(e *encoded) { e.Secret = e.Secret[1:] }), "a secret of 47 bytes"},
		"no secret":       {der(t, func(e *encoded) { e.Secret = nil }), "a secret of 0 bytes"},
		"much data":       {der(t, func(e *encoded) { e.Data = make([]byte, MaxData+1) }), "1025 bytes of data"},
		"suite -1":        {der(t, func(e *encoded) { e.Suite = -1 }), "cipher suite -1"},
		"suite 65536":     {der(t, func(e *encoded) { e.Suite = 65536 }), "cipher suite 65536"},
		"much in all":     {der(t, func(e *encoded) { e.Scope = make([]byte, MaxEncoded) }), "want at most 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Unmarshal(c.data)
			assert.ErrorContains(t, err, c.want)
			assert.Nil(t, s)
		})
	}
	for n := range good {
		_, err := Unmarshal(good[:n])
		assert.Error(t, err, "the first %d bytes", n)
	}
}

// FuzzUnmarshal wants no panic, and no two encodings of one session.
func FuzzUnmarshal(f *testing.F) {
	full, err := fullSession().Marshal()
	require.NoError(f, err)
	f.Add(full)
	f.Add(der(f, func(*encoded) {}))
	f.Add(der(f, func(e *encoded) { e.Created, e.Expires, e.Verified = -1<<63, 1<<63-1, 0 }))
	f.Add(der(f, func(e *encoded) { e.More = asn1.RawValue{FullBytes: []byte{5, 0}} }))
	f.Add([]byte("\x30\x80\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Unmarshal(data)
		if err != nil {
			assert.Nil(t, s)
			return
		}
		assert.Len(t, s.Secret, secretLen)
		assert.LessOrEqual(t, len(s.Data), MaxData)
		again, err := s.Marshal()
		require.NoError(t, err)
		assert.Equal(t, data, again)
	})
}

// FuzzSession makes sessions, which have to survive the round trip.
func FuzzSession(f *testing.F) {
	f.Add(byte(1), uint16(0xc0ac), true, "coap", "example.org", []byte("id"), []byte("leaf"), []byte("issuer"), int64(0), int64(1), "scope", []byte("data"))
	f.Add(byte(0), uint16(0), false, "\xff\x00", "", []byte(nil), []byte(nil), []byte(nil), int64(-1<<63), int64(1<<63-1), "\x80", make([]byte, MaxData))
	f.Fuzz(func(t *testing.T, secret byte, suite uint16, ems bool, protocol, server string, identity, leaf, issuer []byte, created, expires int64, scope string, data []byte) {
		s := &Session{
			Secret: secretOf(secret), Suite: suite, ExtendedMasterSecret: ems, Protocol: protocol, ServerName: server, PSKIdentity: orNil(identity),
			Certificates: [][]byte{append([]byte{}, leaf...), append([]byte{}, issuer...)}, Verified: time.UnixMilli(created / 2).UTC(), Scope: scope,
			Created: time.UnixMilli(created).UTC(), Expires: time.UnixMilli(expires).UTC(), Data: orNil(data),
		}
		encoded, err := s.Marshal()
		if err != nil {
			size := len(protocol) + len(server) + len(identity) + len(leaf) + len(issuer) + len(scope)
			assert.True(t, len(data) > MaxData || size+len(data) > MaxEncoded-200, "%v", err)
			return
		}
		again, err := Unmarshal(encoded)
		require.NoError(t, err)
		assert.Equal(t, s, again)
	})
}

// No way of printing a session shows its secret or its data.
func TestSessionShowsNoSecret(t *testing.T) {
	s := fullSession()
	s.Data = []byte("DATADATADATA")
	var log bytes.Buffer
	text := slog.New(slog.NewTextHandler(&log, nil))
	jsons := slog.New(slog.NewJSONHandler(&log, nil))
	type holder struct {
		Session Session
		Pointer *Session
	}
	h := holder{*s, s}
	for _, l := range []*slog.Logger{text, jsons} {
		l.Info("one", "session", s)
		l.Info("one", "session", *s)
		l.Info("one", "session", []Session{*s})
		l.Info("one", "session", h)
	}
	marshalled, err := json.Marshal([]any{s, *s, h})
	require.NoError(t, err)
	out := log.String() + string(marshalled) + s.String() + fmt.Sprint(s, *s, h) + fmt.Sprintln(s)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%c", "%U", "%o", "%t", "%100.100v"} {
		out += fmt.Sprintf(verb+verb+verb+verb+verb, s, *s, []*Session{s}, map[string]Session{"a": *s}, h)
	}
	out += fmt.Errorf("of %v", s).Error()

	for _, secret := range []string{"SSSS", "DATA", `83, 83`, "83 83", "68 65 84", "0x53, 0x53", "53 53"} {
		assert.False(t, strings.Contains(out, secret), secret) // out is long
	}
	for _, data := range [][]byte{s.Secret, s.Data} {
		assert.False(t, strings.Contains(strings.ToLower(out), hex.EncodeToString(data[:4])), "in hexadecimal")
	}
	assert.Equal(t, `session of suite 0xc0ac, extended master secret true, protocol "coap\xff", server name "example.org", PSK identity "device-17", `+
		`3 certificates, verified 2026-03-01T12:30:44Z, scope "devices", created 2026-03-01T12:30:45Z, expires 2026-03-01T13:30:45Z, 12 bytes of data`,
		s.String())
	assert.Contains(t, Session{}.String(), "verified never")
	assert.Equal(t, s.String(), fmt.Sprintf("%#v", s))
	assert.Contains(t, log.String(), `session="session of suite 0xc0ac`)
	assert.Contains(t, log.String(), `"session":"session of suite 0xc0ac`)
	assert.Equal(t, "<nil>", fmt.Sprint((*Session)(nil)))
}

func BenchmarkSession(b *testing.B) {
	for name, s := range map[string]*Session{
		"PSK":         {Secret: secretOf(1), Suite: 0xc0a8, PSKIdentity: []byte("device-17"), Scope: "devices", Created: someTime, Expires: someTime},
		"certificate": fullSession(),
	} {
		data, err := s.Marshal()
		require.NoError(b, err)
		b.Run("Marshal/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.ReportMetric(float64(len(data)), "bytes")
			for b.Loop() {
				s.Marshal()
			}
		})
		b.Run("Unmarshal/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Unmarshal(data)
			}
		})
	}
}
