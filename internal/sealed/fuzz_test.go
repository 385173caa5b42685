// SPDX-License-Identifier: MIT

package sealed

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzReader checks that a Reader accepts the known streams only, and returns a beginning of
// the payloads of one of them, whatever it reads.
func FuzzReader(f *testing.F) {
	ring := testRing(f, testKey(1))
	a, b := knownStreams(f)
	for _, p := range []parts{
		a.parts, b.parts, a.parts[:3], append(slices.Clone(a.parts), b.parts...),
		{a.parts[0], a.parts[2], a.parts[1]}, {a.parts[0], b.parts[1]}, {a.parts[0], a.parts[1], a.parts[1]}, nil,
	} {
		f.Add(p.join(), true)
		f.Add(p.join(), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, journal bool) {
		kind := Snapshot
		if journal {
			kind = Journal
		}
		header, payloads, err := read(bytes.NewReader(data), ring, kind)
		if header == (Header{}) {
			require.Error(t, err)
			return
		}
		require.Equal(t, Snapshot, kind)
		known := a
		if header.ID == b.header.ID {
			known = b
		}
		require.Equal(t, known.header, header)
		whole := bytes.Equal(data, known.parts.join())
		require.Equal(t, whole, err == nil, "%v", err)
		require.LessOrEqual(t, len(payloads), len(known.payloads))
		require.True(t, slices.Equal(known.payloads[:len(payloads)], payloads))
		require.True(t, !whole || len(payloads) == len(known.payloads))
	})
}
