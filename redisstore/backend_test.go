// SPDX-License-Identifier: MIT

package redisstore

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm/resume"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var _ resume.Backend = (*Backend)(nil)

func TestNewRefuses(t *testing.T) {
	findLeaks(t)
	client := newClient(t, Options("127.0.0.1:1"))
	deaf := Options("127.0.0.1:1")
	deaf.ContextTimeoutEnabled = false
	deafCluster := redis.NewClusterClient(deaf.Cluster())
	deafRing := redis.NewRing(&redis.RingOptions{HeartbeatFrequency: time.Millisecond})
	t.Cleanup(func() {
		require.NoError(t, deafCluster.Close())
		require.NoError(t, deafRing.Close())
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
		{"ContextTimeoutEnabled", Config{Keys: keys, Client: newClient(t, deaf)}},
		{"ContextTimeoutEnabled", Config{Keys: keys, Client: deafCluster}},
		{"ContextTimeoutEnabled", Config{Keys: keys, Client: deafRing}},
		{"Keys is empty", Config{Client: client}},
		{"key 1 twice", Config{Client: client, Keys: []Key{testKey(1), testKey(2), testKey(1)}}},
		{"keys 1 and 3 have one", Config{Client: client, Keys: []Key{testKey(1), {ID: 3, Secret: testKey(1).Secret}}}},
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

// A user's own client around go-redis's is taken as it is.
func TestNewTakesWrapped(t *testing.T) {
	client := struct{ redis.UniversalClient }{newClient(t, Options("127.0.0.1:1"))}
	b, err := New(Config{Client: client, Keys: []Key{testKey(1)}})
	require.NoError(t, err)
	assert.Equal(t, Stats{}, b.Stats())
}

func TestRoundTrip(t *testing.T) {
	b, _ := onServer(t)
	ctx := t.Context()
	ids := [][]byte{{}, {0}, {0, 0}, []byte("{x}"), bytes.Repeat([]byte{0xff}, 32)}
	for i, id := range ids {
		_, ok, err := b.Get(ctx, id)
		require.NoError(t, err)
		require.False(t, ok)
		require.NoError(t, b.Put(ctx, id, []byte("first"), time.Minute))
		require.NoError(t, b.Put(ctx, id, bytes.Repeat([]byte{byte(i)}, i*1000), time.Minute))
	}
	for i, id := range ids {
		value, ok, err := b.Get(ctx, id)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, bytes.Repeat([]byte{byte(i)}, i*1000), value)
	}
	for i, id := range ids {
		deleted, err := b.Delete(ctx, id, []byte("another"))
		require.NoError(t, err)
		require.False(t, deleted)
		deleted, err = b.Delete(ctx, id, bytes.Repeat([]byte{byte(i)}, i*1000))
		require.NoError(t, err)
		require.True(t, deleted)
		deleted, err = b.Delete(ctx, id, bytes.Repeat([]byte{byte(i)}, i*1000))
		require.NoError(t, err)
		require.False(t, deleted)
	}
	assert.Equal(t, Stats{Opened: 15, Absent: 10}, b.Stats())
}

func TestTTL(t *testing.T) {
	b, _ := onServer(t)
	ctx, id := t.Context(), []byte("id")
	for _, ttl := range []time.Duration{time.Hour, 90 * time.Minute, 1500 * time.Millisecond} {
		require.NoError(t, b.Put(ctx, id, []byte("value"), ttl))
		left, err := b.client.PTTL(ctx, b.name(id)).Result()
		require.NoError(t, err)
		assert.LessOrEqual(t, left, ttl)
		assert.Greater(t, left, ttl-time.Second)
	}
	for _, ttl := range []time.Duration{0, -1, -time.Second} { // go-redis: for ever, as it was
		require.ErrorContains(t, b.Put(ctx, id, []byte("other"), ttl), "ttl")
	}
	value, ok, err := b.Get(ctx, id)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, "value", string(value))

	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Nanosecond)) // a millisecond, for the server
	assert.Eventually(t, func() bool {
		_, ok, err := b.Get(ctx, id)
		return err == nil && !ok
	}, patience, time.Millisecond)
}

