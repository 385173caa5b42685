// SPDX-License-Identifier: MIT

package redisstore

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/keyring"
	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
)

// Backend is a resume.Backend on Valkey or Redis. Make one with New; the zero Backend
// cannot be used. A Backend is safe for concurrent use, must not be copied, starts no
// goroutine and needs no closing.
type Backend struct {
	// Set in New, never changed.
	client  redis.UniversalClient
	keys    *keyring.Ring
	prefix  string
	breaker *gobreaker.CircuitBreaker[struct{}]

	reads    [openResults]atomic.Uint64 // values that were read, by the result of opening them
	absent   atomic.Uint64
	failures atomic.Uint64
	refused  atomic.Uint64
}

// New returns a Backend. New does not contact the server, so the server need not be
// running.
func New(config Config) (*Backend, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	keys, err := newKeyring(config.Keys)
	if err != nil {
		return nil, err
	}
	return &Backend{client: config.Client, keys: keys, prefix: config.Prefix, breaker: newBreaker(config)}, nil
}

// Get implements resume.Backend. A value that cannot be opened is a miss.
func (b *Backend) Get(ctx context.Context, id []byte) (value []byte, ok bool, err error) {
	value, _, err = b.read(ctx, b.name(id))
	return value, value != nil, err
}

// Put implements resume.Backend. The server measures ttl, in milliseconds.
func (b *Backend) Put(ctx context.Context, id, value []byte, ttl time.Duration) error {
	if ttl <= 0 { // go-redis would store the entry without an expiry
		return fmt.Errorf("redisstore: a ttl of %v", ttl)
	}
	name := b.name(id)
	sealed := seal(b.keys, name, value)
	return b.call(ctx, func() error {
		return b.client.Set(ctx, name, sealed, max(ttl, time.Millisecond)).Err()
	})
}

// deleteScript removes a name if its value equals the argument. It uses one name only,
// because a cluster requires all names of a script to be on one node.
var deleteScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
	return redis.call('DEL', KEYS[1])
end
return 0`)

// Delete implements resume.Backend. It reads the entry, compares it and removes it if it
// has not changed since; it starts again if the entry has changed.
func (b *Backend) Delete(ctx context.Context, id, value []byte) (deleted bool, err error) {
	name := b.name(id)
	for {
		// The server cannot compare the plaintext, and the same plaintext is encrypted
		// differently each time. So compare it here and remove the exact ciphertext.
		found, sealed, err := b.read(ctx, name)
		if err != nil || found == nil || subtle.ConstantTimeCompare(found, value) == 0 {
			return false, err
		}
		var removed int
		err = b.call(ctx, func() (err error) {
			removed, err = deleteScript.Run(ctx, b.client, []string{name}, sealed).Int()
			return err
		})
		if err != nil || removed != 0 {
			return removed != 0, err
		}
		// The entry was removed or replaced meanwhile, possibly by an equal value.
	}
}

// name returns the name in Redis of a session id.
func (b *Backend) name(id []byte) string { return b.prefix + hex.EncodeToString(id) }

// read returns the plaintext of an entry and the sealed value that contains it. The
// plaintext is nil if there is no entry or it cannot be opened, and not nil if the entry
// is empty.
func (b *Backend) read(ctx context.Context, name string) (entry, sealed []byte, err error) {
	err = b.call(ctx, func() (err error) {
		sealed, err = b.client.Get(ctx, name).Bytes()
		return err
	})
	if errors.Is(err, redis.Nil) {
		b.absent.Add(1)
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	entry, result := open(b.keys, name, sealed)
	b.reads[result].Add(1)
	return entry, sealed, nil
}
