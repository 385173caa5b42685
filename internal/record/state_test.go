// SPDX-License-Identifier: MIT

package record

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestStateGoesOnWhereItWas: the same replay window, whatever was marked, and no other
// encoding.
func TestStateGoesOnWhereItWas(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		s := newTestSession(t, 1<<random.IntN(12))
		s.SetNextSequence(random.Uint64N(MaxSequence))
		at := random.Uint64N(1 << 20)
		for range random.IntN(200) {
			if n := at + random.Uint64N(3000); s.window.Check(n) {
				s.window.Mark(n)
			}
		}
		state := s.AppendState(nil)
		parsed, err := ParseState(state)
		require.NoError(t, err)
		require.Equal(t, state, parsed.AppendState(nil))
		require.Equal(t, s.Config(), parsed.Config())
		require.Equal(t, s.window.next, parsed.Highest())
		for n := range uint64(5000) {
			require.Equal(t, s.window.Check(at+n), parsed.window.Check(at+n))
		}
		highest := parsed.Highest() + random.Uint64N(100)
		parsed.MarkBelow(highest)
		require.False(t, highest > 0 && parsed.window.Check(highest-1))
		require.True(t, parsed.window.Check(highest))
		again, err := ParseState(parsed.AppendState(nil))
		require.NoError(t, err, "what MarkBelow leaves can be saved, too")
		require.Equal(t, highest, again.Highest())
	}
}

// TestParseStateIsStrict refuses what AppendState would not write.
func TestParseStateIsStrict(t *testing.T) {
	s := newTestSession(t, 64)
	for n := range uint64(200) {
		s.window.Mark(n)
	}
	state := s.AppendState(nil)
	for n := range state {
		_, err := ParseState(state[:n])
		require.Error(t, err)
	}
	_, err := ParseState(append(state, 0))
	require.ErrorIs(t, err, ErrState)
	for bit := range 8 * len(state) {
		changed := append([]byte{}, state...)
		changed[bit/8] ^= 1 << (bit % 8)
		if parsed, err := ParseState(changed); err == nil {
			require.Equal(t, changed, parsed.AppendState(nil))
		}
	}
}

// TestReserveBoundsSeal, and one number more is kept for an alert.
func TestReserveBoundsSeal(t *testing.T) {
	s := newTestSession(t, 64)
	s.Reserve(s.UnitsFor(1 << unitBits))
	assert.EqualValues(t, 2, s.Reserved())
	s.SetNextSequence(FirstAfter(2) - 2)
	_, err := s.Seal(nil, TypeApplicationData, nil)
	require.NoError(t, err)
	_, err = s.Seal(nil, TypeApplicationData, nil)
	require.ErrorIs(t, err, ErrExhausted)
	_, err = s.Seal(nil, TypeAlert, nil)
	require.NoError(t, err)
	_, err = s.Seal(nil, TypeAlert, nil)
	require.ErrorIs(t, err, ErrExhausted)
	require.Equal(t, FirstAfter(2), s.NextSequence())
	s.Reserve(3)
	_, err = s.Seal(nil, TypeApplicationData, nil)
	require.NoError(t, err)
}

// TestFrozenSessionSealsNothing, whatever asks it to, and goes on after Thaw.
func TestFrozenSessionSealsNothing(t *testing.T) {
	s := newTestSession(t, 64)
	s.SetNextSequence(7)
	s.Freeze()
	for _, kind := range []Type{TypeApplicationData, TypeAlert, TypeHandshake} {
		_, err := s.Seal(nil, kind, nil)
		require.ErrorIs(t, err, ErrFrozen)
	}
	assert.True(t, s.IsFrozen())
	assert.EqualValues(t, 7, s.NextSequence())
	assert.EqualValues(t, 7, s.Config().NextSequence)
	s.Thaw()
	_, err := s.Seal(nil, TypeAlert, nil)
	require.NoError(t, err)
	assert.EqualValues(t, 8, s.NextSequence())
}

func newTestSession(t *testing.T, window int) *Session {
	t.Helper()
	s, err := New(Config{Suite: 0xc0a8, MasterSecret: make([]byte, 48), Epoch: 1, ReplayWindow: window})
	require.NoError(t, err)
	return s
}
