// SPDX-License-Identifier: MIT

package resume

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNewRefusesInvalidConfig(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Lifetime: -1}, "Config.Lifetime is negative"},
		{Config{LookupTimeout: -1}, "Config.LookupTimeout is negative"},
		{Config{Lookups: -1}, "Config.Lookups is negative"},
		{Config{Lifetime: MaxLifetime + 1}, "more than 24h0m0s"},
	} {
		s, err := New(c.config)
		assert.ErrorContains(t, err, c.want)
		assert.Nil(t, s)
	}
}

func TestNewReplacesZeroValuesOfConfig(t *testing.T) {
	s, err := New(Config{})
	require.NoError(t, err)
	assert.Equal(t, DefaultEntries, s.config.Backend.(*Memory).table.MaxSlots())
	assert.Equal(t, []any{24 * time.Hour, 50 * time.Millisecond, 256, 64},
		[]any{s.config.Lifetime, s.config.LookupTimeout, s.config.Lookups, s.config.LookupsPerSource})
	for lookups, want := range map[int]int{1: 4, 16: 4, 20: 5} {
		s, err := New(Config{Lookups: lookups})
		require.NoError(t, err)
		assert.Equal(t, want, s.config.LookupsPerSource)
	}
}

func TestNegativeLookupsPerSourceMeansNoBound(t *testing.T) {
	s, err := New(Config{Lookups: 7, LookupsPerSource: -1})
	require.NoError(t, err)
	assert.Equal(t, 7, s.config.LookupsPerSource)
}
