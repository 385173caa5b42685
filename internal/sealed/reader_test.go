// SPDX-License-Identifier: MIT

package sealed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/go-dsm/dsm/keyring"
	"github.com/stretchr/testify/require"
)

// errUnknownKey stands for any *keyring.UnknownKeyError.
var errUnknownKey = errors.New("unknown key")

// requireFault reads a stream that has to fail with an error, after a beginning of the
// payloads that were written.
func requireFault(t *testing.T, want error, written, data []byte, payloads []string, what string, args ...any) {
	t.Helper()
	require.NotEqual(t, written, data)
	_, got, err := read(bytes.NewReader(data), testRing(t, testKey(1)), Snapshot)
	require.LessOrEqual(t, len(got), len(payloads))
	require.Equal(t, append([]string(nil), payloads[:len(got)]...), got)
	if unknown := (*keyring.UnknownKeyError)(nil); errors.As(err, &unknown) {
		err = errUnknownKey
	}
	require.ErrorIs(t, err, want, append([]any{what}, args...)...)
}

func TestEachFlippedBitIsFound(t *testing.T) {
	a, _ := knownStreams(t)
	data := a.parts.join()
	// want returns the error for a byte of a part.
	want := func(part, i int) error {
		clear := chunkHeaderSize
		switch {
		case part == 0 && i < len(magic):
			return ErrNotSealed
		case part == 0 && i == len(magic):
			return ErrVersion
		case part == 0:
			clear = clearHeaderSize
		}
		if i >= clear && i < clear+4 {
			return errUnknownKey
		}
		return ErrTampered
	}
	offset := 0
	for number, part := range a.parts {
		for i := range part {
			for bit := range 8 {
				modified := slices.Clone(data)
				modified[offset+i] ^= 1 << bit
				want := want(number, i)
				if number > 0 && i < 4 { // the length: a plausible one can exceed the stream
					length := int(binary.BigEndian.Uint32(modified[offset:]))
					if length <= MaxChunk+keyring.Overhead && offset+chunkHeaderSize+length > len(data) {
						want = ErrTruncated
					}
				}
				requireFault(t, want, data, modified, a.payloads, "bit %d of byte %d of part %d", bit, i, number)
			}
		}
		offset += len(part)
	}
}

func TestEachCutIsFound(t *testing.T) {
	a, _ := knownStreams(t)
	data := a.parts.join()
	boundary, number := len(a.parts[0]), 0
	for n := range data {
		requireFault(t, ErrTruncated, data, data[:n], a.payloads, "the first %d bytes", n)
		s, err := NewReader(bytes.NewReader(data[:n]), testRing(t, testKey(1)), Snapshot)
		if n < headerSize {
			require.ErrorContains(t, err, "within its header")
			continue
		}
		require.NoError(t, err)
		if n == boundary+len(a.parts[number+1]) {
			boundary, number = n, number+1
		}
		for range number {
			_, err = s.Next()
			require.NoError(t, err)
			require.False(t, s.AtBoundary())
		}
		_, err = s.Next()
		require.ErrorIs(t, err, ErrTruncated)
		require.Equal(t, n == boundary, s.AtBoundary(), "the first %d bytes", n)
		_, again := s.Next()
		require.Equal(t, err, again)
	}
}

func TestReaderNamesFault(t *testing.T) {
	a, b := knownStreams(t)
	p, q := a.parts, b.parts
	written := p.join()
	for _, test := range []struct {
		what  string
		want  error
		text  string
		parts parts
	}{
		{"two chunks exchanged", ErrOrder, "chunk 1 in the place of chunk 0", parts{p[0], p[2], p[1], p[3], p[4]}},
		{"a chunk twice", ErrOrder, "chunk 0 in the place of chunk 1", parts{p[0], p[1], p[1], p[2], p[3], p[4]}},
		{"the first chunk missing", ErrOrder, "chunk 1 in the place of chunk 0", parts{p[0], p[2], p[3], p[4]}},
		{"the chunk before the last missing", ErrOrder, "chunk 3 in the place of chunk 2", parts{p[0], p[1], p[2], p[4]}},
		{"all chunks missing", ErrOrder, "chunk 3 in the place of chunk 0", parts{p[0], p[4]}},
		{"the last chunk missing", ErrTruncated, "chunk 3 is missing", p[:4]},
		{"the last chunk twice", ErrTrailing, "", append(slices.Clone(p), p[4])},
		{"a byte appended", ErrTrailing, "", append(slices.Clone(p), []byte{0})},
		{"a stream appended", ErrTrailing, "", append(slices.Clone(p), q...)},
		{"a chunk of another stream", ErrForeign, "in the place of chunk 1", parts{p[0], p[1], q[2], p[3], p[4]}},
		{"the last chunk of another stream", ErrForeign, "in the place of chunk 2", parts{p[0], p[1], p[2], q[3]}},
		{"the header of another stream", ErrForeign, "in the place of chunk 0", append(parts{q[0]}, p[1:]...)},
		{"the header twice", ErrTampered, "chunk 0: length", append(parts{p[0]}, p...)},
		{"zeros after a chunk", ErrTampered, "chunk 1: length 0", parts{p[0], p[1], make([]byte, 512)}},
		{"text", ErrNotSealed, "", parts{[]byte("some text")}},
		{"short text", ErrNotSealed, "", parts{[]byte("dsx")}},
		{"nothing", ErrTruncated, "within its header", nil},
		{"a header of another version", ErrVersion, "9, want 1", parts{[]byte(magic + "\x09")}},
	} {
		data := test.parts.join()
		requireFault(t, test.want, written, data, a.payloads, test.what)
		_, _, err := read(bytes.NewReader(data), testRing(t, testKey(1)), Snapshot)
		require.ErrorContains(t, err, test.text, test.what)
		require.ErrorContains(t, err, "sealed: ", test.what)
	}
}

