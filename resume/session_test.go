// SPDX-License-Identifier: MIT

package resume

import (
	"bytes"
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

// testSecret returns a master secret that repeats one byte.
func testSecret(b byte) []byte { return bytes.Repeat([]byte{b}, secretLen) }

var testTime = time.Date(2026, 3, 1, 12, 30, 45, 678e6, time.UTC)

// fullSession returns a Session with every field set. Its leaf certificate has 500 bytes,
// about the length of a real one.
func fullSession() *Session {
	return &Session{
		Secret: testSecret('S'), Suite: 0xc0ac, ExtendedMasterSecret: true, Protocol: "coap\xff", ServerName: "example.org",
		PSKIdentity: []byte("device-17"), Certificates: [][]byte{bytes.Repeat([]byte{0x30}, 500), {}, {1}}, Verified: testTime.Add(-time.Second),
		Scope: "devices", Created: testTime, Expires: testTime.Add(time.Hour), Data: []byte("secret of the application"),
	}
}

func TestPrintedSessionHidesSecretAndData(t *testing.T) {
	s := fullSession()
	s.Data = []byte("DATADATADATA")
	var log bytes.Buffer
	textLogger := slog.New(slog.NewTextHandler(&log, nil))
	jsonLogger := slog.New(slog.NewJSONHandler(&log, nil))
	type holder struct {
		Session Session
		Pointer *Session
	}
	h := holder{*s, s}
	for _, l := range []*slog.Logger{textLogger, jsonLogger} {
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
		assert.False(t, strings.Contains(out, secret), secret) // assert.NotContains would print all of out
	}
	for _, data := range [][]byte{s.Secret, s.Data} {
		assert.False(t, strings.Contains(strings.ToLower(out), hex.EncodeToString(data[:4])), "in hexadecimal")
	}
	assert.Equal(t, `session of suite 0xc0ac, extended master secret true, protocol "coap\xff", server name "example.org", PSK identity "device-17", `+
		`3 certificates, verified 2026-03-01T12:30:44Z, scope "devices", created 2026-03-01T12:30:45Z, expires 2026-03-01T13:30:45Z, 12 bytes of data`,
		s.String())
	assert.Contains(t, Session{}.String(), "verified never")
	long := Session{ServerName: strings.Repeat("n", 5000), PSKIdentity: make([]byte, 5000), Protocol: strings.Repeat("p", 255)}
	assert.Less(t, len(long.String()), 1000, "names that a client chooses are cut")
	assert.Equal(t, s.String(), fmt.Sprintf("%#v", s))
	assert.Contains(t, log.String(), `session="session of suite 0xc0ac`)
	assert.Contains(t, log.String(), `"session":"session of suite 0xc0ac`)
	assert.Equal(t, "<nil>", fmt.Sprint((*Session)(nil)))
}
