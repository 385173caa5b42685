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
	"github.com/go-dsm/dsm/resume/resumetest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var _ resume.Backend = (*Backend)(nil)

func TestBackendConformance(t *testing.T) {
	s := startServer(t)
	client := newClient(t, Options(s.addr()))
	resumetest.Run(t, func(t *testing.T) resume.Backend {
		require.NoError(t, client.FlushAll(t.Context()).Err())
		return newBackend(t, Config{Client: client, Keys: []Key{testKey(1)}})
	})
}

func TestBackendTakesIDsAndValuesOfAnyLength(t *testing.T) {
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

func TestServerMeasuresTTL(t *testing.T) {
	b, _ := onServer(t)
	ctx, id := t.Context(), []byte("id")
	for _, ttl := range []time.Duration{time.Hour, 90 * time.Minute, 1500 * time.Millisecond} {
		require.NoError(t, b.Put(ctx, id, []byte("value"), ttl))
		remaining, err := b.client.PTTL(ctx, b.name(id)).Result()
		require.NoError(t, err)
		assert.LessOrEqual(t, remaining, ttl)
		assert.Greater(t, remaining, ttl-time.Second)
	}
	for _, ttl := range []time.Duration{0, -1, -time.Second} { // go-redis: no expiry, or for -1 the earlier ttl
		require.ErrorContains(t, b.Put(ctx, id, []byte("other"), ttl), "ttl")
	}
	value, ok, err := b.Get(ctx, id)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, "value", string(value))

	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Nanosecond)) // becomes a millisecond
	assert.Eventually(t, func() bool {
		_, ok, err := b.Get(ctx, id)
		return err == nil && !ok
	}, patience, time.Millisecond)
}

func TestServerHoldsNoPlaintext(t *testing.T) {
	b, _ := onServer(t)
	secret, identity := bytes.Repeat([]byte{0xa5, 0x3c}, 24), "sensor-17@example.org"
	session := &resume.Session{Secret: secret, PSKIdentity: []byte(identity), Scope: "devices", Data: []byte("application")}
	entry, err := session.Marshal()
	require.NoError(t, err)
	id := bytes.Repeat([]byte{7}, 32)
	require.NoError(t, b.Put(t.Context(), id, entry, time.Minute))

	names, err := b.client.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	require.Equal(t, []string{fmt.Sprintf("dsm:%x", id)}, names)
	value := storedValue(t, b, id)
	assert.Len(t, value, 5+12+len(entry)+16)
	for what, plaintext := range map[string][]byte{
		"the secret": secret[:8], "the identity": []byte("sensor"), "the scope": []byte("devices"), "data": []byte("application"), "the entry": entry[:8],
	} {
		assert.True(t, bytes.Contains(entry, plaintext), what)
		assert.False(t, bytes.Contains(value, plaintext), what)
	}
	// The same entry is encrypted differently each time.
	require.NoError(t, b.Put(t.Context(), id, entry, time.Minute))
	assert.NotEqual(t, value, storedValue(t, b, id))
}

// The steps of README.md: first all servers can open entries of the new key, then all seal
// with it, then the old key is dropped. Servers of two adjacent steps run side by side.
func TestKeyRotation(t *testing.T) {
	oldOnly, s := onServer(t)
	client := newClient(t, Options(s.addr()))
	ctx := t.Context()
	sealsOld := newBackend(t, Config{Client: client, Keys: []Key{testKey(1), testKey(2)}})
	sealsNew := newBackend(t, Config{Client: client, Keys: []Key{testKey(2), testKey(1)}})
	newOnly := newBackend(t, Config{Client: client, Keys: []Key{testKey(2)}})

	for i, b := range []*Backend{oldOnly, sealsOld, sealsNew, newOnly} {
		require.NoError(t, b.Put(ctx, []byte{byte(i)}, []byte("value"), time.Minute))
		assert.Equal(t, []byte{1, 0, 0, 0, []byte{1, 1, 2, 2}[i]}, storedValue(t, b, []byte{byte(i)})[:5])
	}
	for step, backends := range map[string][]*Backend{"first": {oldOnly, sealsOld}, "second": {sealsOld, sealsNew}, "third": {sealsNew, newOnly}} {
		for i := range byte(4) {
			for _, b := range backends {
				_, ok, err := b.Get(ctx, []byte{i})
				require.NoError(t, err)
				assert.Equal(t, !(b == oldOnly && i > 1 || b == newOnly && i < 2), ok, "%s step, entry %d", step, i)
			}
		}
	}
	assert.Equal(t, Stats{Opened: 2, UnknownKey: 2}, oldOnly.Stats())
	assert.Equal(t, Stats{Opened: 2, UnknownKey: 2}, newOnly.Stats())
	deleted, err := sealsNew.Delete(ctx, []byte{0}, []byte("value"))
	require.NoError(t, err)
	assert.True(t, deleted, "sealed with the old key")
	deleted, err = newOnly.Delete(ctx, []byte{1}, []byte("value"))
	require.NoError(t, err)
	assert.False(t, deleted, "an entry that cannot be opened")
}

