// SPDX-License-Identifier: MIT

package sealed

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNewWriterDrawsID(t *testing.T) {
	ring := testRing(t, testKey(1))
	a, b := write(t, ring, Header{Kind: Journal}), write(t, ring, Header{Kind: Journal})
	require.NotEqual(t, [16]byte{}, a.header.ID)
	require.NotEqual(t, a.header.ID, b.header.ID)
	id := [16]byte{15: 1}
	require.Equal(t, id, write(t, ring, Header{Kind: Journal, ID: id}).header.ID)
}

func TestNewWriterRefusesUnknownKind(t *testing.T) {
	for _, kind := range []Kind{0, 3} {
		var out bytes.Buffer
		w, err := NewWriter(&out, testRing(t, testKey(1)), Header{Kind: kind})
		require.Nil(t, w)
		require.ErrorContains(t, err, kind.String())
		require.Zero(t, out.Len())
	}
}

// failing takes n bytes and then fails with err, or with a short write if err is nil.
type failing struct {
	n   int
	err error
	out bytes.Buffer
}

func (f *failing) Write(b []byte) (int, error) {
	n := min(f.n-f.out.Len(), len(b))
	f.out.Write(b[:n])
	if n < len(b) {
		return n, f.err
	}
	return n, nil
}

func TestNothingFollowsTornChunk(t *testing.T) {
	ring := testRing(t, testKey(1))
	errDisk := errors.New("disk full")
	chunk := chunkHeaderSize + 32 + len("payload")
	for _, test := range []struct{ disk, want error }{{errDisk, errDisk}, {nil, io.ErrShortWrite}} {
		out := &failing{n: headerSize + chunk + 10, err: test.disk}
		w, err := NewWriter(out, ring, Header{Kind: Journal})
		require.NoError(t, err)
		require.NoError(t, w.WriteChunk([]byte("payload")))
		require.ErrorIs(t, w.WriteChunk([]byte("payload")), test.want)
		require.EqualValues(t, out.n, w.Bytes())

		out.n += 10 * chunk // there is room again
		require.ErrorIs(t, w.WriteChunk([]byte("payload")), test.want)
		require.ErrorIs(t, w.Close(), test.want)
		require.Equal(t, headerSize+chunk+10, out.out.Len())

		_, err = NewWriter(&failing{n: headerSize - 1, err: test.disk}, ring, Header{Kind: Journal})
		require.ErrorIs(t, err, test.want)
	}
}

func TestWriterRefusesLongChunk(t *testing.T) {
	var out recorder
	w, err := NewWriter(&out, testRing(t, testKey(1)), Header{Kind: Journal})
	require.NoError(t, err)
	require.NoError(t, w.WriteChunk(make([]byte, MaxChunk)))
	require.ErrorContains(t, w.WriteChunk(make([]byte, MaxChunk+1)), "1048577 bytes")
	// The stream would lack the chunk, so it ends.
	require.ErrorContains(t, w.WriteChunk(nil), "1048577 bytes")
	require.ErrorContains(t, w.Close(), "1048577 bytes")
	require.Len(t, out.parts, 2)
}

func TestNothingFollowsLastChunk(t *testing.T) {
	var out recorder
	w, err := NewWriter(&out, testRing(t, testKey(1)), Header{Kind: Snapshot})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Equal(t, errClosed, w.WriteChunk(nil))
	require.Equal(t, errClosed, w.Close())
	require.Len(t, out.parts, 2)
}