func TestNothingInClear(t *testing.T) {
	b, _ := onServer(t)
	secret, identity := bytes.Repeat([]byte{0xa5, 0x3c}, 24), "sensor-17@example.org"
	session := &resume.Session{Secret: secret, PSKIdentity: []byte(identity), Scope: "devices", Data: []byte("application")}
	entry, err := session.Marshal()
	require.NoError(t, err)
	id := bytes.Repeat([]byte{7}, 32)
	require.NoError(t, b.Put(t.Context(), id, entry, time.Minute))

	keys, err := b.client.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	require.Equal(t, []string{fmt.Sprintf("dsm:%x", id)}, keys)
	value := raw(t, b, id)
	assert.Len(t, value, 5+12+len(entry)+16)
	for what, clear := range map[string][]byte{
		"the secret": secret[:8], "the identity": []byte("sensor"), "the scope": []byte("devices"), "data": []byte("application"), "the entry": entry[:8],
	} {
		assert.True(t, bytes.Contains(entry, clear), what)
		assert.False(t, bytes.Contains(value, clear), what)
	}
	// The same again is sealed otherwise.
	require.NoError(t, b.Put(t.Context(), id, entry, time.Minute))
	assert.NotEqual(t, value, raw(t, b, id))
}

func TestRotation(t *testing.T) {
	before, s := onServer(t)
	client := newClient(t, Options(s.addr()))
	ctx := t.Context()
	// As in the README: first the new key can be opened everywhere, then it seals,
	// then the old one is dropped.
	can := newBackend(t, Config{Client: client, Keys: []Key{testKey(1), testKey(2)}})
	does := newBackend(t, Config{Client: client, Keys: []Key{testKey(2), testKey(1)}})
	after := newBackend(t, Config{Client: client, Keys: []Key{testKey(2)}})

	for i, b := range []*Backend{before, can, does, after} {
		require.NoError(t, b.Put(ctx, []byte{byte(i)}, []byte("value"), time.Minute))
		assert.Equal(t, []byte{1, 0, 0, 0, []byte{1, 1, 2, 2}[i]}, raw(t, b, []byte{byte(i)})[:5])
	}
	for what, steps := range map[string][]*Backend{"begin": {before, can}, "middle": {can, does}, "end": {does, after}} {
		for i := range byte(4) {
			for _, b := range steps {
				_, ok, err := b.Get(ctx, []byte{i})
				require.NoError(t, err)
				assert.Equal(t, !(b == before && i > 1 || b == after && i < 2), ok, "%s, %d", what, i)
			}
		}
	}
	assert.Equal(t, Stats{Opened: 2, UnknownKey: 2}, before.Stats())
	assert.Equal(t, Stats{Opened: 2, UnknownKey: 2}, after.Stats())
	deleted, err := does.Delete(ctx, []byte{0}, []byte("value"))
	require.NoError(t, err)
	assert.True(t, deleted, "sealed by the old key")
	deleted, err = after.Delete(ctx, []byte{1}, []byte("value"))
	require.NoError(t, err)
	assert.False(t, deleted, "nobody can tell what it is")
}

func TestUnsoundIsAMiss(t *testing.T) {
	b, _ := onServer(t)
	ctx, id := t.Context(), []byte{1}
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
	require.NoError(t, b.Put(ctx, []byte{2}, []byte("another"), time.Minute))
	value, another := raw(t, b, id), raw(t, b, []byte{2})
	miss := func(stored []byte, what string, args ...any) {
		t.Helper()
		require.NoError(t, b.client.Set(ctx, b.name(id), stored, time.Minute).Err())
		found, ok, err := b.Get(ctx, id)
		require.NoErrorf(t, err, what, args...)
		assert.Falsef(t, ok, what, args...)
		assert.Nilf(t, found, what, args...)
		deleted, err := b.Delete(ctx, id, []byte("value"))
		require.NoErrorf(t, err, what, args...)
		assert.Falsef(t, deleted, what, args...)
	}
	for i := range value {
		changed := bytes.Clone(value)
		changed[i] ^= 0x10
		miss(changed, "byte %d changed", i)
	}
	want := Stats{OtherVersion: 2, UnknownKey: 8, Forged: 2 * (12 + 5 + 16)}
	assert.Equal(t, want, b.Stats())
	for n := range value {
		miss(value[:n], "the first %d bytes", n)
	}
	want.Truncated, want.Forged = 2*(5+12+16), want.Forged+2*5
	assert.Equal(t, want, b.Stats())
	miss(another, "another id's")
	want.Forged += 2
	miss([]byte("what somebody else keeps here, longer than any seal"), "another's")
	want.OtherVersion += 2
	assert.Equal(t, want, b.Stats())

	// And back to what was there.
	require.NoError(t, b.client.Set(ctx, b.name(id), value, time.Minute).Err())
	_, ok, err := b.Get(ctx, id)
	require.NoError(t, err)
	assert.True(t, ok)
}

