// SPDX-License-Identifier: MIT

package redisstore

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/go-dsm/dsm/keyring"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const idEnd = headerSize + 4 // the version and the key's id

func testKeyring(t testing.TB, keys ...Key) *keyring.Ring {
	t.Helper()
	ring, err := newKeyring(keys)
	require.NoError(t, err)
	return ring
}

// knownValue returns "an entry" sealed by another implementation with key 0x01020304, for
// the name dsm:00ff and with the nonce 0, 1, … 11.
func knownValue(t testing.TB) []byte {
	t.Helper()
	value, err := hex.DecodeString("0101020304000102030405060708090a0b" + "40d114e51615353dd04586f0be1f69f9c353162789ec03ac")
	require.NoError(t, err)
	return value
}

// Other servers and later versions rely on the format.
func TestFormatOfSealedValue(t *testing.T) {
	ring := testKeyring(t, testKey(0x01020304))
	for _, want := range []string{"", "an entry"} {
		value := seal(ring, "dsm:00", []byte(want))
		assert.Equal(t, []byte{1, 1, 2, 3, 4}, value[:5])
		assert.Len(t, value, 5+12+len(want)+16)
		entry, result := open(ring, "dsm:00", value)
		assert.Equal(t, opened, result)
		assert.Equal(t, []byte(want), entry)
	}
	entry, result := open(ring, "dsm:00ff", knownValue(t))
	assert.Equal(t, opened, result)
	assert.Equal(t, "an entry", string(entry))
}

// The values were sealed by the code that this package had before package keyring existed.
func TestOpensValuesOfEarlierVersions(t *testing.T) {
	key := Key{ID: 0xa1b2c3d4}
	for i := range key.Secret {
		key.Secret[i] = byte(0xe0 + i)
	}
	ring := testKeyring(t, testKey(1), key)
	for value, want := range map[string]string{
		"01a1b2c3d4da368ae02b694cfb459b3c159c88fbc1448e675ebe1eebb615ca215b6557661d7da7d7c1ac542993fb4d35a9dffc98880d463d8a9155c9f237": "sealed before package keyring",
		"01a1b2c3d4e92ce4ccfcf93a0898441584315c77f942a364a3e50a9ae982acfa8a":                                                           "",
	} {
		sealed, err := hex.DecodeString(value)
		require.NoError(t, err)
		entry, result := open(ring, "dsm:c0ffee", sealed)
		assert.Equal(t, opened, result)
		assert.Equal(t, []byte(want), entry)
		_, result = open(ring, "dsm:c0ffef", sealed)
		assert.Equal(t, forged, result)
	}
}

func TestEachSealedValueHasNewNonce(t *testing.T) {
	ring := testKeyring(t, testKey(1))
	nonces := make(map[string]bool)
	for range 1000 {
		nonces[string(seal(ring, "dsm:00", nil)[idEnd:idEnd+12])] = true
	}
	assert.Len(t, nonces, 1000)
}

func TestOpenRefusesModifiedValues(t *testing.T) {
	ring := testKeyring(t, testKey(1))
	value := seal(ring, "dsm:00", []byte("an entry"))
	expect := func(want openResult, name string, value []byte, format string, args ...any) {
		t.Helper()
		entry, result := open(ring, name, value)
		assert.Equalf(t, want, result, format, args...)
		assert.Nilf(t, entry, format, args...)
	}
	for n := range value {
		want := truncated
		if n >= headerSize+keyring.Overhead {
			want = forged // as long as the value of a shorter entry
		}
		expect(want, "dsm:00", value[:n:n], "the first %d bytes", n)
	}
	for i := range value {
		for bit := range 8 {
			modified := append([]byte(nil), value...)
			modified[i] ^= 1 << bit
			want := forged
			switch {
			case i == 0:
				want = otherVersion
			case i < idEnd:
				want = unknownKey
			}
			expect(want, "dsm:00", modified, "bit %d of byte %d", bit, i)
		}
	}
	expect(forged, "dsm:00", append(append([]byte(nil), value...), 0), "one byte more")
	expect(forged, "dsm:01", value, "another id")
	expect(forged, "dsm:", value, "no id")
	expect(forged, "other:00", value, "another prefix")

	// Another secret with the same key id does not open the value.
	key := testKey(2)
	key.ID = 1
	_, result := open(testKeyring(t, key), "dsm:00", value)
	assert.Equal(t, forged, result)
	// The same secret with another key id does not open it either.
	key = testKey(1)
	key.ID = 2
	modified := append([]byte(nil), value...)
	modified[idEnd-1] = 2
	_, result = open(testKeyring(t, key), "dsm:00", modified)
	assert.Equal(t, forged, result)
}

// FuzzOpen checks that open accepts one value and name only.
func FuzzOpen(f *testing.F) {
	ring, value := testKeyring(f, testKey(0x01020304)), knownValue(f)
	f.Add("dsm:00ff", value)
	f.Add("dsm:00ff", []byte(nil))
	f.Add("dsm:00fe", value[:headerSize+keyring.Overhead])
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		entry, result := open(ring, name, data)
		if name == "dsm:00ff" && string(data) == string(value) {
			assert.Equal(t, "an entry", string(entry))
			return
		}
		assert.NotEqual(t, opened, result)
		assert.Nil(t, entry)
	})
}

func TestPrintedKeyHidesSecret(t *testing.T) {
	key := testKey(77)
	b := newBackend(t, Config{Client: newClient(t, Options("127.0.0.1:1")), Keys: []Key{key}})
	_, errTwice := New(Config{Client: b.client, Keys: []Key{key, key}})
	require.Error(t, errTwice)
	for _, printed := range []any{key, &key, []Key{key}, Config{Keys: []Key{key}}, b, b.keys, errTwice} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			text := fmt.Sprintf(verb, printed)
			for _, secretVerb := range []string{"%v", "%d", "%x", "%X", "%s", "%q"} {
				assert.NotContains(t, text, fmt.Sprintf(secretVerb, string(key.Secret[:4])))
				secret := fmt.Sprintf(secretVerb, key.Secret[:4])
				assert.NotContains(t, text, secret[1:len(secret)-1], "%s of %T", verb, printed)
			}
		}
	}
	assert.Equal(t, "{ID:77}", fmt.Sprint(key))
	text, err := json.Marshal(key)
	require.NoError(t, err)
	assert.JSONEq(t, `{"ID":77}`, string(text))
}
