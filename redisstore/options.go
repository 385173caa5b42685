// SPDX-License-Identifier: MIT

package redisstore

import (
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// What Options sets. The context's own deadline, 50 ms of a resume.Store, comes before.
const (
	dialTimeout = time.Second // a dial goes on when the call that began it has ended
	callTimeout = 250 * time.Millisecond
)

// Options are for a client that handshakes wait for: it gives up early rather than
// try again. One address is of a single node, several are of a cluster (if only one of
// a cluster's is known, set IsClusterMode). Add what the server asks for, such as
// Username, Password and TLSConfig, and give them to redis.NewUniversalClient.
func Options(addrs ...string) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs: addrs,
		// Without it go-redis waits for ReadTimeout, whatever the context says. With
		// it reads know the context's deadline, but do not see it cancelled before.
		ContextTimeoutEnabled: true,
		ReadTimeout:           callTimeout,
		WriteTimeout:          callTimeout,
		PoolTimeout:           callTimeout,
		DialTimeout:           dialTimeout,
		// Retries wait longer each time, and repeat a deletion whose answer was
		// lost, which then says that there was nothing.
		MaxRetries:    -1,
		DialerRetries: 1,
		// Before go-redis says that a dial has failed it waits as if it would dial again.
		DialerRetryTimeout: time.Nanosecond,
		// They would lengthen the timeouts while a server is moved.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}
