// SPDX-License-Identifier: MIT

package redisstore

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testKeyring(t testing.TB, keys ...Key) keyring {
	t.Helper()
	ring, err := newKeyring(keys)
	require.NoError(t, err)
	return ring
}

// golden was sealed by other code, with nonce 0, 1, … 11.
func golden(t testing.TB) []byte {
	t.Helper()
	value, err := hex.DecodeString("0101020304000102030405060708090a0b" + "40d114e51615353dd04586f0be1f69f9c353162789ec03ac")
	require.NoError(t, err)
	return value
}

// The layout is a promise to other servers and to later versions.
func TestLayout(t *testing.T) {
	ring := testKeyring(t, testKey(0x01020304))
	for _, entry := range []string{"", "an entry"} {
		value := ring.seal("dsm:00", []byte(entry))
		assert.Equal(t, []byte{1, 1, 2, 3, 4}, value[:5])
		assert.Len(t, value, 5+12+len(entry)+16)
		opened, f := ring.open("dsm:00", value)
		assert.Equal(t, sound, f)
		assert.Equal(t, []byte(entry), opened)
	}
	opened, f := ring.open("dsm:00ff", golden(t))
	assert.Equal(t, sound, f)
	assert.Equal(t, "an entry", string(opened))
}

func TestNonceIsNew(t *testing.T) {
	ring := testKeyring(t, testKey(1))
	seen := make(map[string]bool)
	for range 1000 {
		seen[string(ring.seal("dsm:00", nil)[headerSize:headerSize+12])] = true
	}
	assert.Len(t, seen, 1000)
}

func TestUnsound(t *testing.T) {
	ring := testKeyring(t, testKey(1))
	value := ring.seal("dsm:00", []byte("an entry"))
	expect := func(want fault, name string, value []byte, what string, args ...any) {
		t.Helper()
		entry, f := ring.open(name, value)
		assert.Equalf(t, want, f, what, args...)
		assert.Nilf(t, entry, what, args...)
	}
	for n := range value {
		want := truncated
		if n >= headerSize+overhead {
			want = forged // it could be a shorter entry's
		}
		expect(want, "dsm:00", value[:n:n], "the first %d bytes", n)
	}
	for i := range value {
		for bit := range 8 {
			changed := append([]byte(nil), value...)
			changed[i] ^= 1 << bit
			want := forged
			switch {
			case i == 0:
				want = otherVersion
			case i < headerSize:
				want = unknownKey
			}
			expect(want, "dsm:00", changed, "bit %d of byte %d", bit, i)
		}
	}
	expect(forged, "dsm:00", append(append([]byte(nil), value...), 0), "one byte more")
	expect(forged, "dsm:01", value, "another id")
	expect(forged, "dsm:", value, "no id")
	expect(forged, "other:00", value, "another prefix")

	// The key's id is authentic too: another key under it does not open.
	key := testKey(2)
	key.ID = 1
	_, f := testKeyring(t, key).open("dsm:00", value)
	assert.Equal(t, forged, f)
	// And one secret under two ids makes two keys.
	key = testKey(1)
	key.ID = 2
	changed := append([]byte(nil), value...)
	changed[headerSize-1] = 2
	_, f = testKeyring(t, key).open("dsm:00", changed)
	assert.Equal(t, forged, f)
}

func FuzzOpen(f *testing.F) {
	ring, value := testKeyring(f, testKey(0x01020304)), golden(f)
	f.Add("dsm:00ff", value)
	f.Add("dsm:00ff", []byte(nil))
	f.Add("dsm:00fe", value[:headerSize+overhead])
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		entry, fault := ring.open(name, data)
		if name == "dsm:00ff" && string(data) == string(value) {
			assert.Equal(t, "an entry", string(entry))
			return
		}
		assert.NotEqual(t, sound, fault)
		assert.Nil(t, entry)
	})
}

func TestKeyIsNotShown(t *testing.T) {
	key := testKey(77)
	b := newBackend(t, Config{Client: newClient(t, Options("127.0.0.1:1")), Keys: []Key{key}})
	_, twice := New(Config{Client: b.client, Keys: []Key{key, key}})
	require.Error(t, twice)
	for _, shown := range []any{key, &key, []Key{key}, Config{Keys: []Key{key}}, b, b.keys, twice} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			text := fmt.Sprintf(verb, shown)
			for _, of := range []string{"%v", "%d", "%x", "%X", "%s", "%q"} {
				assert.NotContains(t, text, fmt.Sprintf(of, string(key.Secret[:4])))
				secret := fmt.Sprintf(of, key.Secret[:4])
				assert.NotContains(t, text, secret[1:len(secret)-1], "%s of %T", verb, shown)
			}
		}
	}
	assert.Equal(t, "{ID:77}", fmt.Sprint(key))
	text, err := json.Marshal(key)
	require.NoError(t, err)
	assert.JSONEq(t, `{"ID":77}`, string(text))
}