func TestReaderRefusesOtherKind(t *testing.T) {
	ring := testRing(t, testKey(1))
	for _, kind := range []Kind{Snapshot, Journal} {
		s := write(t, ring, Header{Kind: kind}, "payload")
		_, payloads, err := read(bytes.NewReader(s.parts.join()), ring, Snapshot+Journal-kind)
		require.ErrorIs(t, err, ErrKind)
		require.ErrorContains(t, err, "a "+kind.String()+", want a ")
		require.Nil(t, payloads)
	}
}

func TestReaderNamesUnknownKey(t *testing.T) {
	a, _ := knownStreams(t)
	_, _, err := read(bytes.NewReader(a.parts.join()), testRing(t, testKey(2)), Snapshot)
	var unknown *keyring.UnknownKeyError
	require.ErrorAs(t, err, &unknown)
	require.EqualValues(t, 1, unknown.ID)
	require.EqualError(t, err, "sealed: header: keyring: unknown key 1")

	other := testKey(2)
	other.ID = 1
	_, _, err = read(bytes.NewReader(a.parts.join()), testRing(t, other), Snapshot)
	require.ErrorIs(t, err, ErrTampered)
}

// A value that the same key has sealed for another purpose is not a chunk, even if its header
// is that of a chunk.
func TestReaderRefusesValueOfOtherPurpose(t *testing.T) {
	a, _ := knownStreams(t)
	header := slices.Clone(a.parts[1][:chunkHeaderSize])
	forged := testRing(t, testKey(1)).Seal(header, []byte("first"), nil)
	data := parts{a.parts[0], forged, a.parts[2]}.join()
	requireFault(t, ErrTampered, a.parts.join(), data, nil, "another purpose")
}

func TestReaderBoundsLengthBeforeAllocation(t *testing.T) {
	a, _ := knownStreams(t)
	for _, test := range []struct {
		length uint32
		want   error
	}{
		{0, ErrTampered}, {keyring.Overhead - 1, ErrTampered}, {keyring.Overhead + MaxChunk, ErrTruncated},
		{keyring.Overhead + MaxChunk + 1, ErrTampered}, {1<<32 - 1, ErrTampered},
	} {
		data := a.parts.join()
		binary.BigEndian.PutUint32(data[headerSize:], test.length)
		s, err := NewReader(bytes.NewReader(data), testRing(t, testKey(1)), Snapshot)
		require.NoError(t, err)
		_, err = s.Next()
		require.ErrorIs(t, err, test.want)
		require.LessOrEqual(t, cap(s.sealed), keyring.Overhead+MaxChunk)
	}
}

func TestReaderReturnsErrorOfSource(t *testing.T) {
	ring := testRing(t, testKey(1))
	a, _ := knownStreams(t)
	data := a.parts.join()
	errDisk := errors.New("disk broken")
	for n := range len(data) + 1 { // the last one: in the place of the end
		source := io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(errDisk))
		_, _, err := read(source, ring, Snapshot)
		require.ErrorIs(t, err, errDisk, "after %d bytes", n)
		require.NotErrorIs(t, err, ErrTruncated)
	}
	for _, source := range []io.Reader{
		iotest.OneByteReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data)), iotest.HalfReader(bytes.NewReader(data)),
	} {
		_, payloads, err := read(source, ring, Snapshot)
		require.NoError(t, err)
		require.Equal(t, a.payloads, payloads)
	}
}

func TestNextIsEOFAfterEnd(t *testing.T) {
	a, _ := knownStreams(t)
	s, err := NewReader(bytes.NewReader(a.parts.join()), testRing(t, testKey(1)), Snapshot)
	require.NoError(t, err)
	for range a.payloads {
		_, err := s.Next()
		require.NoError(t, err)
	}
	for range 3 {
		payload, err := s.Next()
		require.Equal(t, io.EOF, err)
		require.Nil(t, payload)
		require.False(t, s.AtBoundary())
	}
}

// The memory of a Writer and of a Reader does not grow with the stream.
func TestStreamsNeedMemoryOfOneChunk(t *testing.T) {
	ring := testRing(t, testKey(1))
	source, sink := io.Pipe()
	const chunks = 64
	done := make(chan error, 1)
	go func() {
		w, err := NewWriter(sink, ring, Header{Kind: Snapshot})
		payload := make([]byte, MaxChunk)
		for i := 0; i < chunks && err == nil; i++ {
			err = w.WriteChunk(payload)
		}
		if err == nil {
			err = w.Close()
		}
		done <- errors.Join(err, sink.Close())
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s, err := NewReader(source, ring, Snapshot)
	require.NoError(t, err)
	for range chunks {
		payload, err := s.Next()
		require.NoError(t, err)
		require.Len(t, payload, MaxChunk)
	}
	_, err = s.Next()
	require.Equal(t, io.EOF, err)
	require.NoError(t, <-done)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8*MaxChunk))
}
