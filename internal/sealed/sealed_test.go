// SPDX-License-Identifier: MIT

package sealed

import (
	"bytes"
	"encoding/hex"
	"io"
	"slices"
	"testing"

	"github.com/go-dsm/dsm/keyring"
	"github.com/stretchr/testify/require"
)

// testKey returns a key whose secret is derived from its ID.
func testKey(id uint32) keyring.Key {
	key := keyring.Key{ID: id}
	for i := range key.Secret {
		key.Secret[i] = byte(id) ^ byte(0x5a+i)
	}
	return key
}

func testRing(t testing.TB, keys ...keyring.Key) *keyring.Ring {
	t.Helper()
	ring, err := keyring.New(keys...)
	require.NoError(t, err)
	return ring
}

// parts are the header of a stream, its chunks and its last chunk.
type parts [][]byte

func (p parts) join() []byte { return bytes.Join(p, nil) }

// stream is a stream and what it was made of.
type stream struct {
	parts    parts
	header   Header
	payloads []string
}

// knownStreams returns two snapshots that another implementation has sealed with key 1.
func knownStreams(t testing.TB) (a, b stream) {
	t.Helper()
	id := func(b byte) [16]byte { return [16]byte(bytes.Repeat([]byte{b}, 16)) }
	decode := func(lines ...string) (p parts) {
		for _, line := range lines {
			part, err := hex.DecodeString(line)
			require.NoError(t, err)
			p = append(p, part)
		}
		return p
	}
	a = stream{header: Header{Snapshot, 7, id(0xa0), id(0xb0)}, payloads: []string{"first", "", "third chunk"}, parts: decode(
		"64736d7365616c010100000001101112131415161718191a1b7bca379e3294e5d099cd4a7f4bac99477aed522d99bfb478e24916239ce8dbfbbeaaba5f8336da2604652f594a098ae9a427416f2ac96755",
		"00000025a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0000000000000000000000000011112131415161718191a1b1c56c2b83027d34a4825a5eb4aa1f790b7838ff2bddb",
		"00000020a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a00000000000000001000000000112131415161718191a1b1c1db851b14e01768f5f093a9ed862d18989",
		"0000002ba0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a000000000000000020000000001131415161718191a1b1c1d1e74f85422134c462e3caadca7d31482b9b79e63732805e4adb5254a",
		"00000020a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0000000000000000301000000011415161718191a1b1c1d1e1ffee04747bdda17686def0453f938bd7b",
	)}
	b = stream{header: Header{Snapshot, 8, id(0xc0), id(0xa0)}, payloads: []string{"FIRST", "SECOND"}, parts: decode(
		"64736d7365616c010100000001303132333435363738393a3b0435303947bc8162d6d5ff6eac33c7c205afb3f7599ce045269de66f11ac778ad96302d3af40e8e06799e7ad056407304dde8693bcaf65cd",
		"00000025c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0000000000000000000000000013132333435363738393a3b3c9c6ee056a87c6400a1af070b38b5e2ef142e904b6b",
		"00000026c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c00000000000000001000000000132333435363738393a3b3c3d73863a87d5ba817a9b779d8df739603c6b93148d4b07",
		"00000020c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c000000000000000020100000001333435363738393a3b3c3d3ed5efc704167a15ce8998a493cddc70c7",
	)}
	return a, b
}

// recorder is an io.Writer that keeps each Write apart.
type recorder struct{ parts parts }

func (r *recorder) Write(b []byte) (int, error) {
	r.parts = append(r.parts, slices.Clone(b))
	return len(b), nil
}

// write returns a closed stream.
func write(t testing.TB, ring *keyring.Ring, h Header, payloads ...string) stream {
	t.Helper()
	var r recorder
	w, err := NewWriter(&r, ring, h)
	require.NoError(t, err)
	for _, payload := range payloads {
		require.NoError(t, w.WriteChunk([]byte(payload)))
	}
	require.NoError(t, w.Close())
	require.Len(t, r.parts.join(), int(w.Bytes()))
	return stream{parts: r.parts, header: w.Header(), payloads: payloads}
}

// read returns the payloads of a stream and the error after them, which is nil if the stream
// is whole.
func read(r io.Reader, ring *keyring.Ring, kind Kind) (header Header, payloads []string, err error) {
	s, err := NewReader(r, ring, kind)
	if err != nil {
		return Header{}, nil, err
	}
	for {
		payload, err := s.Next()
		if err == io.EOF {
			return s.Header(), payloads, nil
		}
		if err != nil {
			return s.Header(), payloads, err
		}
		payloads = append(payloads, string(payload))
	}
}

func TestReaderReadsWhatWriterWrote(t *testing.T) {
	ring := testRing(t, testKey(1))
	long := string(bytes.Repeat([]byte("0123456789abcdef"), MaxChunk/16))
	for _, payloads := range [][]string{nil, {""}, {"one"}, {"one", "", long, "two", long}} {
		for _, kind := range []Kind{Snapshot, Journal} {
			want := write(t, ring, Header{Kind: kind, Generation: 1<<64 - 1, Previous: [16]byte{1, 2}}, payloads...)
			require.Len(t, want.parts, len(payloads)+2) // one Write each
			header, got, err := read(bytes.NewReader(want.parts.join()), ring, kind)
			require.NoError(t, err)
			require.Equal(t, want.header, header)
			require.Equal(t, payloads, got)
		}
	}
}

// Files of other versions rely on the format.
func TestFormat(t *testing.T) {
	ring := testRing(t, testKey(2), testKey(1))
	a, b := knownStreams(t)
	for _, known := range []stream{a, b} {
		header, payloads, err := read(bytes.NewReader(known.parts.join()), ring, Snapshot)
		require.NoError(t, err)
		require.Equal(t, known.header, header)
		require.Equal(t, known.payloads, payloads)

		// A stream with the same content has the same fields in the clear.
		written := write(t, testRing(t, testKey(1)), known.header, known.payloads...)
		require.Len(t, written.parts, len(known.parts))
		for i, part := range written.parts {
			n := chunkHeaderSize
			if i == 0 {
				n = clearHeaderSize
			}
			require.Len(t, part, len(known.parts[i]))
			require.Equal(t, known.parts[i][:n+4], part[:n+4])
		}
	}
}

func TestKindString(t *testing.T) {
	require.Equal(t, "snapshot journal Kind(3)", Snapshot.String()+" "+Journal.String()+" "+Kind(3).String())
}
