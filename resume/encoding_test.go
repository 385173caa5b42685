// SPDX-License-Identifier: MIT

package resume

import (
	"bytes"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUnmarshalReturnsWhatMarshalEncoded(t *testing.T) {
	for name, s := range map[string]*Session{
		"all fields": fullSession(),
		"smallest":   {Secret: testSecret(0)},
		"largest":    {Secret: testSecret(1), Suite: 0xffff, Data: make([]byte, MaxData), Certificates: [][]byte{make([]byte, 60<<10)}},
		"old times":  {Secret: testSecret(2), Created: time.Unix(0, 0).UTC(), Expires: time.Date(-1000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := s.Marshal()
			require.NoError(t, err)
			decoded, err := Unmarshal(data)
			require.NoError(t, err)
			assert.Equal(t, s, decoded)

			clear(data)
			assert.Equal(t, s, decoded, "the session shares memory with the encoding")
		})
	}
}

// The encoding drops time zones, fractions of a millisecond and the difference between
// empty and nil slices. It keeps the zero time.
func TestMarshalRoundsTimesAndDropsEmptySlices(t *testing.T) {
	zone := time.FixedZone("", 3600)
	s := &Session{
		Secret: testSecret(1), PSKIdentity: []byte{}, Certificates: [][]byte{}, Data: []byte{},
		Created: testTime.Add(999 * time.Microsecond).In(zone),
	}
	data, err := s.Marshal()
	require.NoError(t, err)
	decoded, err := Unmarshal(data)
	require.NoError(t, err)
	assert.Equal(t, &Session{Secret: testSecret(1), Created: testTime}, decoded)
	assert.True(t, decoded.Verified.IsZero())
}

func TestMarshalRefusesInvalidSessions(t *testing.T) {
	for name, c := range map[string]struct {
		s    *Session
		want string
	}{
		"no secret":    {&Session{}, "a secret of 0 bytes: want 48"},
		"short secret": {&Session{Secret: make([]byte, 47)}, "a secret of 47 bytes: want 48"},
		"long secret":  {&Session{Secret: make([]byte, 49)}, "a secret of 49 bytes: want 48"},
		"long data":    {&Session{Secret: testSecret(1), Data: make([]byte, MaxData+1)}, "1025 bytes of data: want at most 1024"},
		"too large":    {&Session{Secret: testSecret(1), Certificates: [][]byte{make([]byte, MaxEncoded)}}, "want at most 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := c.s.Marshal()
			assert.ErrorContains(t, err, c.want)
			assert.Nil(t, data)
		})
	}
}

// encodeModified returns the encoding of a small session after a modification that
// Marshal would not make.
func encodeModified(t testing.TB, modify func(*encodedSession)) []byte {
	e := encodedSession{Version: formatVersion, Secret: testSecret(1)}
	modify(&e)
	data, err := asn1.Marshal(e)
	require.NoError(t, err)
	return data
}

func TestUnmarshalRefusesOtherInput(t *testing.T) {
	modified := func(modify func(*encodedSession)) []byte { return encodeModified(t, modify) }
	valid := modified(func(*encodedSession) {})
	_, err := Unmarshal(valid)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"no bytes":        {nil, "not a session"},
		"text":            {[]byte("no session at all"), "not a session"},
		"trailing byte":   {append(bytes.Clone(valid), 0), "trailing data after a session"},
		"trailing field":  {modified(func(e *encodedSession) { e.Trailing.FullBytes = []byte{4, 1, 7} }), "trailing data after a session"},
		"trailing fields": {modified(func(e *encodedSession) { e.Trailing.FullBytes = []byte{4, 1, 7, 4, 1, 7} }), "trailing data after a session"},
		"partial field":   {modified(func(e *encodedSession) { e.Trailing.FullBytes = []byte{4} }), "not a session"},
		"version 0":       {modified(func(e *encodedSession) { e.Version = 0 }), "version 0: want 1"},
		"version 2":       {modified(func(e *encodedSession) { e.Version = 2 }), "version 2: want 1"},
		"short secret":    {modified(func(e *encodedSession) { e.Secret = e.Secret[1:] }), "a secret of 47 bytes"},
		"no secret":       {modified(func(e *encodedSession) { e.Secret = nil }), "a secret of 0 bytes"},
		"long data":       {modified(func(e *encodedSession) { e.Data = make([]byte, MaxData+1) }), "1025 bytes of data"},
		"suite -1":        {modified(func(e *encodedSession) { e.Suite = -1 }), "cipher suite -1"},
		"suite 65536":     {modified(func(e *encodedSession) { e.Suite = 65536 }), "cipher suite 65536"},
		"too large":       {modified(func(e *encodedSession) { e.Scope = make([]byte, MaxEncoded) }), "want at most 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Unmarshal(c.data)
			assert.ErrorContains(t, err, c.want)
			assert.Nil(t, s)
		})
	}
	for n := range valid {
		_, err := Unmarshal(valid[:n])
		assert.Error(t, err, "the first %d bytes", n)
	}
}