// An error that the server answers with is the caller's, and the breaker's not.
func TestErrorReply(t *testing.T) {
	b, _ := onServer(t)
	ctx, id := t.Context(), []byte("id")
	require.NoError(t, b.client.LPush(ctx, b.name(id), "a list").Err())
	for range 2 * DefaultFailures {
		_, ok, err := b.Get(ctx, id)
		assert.False(t, ok)
		require.ErrorContains(t, err, "redisstore: WRONGTYPE")
		deleted, err := b.Delete(ctx, id, nil)
		assert.False(t, deleted)
		require.ErrorContains(t, err, "redisstore: WRONGTYPE")
	}
	assert.Equal(t, Stats{Failures: 4 * DefaultFailures}, b.Stats())
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
}

func TestOneDeleteWins(t *testing.T) {
	b, _ := onServer(t)
	for range 20 {
		require.NoError(t, b.Put(t.Context(), []byte("id"), []byte("value"), time.Minute))
		var wins atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				deleted, err := b.Delete(t.Context(), []byte("id"), []byte("value"))
				assert.NoError(t, err)
				if deleted {
					wins.Add(1)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int32(1), wins.Load())
	}
}

// before runs once, just before the script that removes.
type before struct{ once func() }

func (before) DialHook(next redis.DialHook) redis.DialHook { return next }
func (before) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (h *before) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if once := h.once; once != nil && cmd.Name() == "evalsha" {
			h.once = nil
			once()
		}
		return next(ctx, cmd)
	}
}

func TestDeleteOfWhatChanges(t *testing.T) {
	b, _ := onServer(t)
	ctx, id, hook := t.Context(), []byte("id"), new(before)
	b.client.AddHook(hook)
	for _, test := range []struct {
		what    string
		between func() error
		deleted bool
		left    string
	}{
		{"nothing", func() error { return nil }, true, ""},
		{"another value", func() error { return b.Put(ctx, id, []byte("new"), time.Minute) }, false, "new"},
		{"the same value again", func() error { return b.Put(ctx, id, []byte("value"), time.Minute) }, true, ""},
		{"removed", func() error { return b.client.Del(ctx, b.name(id)).Err() }, false, ""},
		{"scripts forgotten", func() error { return b.client.ScriptFlush(ctx).Err() }, true, ""},
	} {
		require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
		hook.once = func() { require.NoError(t, test.between(), test.what) }
		deleted, err := b.Delete(ctx, id, []byte("value"))
		require.NoError(t, err, test.what)
		require.Nil(t, hook.once, test.what)
		assert.Equal(t, test.deleted, deleted, test.what)
		value, _, err := b.Get(ctx, id)
		require.NoError(t, err, test.what)
		assert.Equal(t, test.left, string(value), test.what)
	}
}

func TestPrefix(t *testing.T) {
	b, s := onServer(t)
	other := newBackend(t, Config{Client: newClient(t, Options(s.addr())), Keys: []Key{testKey(1)}, Prefix: "other:"})
	ctx, id := t.Context(), []byte{0xab}
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
	_, ok, err := other.Get(ctx, id)
	require.NoError(t, err)
	assert.False(t, ok)
	require.NoError(t, b.client.Copy(ctx, "dsm:ab", "other:ab", 0, false).Err())
	_, ok, err = other.Get(ctx, id)
	require.NoError(t, err)
	assert.False(t, ok)
	assert.Equal(t, Stats{Absent: 1, Forged: 1}, other.Stats())
}

// What the README says that the user in Redis needs, and no more.
func TestUser(t *testing.T) {
	admin, s := onServer(t)
	ctx, id := t.Context(), []byte("id")
	require.NoError(t, admin.client.Do(ctx, "acl", "setuser", "dsm", "on", ">secret", "~dsm:*", "+get", "+set", "+del", "+eval", "+evalsha").Err())
	options := Options(s.addr())
	options.Username, options.Password = "dsm", "secret"
	b := newBackend(t, Config{Client: newClient(t, options), Keys: []Key{testKey(1)}})
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
	_, ok, err := b.Get(ctx, id)
	require.NoError(t, err)
	assert.True(t, ok)
	deleted, err := b.Delete(ctx, id, []byte("value"))
	require.NoError(t, err)
	assert.True(t, deleted)
}

func TestRestart(t *testing.T) {
	b, s := onServer(t)
	ctx, id := t.Context(), []byte("id")
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
	deleted, err := b.Delete(ctx, id, []byte("value")) // it knows the script
	require.NoError(t, err)
	require.True(t, deleted)
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))

	s.restart(t)
	_, ok, err := b.Get(ctx, id)
	require.NoError(t, err)
	require.False(t, ok)
	deleted, err = b.Delete(ctx, id, []byte("value"))
	require.NoError(t, err)
	require.False(t, deleted)
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
	deleted, err = b.Delete(ctx, id, []byte("value")) // the script again
	require.NoError(t, err)
	require.True(t, deleted)
}
