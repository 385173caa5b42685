// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"hash"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// forEachCBC calls f with each CBC suite, with connection IDs and without.
func forEachCBC(t *testing.T, f func(t *testing.T, id SuiteID, connectionID []byte)) {
	forEachSuite(t, func(t *testing.T, id SuiteID) {
		if suiteOf(id).mode != modeCBC {
			t.Skip("an AEAD suite has no padding")
		}
		f(t, id, nil)
		f(t, id, idOf(1, 8))
	})
}

// cbcRecord returns a record that the peer of to can make, because it has the keys: what is
// encrypted is as given.
func cbcRecord(t *testing.T, to *Session, sequence uint64, clear []byte) Record {
	t.Helper()
	c, err := to.buildCiphers()
	require.NoError(t, err)
	fragment := make([]byte, cbcIVSize+len(clear))
	cipher.NewCBCEncrypter(c.remote.(*cbcProtection).block, fragment[:cbcIVSize]).CryptBlocks(fragment[cbcIVSize:], clear)
	if id := to.ConnectionID(); len(id) > 0 {
		return parseFor(t, to, newRecordWithID(id, 1, sequence, fragment...))
	}
	return parseOne(t, newRecord(TypeApplicationData, 1, sequence, fragment...))
}

// withMAC returns an inner plaintext with its MAC.
func withMAC(t *testing.T, to *Session, sequence uint64, inner []byte) []byte {
	t.Helper()
	header := cbcRecord(t, to, sequence, make([]byte, 4*aes.BlockSize))
	sum := to.ciphers.remote.(*cbcProtection).sign(header.Raw[:header.headerSize()], inner)
	return append(bytes.Clone(inner), sum...)
}

// TestOpenTakesPaddingOfEachLength: a peer may use up to 256 bytes, to hide the length of
// the payload.
func TestOpenTakesPaddingOfEachLength(t *testing.T) {
	forEachCBC(t, func(t *testing.T, id SuiteID, connectionID []byte) {
		_, server := newSessionsWithIDs(t, id, nil, connectionID)
		for padding := 1; padding <= maxPadding; padding++ {
			sequence := uint64(padding)
			length := 2*maxPadding - suiteOf(id).macLen - padding // the record is whole blocks
			inner := bytes.Repeat([]byte{byte(TypeApplicationData)}, length)
			signed := withMAC(t, server, sequence, inner)
			clear := append(signed, bytes.Repeat([]byte{byte(padding - 1)}, padding)...)
			for _, i := range []int{0, padding / 2, padding - 1} {
				forged := bytes.Clone(clear)
				forged[len(forged)-1-i] ^= 0x80
				_, _, err := server.Open(nil, cbcRecord(t, server, sequence, forged))
				require.ErrorIs(t, err, ErrNotAuthentic, "byte %d of %d", i, padding)
			}
			opened, _, err := server.Open(nil, cbcRecord(t, server, sequence, clear))
			require.NoError(t, err)
			require.Equal(t, inner[:len(inner)-innerOverhead(len(connectionID))], opened)
		}
	})
}

// TestOpenRejectsPaddingOverMAC sends valid padding that extends into the bytes of the MAC,
// and over the whole record.
func TestOpenRejectsPaddingOverMAC(t *testing.T) {
	forEachCBC(t, func(t *testing.T, id SuiteID, connectionID []byte) {
		_, server := newSessionsWithIDs(t, id, nil, connectionID)
		for blocks := 1; blocks <= 17; blocks++ {
			for _, last := range []int{blocks*aes.BlockSize - 1, blocks * aes.BlockSize, 255} {
				_, _, err := server.Open(nil, cbcRecord(t, server, 1, bytes.Repeat([]byte{byte(last)}, blocks*aes.BlockSize)))
				require.ErrorIs(t, err, ErrNotAuthentic)
			}
		}
	})
}

func TestOpenRejectsFragmentOfPartOfBlock(t *testing.T) {
	client, server := newSessions(t, 0xc00a)
	r := seal(t, client, "x")
	_, _, err := server.Open(nil, parseOne(t, newRecord(TypeApplicationData, 1, 1, r.Fragment()[:len(r.Fragment())-1]...)))
	require.ErrorIs(t, err, ErrNotAuthentic)
}

// TestOpenReturnsNoBytesOfForgedRecord, not even in the capacity of dst.
func TestOpenReturnsNoBytesOfForgedRecord(t *testing.T) {
	_, server := newSessions(t, 0xc00a)
	dst := make([]byte, 0, 256)
	_, _, err := server.Open(dst, cbcRecord(t, server, 1, bytes.Repeat([]byte("secret.."), 10)))
	require.ErrorIs(t, err, ErrNotAuthentic)
	assert.Equal(t, make([]byte, 256), dst[:256])
}

// countingHash counts the blocks that a hash processes.
type countingHash struct {
	hash.Hash
	pending int
	blocks  *int
}

func (h *countingHash) Write(b []byte) (int, error) {
	h.pending += len(b)
	*h.blocks += h.pending / hashBlockSize
	h.pending %= hashBlockSize
	return h.Hash.Write(b)
}

func (h *countingHash) Sum(b []byte) []byte {
	*h.blocks += (h.pending + 9 + hashBlockSize - 1) / hashBlockSize
	return h.Hash.Sum(b)
}

func (h *countingHash) Reset() {
	h.pending = 0
	h.Hash.Reset()
}

// TestOpenHashesSameForEachPadding: the number of the hash's blocks says nothing about the
// padding, or whether it is valid (Lucky Thirteen).
func TestOpenHashesSameForEachPadding(t *testing.T) {
	forEachCBC(t, func(t *testing.T, id SuiteID, connectionID []byte) {
		_, server := newSessionsWithIDs(t, id, nil, connectionID)
		c, err := server.buildCiphers()
		require.NoError(t, err)
		blocks := 0
		c.remote.(*cbcProtection).mac = hmac.New(func() hash.Hash { return &countingHash{Hash: suiteOf(id).mac(), blocks: &blocks} }, []byte("key"))
		for _, length := range []int{64, 80, 96, 112, 128, 144, 320, 336} {
			open := func(clear []byte) int {
				blocks = 0
				_, _, err := server.Open(nil, cbcRecord(t, server, 1, clear))
				require.ErrorIs(t, err, ErrNotAuthentic)
				return blocks
			}
			invalid := bytes.Repeat([]byte{7}, length)
			invalid[length-3] = 6
			want := open(invalid)
			for padding := 1; padding <= min(length-suiteOf(id).macLen, maxPadding); padding++ {
				require.Equal(t, want, open(bytes.Repeat([]byte{byte(padding - 1)}, length)), "%d bytes, %d of padding", length, padding)
			}
		}
	})
}
