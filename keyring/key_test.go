// SPDX-License-Identifier: MIT

package keyring

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

// testKey returns a key whose secret is derived from its ID.
func testKey(id uint32) Key {
	key := Key{ID: id}
	for i := range key.Secret {
		key.Secret[i] = byte(id) ^ byte(0x5a+i)
	}
	return key
}

// requireNoSecret fails if text has the first bytes of the key's secret in any of the forms
// that package fmt has for bytes.
func requireNoSecret(t *testing.T, key Key, text, what string) {
	t.Helper()
	for _, verb := range []string{"%v", "%d", "%x", "%X", "%s", "%q", "%#v"} {
		require.NotContains(t, text, fmt.Sprintf(verb, string(key.Secret[:4])), what)
		secret := fmt.Sprintf(verb, key.Secret[:4])
		require.NotContains(t, text, secret[1:len(secret)-1], what)
	}
}

func TestPrintedKeyHidesSecret(t *testing.T) {
	key := testKey(77)
	ring, err := New(key)
	require.NoError(t, err)
	_, errTwice := New(key, key)
	require.Error(t, errTwice)
	for _, printed := range []any{key, &key, []Key{key}, map[string]Key{"": key}, struct{ K Key }{key}, ring, *ring, errTwice} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%t"} {
			requireNoSecret(t, key, fmt.Sprintf(verb, printed), fmt.Sprintf("%s of %T", verb, printed))
		}
	}
	require.Equal(t, "{ID:77}", fmt.Sprint(key))
}

func TestLoggedKeyHidesSecret(t *testing.T) {
	key := testKey(77)
	var log bytes.Buffer
	text, json := slog.New(slog.NewTextHandler(&log, nil)), slog.New(slog.NewJSONHandler(&log, nil))
	for _, l := range []*slog.Logger{text, json} {
		for _, logged := range []any{key, &key, []Key{key}, struct{ K Key }{key}} {
			log.Reset()
			l.Info("", "key", logged)
			require.Contains(t, log.String(), "77")
			requireNoSecret(t, key, log.String(), fmt.Sprintf("%T", logged))
		}
	}
	log.Reset()
	text.Info("", "key", key)
	require.Contains(t, log.String(), "key.ID=77")
}

func TestMarshalledKeyHidesSecret(t *testing.T) {
	text, err := json.Marshal(testKey(77))
	require.NoError(t, err)
	require.JSONEq(t, `{"ID":77}`, string(text))
}
