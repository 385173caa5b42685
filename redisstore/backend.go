// SPDX-License-Identifier: MIT

package redisstore

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
)

// What Config means where it is zero.
const (
	DefaultPrefix   = "dsm:"
	DefaultFailures = 5
	DefaultCooldown = 5 * time.Second
)

// Config says where entries are kept, and how they are sealed. It is copied.
type Config struct {
	// Client is of a single node, a cluster, a failover group or a ring. It stays
	// the caller's: the Backend does not close it. Its ContextTimeoutEnabled must be
	// set, or calls would outlast their contexts; Options does that, and more. New
	// cannot see it in a client that is not go-redis's own.
	Client redis.UniversalClient
	// Keys: the first seals, and each opens what it has sealed. At least one.
	Keys []Key
	// Prefix begins the names in Redis; the session id in hex follows. Servers
	// share the entries of one prefix. Empty means DefaultPrefix.
	Prefix string
	// Failures is after how many calls in a row without an answer the server is
	// left alone for Cooldown; after it one call tries, and the next Cooldown begins if
	// it fails. A cluster counts as one server. Zero means DefaultFailures and
	// DefaultCooldown.
	Failures int
	Cooldown time.Duration
}

// Backend is a resume.Backend on Valkey or Redis. It is safe for concurrent use, has
// no goroutine and needs no Close.
type Backend struct {
	// Set in New, never changed.
	client  redis.UniversalClient
	keys    keyring
	prefix  string
	breaker *gobreaker.CircuitBreaker[struct{}]

	reads    [forged + 1]atomic.Uint64 // by fault
	absent   atomic.Uint64
	failures atomic.Uint64
	refused  atomic.Uint64
}

// Stats counts since New. Each read, of Get and of Delete, which looks before it
// removes, that the server answered is one of the first six.
type Stats struct {
	Opened       uint64 // an entry, and it opened
	Absent       uint64 // none, or it has expired
	Truncated    uint64 // shorter than any sealed entry
	OtherVersion uint64 // of a layout that is not ours
	UnknownKey   uint64 // sealed by a key that is not in Config.Keys
	Forged       uint64 // changed, cut, or copied from another name

	Failures uint64 // calls without an answer, or with an error for one
	Refused  uint64 // calls that failed at once, because those before had no answer
	Down     bool   // they do now, or one tries
}

// New makes a Backend. It does not ask the server, which need not be up.
func New(config Config) (*Backend, error) {
	if err := checkClient(config.Client); err != nil {
		return nil, err
	}
	keys, err := newKeyring(config.Keys)
	if err != nil {
		return nil, err
	}
	if config.Failures < 0 || config.Failures > math.MaxInt32 {
		return nil, fmt.Errorf("redisstore: Config.Failures is %d: want 0 to %d", config.Failures, math.MaxInt32)
	}
	if config.Cooldown < 0 {
		return nil, errors.New("redisstore: Config.Cooldown is negative")
	}
	if config.Prefix == "" {
		config.Prefix = DefaultPrefix
	}
	if config.Failures == 0 {
		config.Failures = DefaultFailures
	}
	if config.Cooldown == 0 {
		config.Cooldown = DefaultCooldown
	}
	return &Backend{
		client: config.Client,
		keys:   keys,
		prefix: config.Prefix,
		breaker: gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:      config.Cooldown,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= uint32(config.Failures) },
			IsSuccessful: func(err error) bool { return err == nil || isReply(err) },
			// The caller had enough, of which the server cannot be blamed.
			IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
		}),
	}, nil
}

func checkClient(client redis.UniversalClient) error {
	var none, honours bool
	switch c := client.(type) {
	case nil:
		none = true
	case *redis.Client:
		none = c == nil
		honours = !none && c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		none = c == nil
		honours = !none && c.Options().ContextTimeoutEnabled
	case *redis.Ring:
		none = c == nil
		honours = !none && c.Options().ContextTimeoutEnabled
	default:
		honours = true
	}
	switch {
	case none:
		return errors.New("redisstore: Config.Client is nil")
	case !honours:
		return errors.New("redisstore: Config.Client: ContextTimeoutEnabled is not set, so calls would outlast their contexts (see Options)")
	}
	return nil
}

// Get looks an entry up. One that does not open is none.
func (b *Backend) Get(ctx context.Context, id []byte) (value []byte, ok bool, err error) {
	value, _, err = b.read(ctx, b.name(id))
	return value, value != nil, err
}

// Put keeps an entry for ttl, which is positive and counted by the server, in
// milliseconds.
func (b *Backend) Put(ctx context.Context, id, value []byte, ttl time.Duration) error {
	if ttl <= 0 { // for Redis: forever
		return fmt.Errorf("redisstore: a ttl of %v", ttl)
	}
	name := b.name(id)
	sealed := b.keys.seal(name, value)
	return b.call(ctx, func() error {
		return b.client.Set(ctx, name, sealed, max(ttl, time.Millisecond)).Err()
	})
}

// deleteScript removes a value if it is still the one that was read. It touches one
// name, as a cluster wants it.
var deleteScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
	return redis.call('DEL', KEYS[1])
end
return 0`)

// Delete removes an entry if its value is still value, and says whether it did.
func (b *Backend) Delete(ctx context.Context, id, value []byte) (deleted bool, err error) {
	name := b.name(id)
	for {
		// The server cannot compare what is sealed each time with another nonce.
		// So compare here, and have it remove those very bytes.
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
		// Meanwhile it was removed or replaced, and maybe by the same value.
	}
}

// Stats returns the counts.
func (b *Backend) Stats() Stats {
	return Stats{
		Opened:       b.reads[sound].Load(),
		Absent:       b.absent.Load(),
		Truncated:    b.reads[truncated].Load(),
		OtherVersion: b.reads[otherVersion].Load(),
		UnknownKey:   b.reads[unknownKey].Load(),
		Forged:       b.reads[forged].Load(),
		Failures:     b.failures.Load(),
		Refused:      b.refused.Load(),
		Down:         b.breaker.State() != gobreaker.StateClosed,
	}
}

func (b *Backend) name(id []byte) string { return b.prefix + hex.EncodeToString(id) }

// read returns an entry and the value that it is sealed in. The entry is nil if there
// is none, or it does not open; an empty one is not.
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
	entry, f := b.keys.open(name, sealed)
	b.reads[f].Add(1)
	return entry, sealed, nil
}

// call asks the server, unless it has not answered lately.
func (b *Backend) call(ctx context.Context, ask func() error) error {
	if err := ctx.Err(); err != nil { // the server has no part in that
		return fmt.Errorf("redisstore: %w", err)
	}
	_, err := b.breaker.Execute(func() (struct{}, error) {
		err := ask()
		if ended := ctx.Err(); err != nil && ended != nil && !isReply(err) {
			err = fmt.Errorf("%w: %w", ended, err)
		}
		return struct{}{}, err
	})
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return err
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		b.refused.Add(1)
		return fmt.Errorf("redisstore: not asked, for the last calls had no answer: %w", err)
	case !errors.Is(err, context.Canceled):
		b.failures.Add(1)
	}
	return fmt.Errorf("redisstore: %w", err)
}

// isReply is whether an error is the server's answer, redis.Nil among them.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}