func TestValueThatCannotBeOpenedIsMiss(t *testing.T) {
	b, _ := onServer(t)
	ctx, id := t.Context(), []byte{1}
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
	require.NoError(t, b.Put(ctx, []byte{2}, []byte("another"), time.Minute))
	value, another := storedValue(t, b, id), storedValue(t, b, []byte{2})
	wantMiss := func(stored []byte, format string, args ...any) {
		t.Helper()
		require.NoError(t, b.client.Set(ctx, b.name(id), stored, time.Minute).Err())
		found, ok, err := b.Get(ctx, id)
		require.NoErrorf(t, err, format, args...)
		assert.Falsef(t, ok, format, args...)
		assert.Nilf(t, found, format, args...)
		deleted, err := b.Delete(ctx, id, []byte("value"))
		require.NoErrorf(t, err, format, args...)
		assert.Falsef(t, deleted, format, args...)
	}
	for i := range value {
		modified := bytes.Clone(value)
		modified[i] ^= 0x10
		wantMiss(modified, "byte %d modified", i)
	}
	want := Stats{OtherVersion: 2, UnknownKey: 8, Forged: 2 * (12 + 5 + 16)}
	assert.Equal(t, want, b.Stats())
	for n := range value {
		wantMiss(value[:n], "the first %d bytes", n)
	}
	want.Truncated, want.Forged = 2*(5+12+16), want.Forged+2*5
	assert.Equal(t, want, b.Stats())
	wantMiss(another, "the value of another id")
	want.Forged += 2
	wantMiss([]byte("a value of another application, longer than the overhead"), "no sealed value")
	want.OtherVersion += 2
	assert.Equal(t, want, b.Stats())

	// The original value can be opened again.
	require.NoError(t, b.client.Set(ctx, b.name(id), value, time.Minute).Err())
	_, ok, err := b.Get(ctx, id)
	require.NoError(t, err)
	assert.True(t, ok)
}

func TestOneOfConcurrentDeletesSucceeds(t *testing.T) {
	b, _ := onServer(t)
	for range 20 {
		require.NoError(t, b.Put(t.Context(), []byte("id"), []byte("value"), time.Minute))
		var succeeded atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				deleted, err := b.Delete(t.Context(), []byte("id"), []byte("value"))
				assert.NoError(t, err)
				if deleted {
					succeeded.Add(1)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int32(1), succeeded.Load())
	}
}

// beforeScript is a hook that calls a function once, just before the deletion script runs.
type beforeScript struct{ do func() }

func (beforeScript) DialHook(next redis.DialHook) redis.DialHook { return next }
func (beforeScript) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (h *beforeScript) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if do := h.do; do != nil && cmd.Name() == "evalsha" {
			h.do = nil
			do()
		}
		return next(ctx, cmd)
	}
}

func TestDeleteWhileEntryChanges(t *testing.T) {
	b, _ := onServer(t)
	ctx, id, hook := t.Context(), []byte("id"), new(beforeScript)
	b.client.AddHook(hook)
	for _, test := range []struct {
		name      string
		change    func() error // after Delete has read the entry
		deleted   bool
		remaining string
	}{
		{"unchanged", func() error { return nil }, true, ""},
		{"another value", func() error { return b.Put(ctx, id, []byte("new"), time.Minute) }, false, "new"},
		{"the same value again", func() error { return b.Put(ctx, id, []byte("value"), time.Minute) }, true, ""},
		{"removed", func() error { return b.client.Del(ctx, b.name(id)).Err() }, false, ""},
		{"scripts flushed", func() error { return b.client.ScriptFlush(ctx).Err() }, true, ""},
	} {
		require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
		hook.do = func() { require.NoError(t, test.change(), test.name) }
		deleted, err := b.Delete(ctx, id, []byte("value"))
		require.NoError(t, err, test.name)
		require.Nil(t, hook.do, test.name)
		assert.Equal(t, test.deleted, deleted, test.name)
		value, _, err := b.Get(ctx, id)
		require.NoError(t, err, test.name)
		assert.Equal(t, test.remaining, string(value), test.name)
	}
}

func TestPrefixSeparatesEntries(t *testing.T) {
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

// The user has exactly the permissions that README.md lists for a single node.
func TestPermissionsOfREADMESuffice(t *testing.T) {
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

func TestBackendWorksAfterServerRestart(t *testing.T) {
	b, s := onServer(t)
	ctx, id := t.Context(), []byte("id")
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
	deleted, err := b.Delete(ctx, id, []byte("value")) // the server has the script now
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
	deleted, err = b.Delete(ctx, id, []byte("value")) // the script is sent again
	require.NoError(t, err)
	require.True(t, deleted)
}
