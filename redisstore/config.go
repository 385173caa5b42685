// SPDX-License-Identifier: MIT

package redisstore

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"
)

// Defaults of Config.
const (
	DefaultPrefix   = "dsm:"
	DefaultFailures = 5
	DefaultCooldown = 5 * time.Second
)

// Config says where a Backend keeps entries and how it encrypts them. New copies it.
type Config struct {
	// Client is a client of a single node, a cluster, a failover group or a ring. The
	// Backend does not close it; the caller does, after the last call of the Backend.
	// ContextTimeoutEnabled must be set in its options, because otherwise calls outlast
	// their contexts. Options sets it. New cannot check it in a client that is not one
	// of go-redis's own types.
	Client redis.UniversalClient
	// Keys has at least one key. The first key encrypts; each key decrypts the entries
	// that it has encrypted.
	Keys []Key
	// Prefix is the first part of the names in Redis. The session id in hexadecimal
	// follows. Servers with the same prefix share their entries. Empty means
	// DefaultPrefix.
	Prefix string
	// Failures is the number of consecutive calls without a reply after which calls
	// fail at once for the duration Cooldown. Then one call is let through; if it fails,
	// the next Cooldown begins. A cluster counts as one server. Zero means
	// DefaultFailures and DefaultCooldown. A negative number is an error.
	Failures int
	Cooldown time.Duration
}

// withDefaults validates the Config, apart from Keys, and returns it with its zero values
// replaced.
func (c Config) withDefaults() (Config, error) {
	if err := checkClient(c.Client); err != nil {
		return c, err
	}
	if c.Failures < 0 || c.Failures > math.MaxInt32 {
		return c, fmt.Errorf("redisstore: Config.Failures is %d: want 0 to %d", c.Failures, math.MaxInt32)
	}
	if c.Cooldown < 0 {
		return c, errors.New("redisstore: Config.Cooldown is negative")
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.Failures == 0 {
		c.Failures = DefaultFailures
	}
	if c.Cooldown == 0 {
		c.Cooldown = DefaultCooldown
	}
	return c, nil
}

// checkClient returns an error if the client is nil, even within a non-nil interface, or
// ignores the deadlines of contexts.
func checkClient(client redis.UniversalClient) error {
	var isNil, usesDeadlines bool
	switch c := client.(type) {
	case nil:
		isNil = true
	case *redis.Client:
		isNil = c == nil
		usesDeadlines = !isNil && c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		isNil = c == nil
		usesDeadlines = !isNil && c.Options().ContextTimeoutEnabled
	case *redis.Ring:
		isNil = c == nil
		usesDeadlines = !isNil && c.Options().ContextTimeoutEnabled
	default:
		usesDeadlines = true
	}
	switch {
	case isNil:
		return errors.New("redisstore: Config.Client is nil")
	case !usesDeadlines:
		return errors.New("redisstore: Config.Client: ContextTimeoutEnabled is not set, so calls would outlast their contexts (see Options)")
	}
	return nil
}
