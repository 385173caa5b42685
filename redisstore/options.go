// SPDX-License-Identifier: MIT

package redisstore

import (
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Timeouts that Options sets. In the calls of a resume.Store the deadline of the context,
// 50 ms by default, comes first.
const (
	dialTimeout = time.Second // longer than a call: a dial continues after the call that started it
	callTimeout = 250 * time.Millisecond
)

// Options returns options for a client that handshakes wait for: the client fails early
// and does not retry. One address is that of a single node; several addresses are those
// of a cluster. For a cluster of which only one address is known, set IsClusterMode. Add
// what the server requires, such as Username, Password and TLSConfig, and pass the
// options to redis.NewUniversalClient.
func Options(addrs ...string) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs: addrs,
		// If it is false, go-redis waits for ReadTimeout and ignores the context. If it
		// is true, reads end at the context's deadline, but not when the context is
		// cancelled before.
		ContextTimeoutEnabled: true,
		ReadTimeout:           callTimeout,
		WriteTimeout:          callTimeout,
		PoolTimeout:           callTimeout,
		DialTimeout:           dialTimeout,
		// Each retry waits longer than the one before. A retry of a deletion whose reply
		// was lost would report that there was no entry.
		MaxRetries:    -1,
		DialerRetries: 1,
		// go-redis waits for this time after a failed dial, even if it was the last one.
		DialerRetryTimeout: time.Nanosecond,
		// Maintenance notifications lengthen the timeouts while a server is moved.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}