// FuzzUnmarshal checks that Unmarshal does not panic and accepts one encoding only for
// each session.
func FuzzUnmarshal(f *testing.F) {
	full, err := fullSession().Marshal()
	require.NoError(f, err)
	f.Add(full)
	f.Add(encodeModified(f, func(*encodedSession) {}))
	f.Add(encodeModified(f, func(e *encodedSession) { e.Created, e.Expires, e.Verified = -1<<63, 1<<63-1, 0 }))
	f.Add(encodeModified(f, func(e *encodedSession) { e.Trailing = asn1.RawValue{FullBytes: []byte{5, 0}} }))
	f.Add([]byte("\x30\x80\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Unmarshal(data)
		if err != nil {
			assert.Nil(t, s)
			return
		}
		assert.Len(t, s.Secret, secretLen)
		assert.LessOrEqual(t, len(s.Data), MaxData)
		encoded, err := s.Marshal()
		require.NoError(t, err)
		assert.Equal(t, data, encoded)
	})
}

// FuzzSession checks that Unmarshal returns what Marshal encoded, for any session within
// the limits.
func FuzzSession(f *testing.F) {
	f.Add(byte(1), uint16(0xc0ac), true, "coap", "example.org", []byte("id"), []byte("leaf"), []byte("issuer"), int64(0), int64(1), "scope", []byte("data"))
	f.Add(byte(0), uint16(0), false, "\xff\x00", "", []byte(nil), []byte(nil), []byte(nil), int64(-1<<63), int64(1<<63-1), "\x80", make([]byte, MaxData))
	f.Fuzz(func(t *testing.T, secret byte, suite uint16, ems bool, protocol, server string, identity, leaf, issuer []byte, created, expires int64, scope string, data []byte) {
		s := &Session{
			Secret: testSecret(secret), Suite: suite, ExtendedMasterSecret: ems, Protocol: protocol, ServerName: server, PSKIdentity: nilIfEmpty(identity),
			Certificates: [][]byte{append([]byte{}, leaf...), append([]byte{}, issuer...)}, Verified: time.UnixMilli(created / 2).UTC(), Scope: scope,
			Created: time.UnixMilli(created).UTC(), Expires: time.UnixMilli(expires).UTC(), Data: nilIfEmpty(data),
		}
		encoded, err := s.Marshal()
		if err != nil {
			size := len(protocol) + len(server) + len(identity) + len(leaf) + len(issuer) + len(scope)
			assert.True(t, len(data) > MaxData || size+len(data) > MaxEncoded-200, "%v", err)
			return
		}
		decoded, err := Unmarshal(encoded)
		require.NoError(t, err)
		assert.Equal(t, s, decoded)
	})
}

func BenchmarkSession(b *testing.B) {
	for name, s := range map[string]*Session{
		"PSK":         {Secret: testSecret(1), Suite: 0xc0a8, PSKIdentity: []byte("device-17"), Scope: "devices", Created: testTime, Expires: testTime},
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
