// SPDX-License-Identifier: MIT

package redisstore

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNewRefusesInvalidConfig(t *testing.T) {
	findLeaks(t)
	client := newClient(t, Options("127.0.0.1:1"))
	ignoring := Options("127.0.0.1:1") // the deadlines of contexts
	ignoring.ContextTimeoutEnabled = false
	ignoringCluster := redis.NewClusterClient(ignoring.Cluster())
	ignoringRing := redis.NewRing(&redis.RingOptions{HeartbeatFrequency: time.Millisecond})
	t.Cleanup(func() {
		require.NoError(t, ignoringCluster.Close())
		require.NoError(t, ignoringRing.Close())
	})
	keys := []Key{testKey(1)}
	for _, test := range []struct {
		want   string
		config Config
	}{
		{"Client is nil", Config{Keys: keys}},
		{"Client is nil", Config{Keys: keys, Client: (*redis.Client)(nil)}},
		{"Client is nil", Config{Keys: keys, Client: (*redis.ClusterClient)(nil)}},
		{"Client is nil", Config{Keys: keys, Client: (*redis.Ring)(nil)}},
		{"ContextTimeoutEnabled", Config{Keys: keys, Client: newClient(t, ignoring)}},
		{"ContextTimeoutEnabled", Config{Keys: keys, Client: ignoringCluster}},
		{"ContextTimeoutEnabled", Config{Keys: keys, Client: ignoringRing}},
		{"Keys is empty", Config{Client: client}},
		{"key 1 twice", Config{Client: client, Keys: []Key{testKey(1), testKey(2), testKey(1)}}},
		{"keys 1 and 3 have the same secret", Config{Client: client, Keys: []Key{testKey(1), {ID: 3, Secret: testKey(1).Secret}}}},
		{"key 7 is all zero", Config{Client: client, Keys: []Key{testKey(1), {ID: 7}}}},
		{"Failures is -1", Config{Client: client, Keys: keys, Failures: -1}},
		{"Cooldown is negative", Config{Client: client, Keys: keys, Cooldown: -1}},
	} {
		b, err := New(test.config)
		assert.Nil(t, b)
		assert.ErrorContains(t, err, "redisstore: ")
		assert.ErrorContains(t, err, test.want)
	}
}

// New cannot check the options of a client of a type that go-redis does not define.
func TestNewAcceptsClientOfUnknownType(t *testing.T) {
	client := struct{ redis.UniversalClient }{newClient(t, Options("127.0.0.1:1"))}
	b, err := New(Config{Client: client, Keys: []Key{testKey(1)}})
	require.NoError(t, err)
	assert.Equal(t, Stats{}, b.Stats())
}
