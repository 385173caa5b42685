// SPDX-License-Identifier: MIT

package keyring

import (
	"encoding/hex"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func testRing(t testing.TB, keys ...Key) *Ring {
	t.Helper()
	ring, err := New(keys...)
	require.NoError(t, err)
	return ring
}

// knownValue returns "plaintext" sealed by another implementation with key 0x01020304, the
// additional data "additional" and the nonce 0, 1, … 11.
func knownValue(t testing.TB) (header, sealed []byte) {
	t.Helper()
	value, err := hex.DecodeString("68656164657201020304000102030405060708090a0b51d355e91615223c2a932eacaf248c985fa0e413489bf674b4")
	require.NoError(t, err)
	return value[:6:6], value[6:]
}

func TestNewRefusesUnusableKeys(t *testing.T) {
	for _, test := range []struct {
		want string
		keys []Key
	}{
		{"no keys", nil},
		{"key 7 is all zero", []Key{testKey(1), {ID: 7}}},
		{"key 1 twice", []Key{testKey(1), testKey(2), testKey(1)}},
		{"keys 1 and 3 have the same secret", []Key{testKey(1), testKey(2), {ID: 3, Secret: testKey(1).Secret}}},
	} {
		ring, err := New(test.keys...)
		require.Nil(t, ring)
		require.ErrorContains(t, err, "keyring: ")
		require.ErrorContains(t, err, test.want)
	}
}

// Values on disks and in Redis rely on the format.
func TestFormatOfSealedValue(t *testing.T) {
	ring := testRing(t, testKey(0x01020304))
	for _, dst := range [][]byte{[]byte("header"), append(make([]byte, 0, 100), "header"...)} {
		value := ring.Seal(dst, []byte("plaintext"), []byte("additional"))
		require.Equal(t, "header\x01\x02\x03\x04", string(value[:10]))
		require.Len(t, value, len("header")+Overhead+len("plaintext"))
		opened, err := ring.Open([]byte("dst "), value[:6], value[6:], []byte("additional"))
		require.NoError(t, err)
		require.Equal(t, "dst plaintext", string(opened))
	}
	header, sealed := knownValue(t)
	opened, err := ring.Open(nil, header, sealed, []byte("additional"))
	require.NoError(t, err)
	require.Equal(t, "plaintext", string(opened))
}

func TestOpensEmptyPlaintext(t *testing.T) {
	ring := testRing(t, testKey(1))
	sealed := ring.Seal(nil, nil, nil)
	require.Len(t, sealed, Overhead)
	opened, err := ring.Open([]byte{}, nil, sealed, nil)
	require.NoError(t, err)
	require.Equal(t, []byte{}, opened)
}

func TestFirstKeySealsAndAllOpen(t *testing.T) {
	before, after := testRing(t, testKey(1), testKey(2)), testRing(t, testKey(2), testKey(1))
	for _, ring := range []*Ring{before, after} {
		sealed := ring.Seal(nil, []byte("secret"), nil)
		require.EqualValues(t, ring.firstID, sealed[3])
		for _, other := range []*Ring{before, after} {
			opened, err := other.Open(nil, nil, sealed, nil)
			require.NoError(t, err)
			require.Equal(t, "secret", string(opened))
		}
	}
	var unknown *UnknownKeyError
	_, err := testRing(t, testKey(1)).Open(nil, nil, after.Seal(nil, nil, nil), nil)
	require.ErrorAs(t, err, &unknown)
	require.EqualValues(t, 2, unknown.ID)
}

func TestEachSealedValueHasNewNonce(t *testing.T) {
	ring := testRing(t, testKey(1))
	nonces := make(map[string]bool)
	for range 1000 {
		nonces[string(ring.Seal(nil, nil, nil)[idSize:idSize+12])] = true
	}
	require.Len(t, nonces, 1000)
}

func TestOpenRefusesModifiedValues(t *testing.T) {
	ring := testRing(t, testKey(0x01020304))
	header, sealed := knownValue(t)
	additional := []byte("additional")
	refuses := func(want error, header, sealed, additional []byte) {
		t.Helper()
		opened, err := ring.Open([]byte("dst"), header, sealed, additional)
		require.Nil(t, opened)
		if want == nil {
			var unknown *UnknownKeyError
			require.ErrorAs(t, err, &unknown)
			return
		}
		require.Equal(t, want, err)
	}
	for n := range sealed {
		want := ErrTruncated
		if n >= Overhead {
			want = ErrForged // as long as a shorter value
		}
		refuses(want, header, sealed[:n:n], additional)
	}
	eachBit := func(b []byte, f func(i int, modified []byte)) {
		for i := range b {
			for bit := range 8 {
				modified := slices.Clone(b)
				modified[i] ^= 1 << bit
				f(i, modified)
			}
		}
	}
	eachBit(sealed, func(i int, modified []byte) {
		want := ErrForged
		if i < idSize {
			want = nil
		}
		refuses(want, header, modified, additional)
	})
	eachBit(header, func(_ int, modified []byte) { refuses(ErrForged, modified, sealed, additional) })
	eachBit(additional, func(_ int, modified []byte) { refuses(ErrForged, header, sealed, modified) })
	refuses(ErrForged, nil, sealed, additional)
	refuses(ErrForged, header, sealed, nil)
	refuses(ErrForged, header, append(slices.Clone(sealed), 0), additional)

	// Another secret with the same ID does not open the value.
	key := testKey(2)
	key.ID = 0x01020304
	ring = testRing(t, key)
	refuses(ErrForged, header, sealed, additional)
	// The same secret with another ID does not open it either.
	key = testKey(0x01020304)
	key.ID++
	ring = testRing(t, key)
	modified := slices.Clone(sealed)
	modified[idSize-1]++
	refuses(ErrForged, header, modified, additional)
}

// FuzzOpen checks that Open accepts one value only.
func FuzzOpen(f *testing.F) {
	ring := testRing(f, testKey(0x01020304))
	header, sealed := knownValue(f)
	f.Add(header, sealed, []byte("additional"))
	f.Add([]byte(nil), []byte(nil), []byte(nil))
	f.Add(header, sealed[:Overhead], []byte("additional"))
	f.Fuzz(func(t *testing.T, h, s, a []byte) {
		opened, err := ring.Open(nil, h, s, a)
		if string(h) == string(header) && string(s) == string(sealed) && string(a) == "additional" {
			require.Equal(t, "plaintext", string(opened))
			return
		}
		require.Error(t, err)
		require.Nil(t, opened)
	})
}
