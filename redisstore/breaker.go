// SPDX-License-Identifier: MIT

package redisstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
)

// newBreaker returns the circuit breaker that a Config describes.
func newBreaker(config Config) *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:      config.Cooldown,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= uint32(config.Failures) },
		IsSuccessful: func(err error) bool { return err == nil || isReply(err) },
		// A caller that stops waiting says nothing about the server.
		IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
	})
}

// call runs do, which sends one command, unless the circuit breaker is open. It counts
// failures and refusals. It returns redis.Nil unchanged.
func (b *Backend) call(ctx context.Context, do func() error) error {
	if err := ctx.Err(); err != nil { // the breaker must not count this against the server
		return fmt.Errorf("redisstore: %w", err)
	}
	_, err := b.breaker.Execute(func() (struct{}, error) {
		err := do()
		if ctxErr := ctx.Err(); err != nil && ctxErr != nil && !isReply(err) {
			err = fmt.Errorf("%w: %w", ctxErr, err)
		}
		return struct{}{}, err
	})
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return err
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		b.refused.Add(1)
		return fmt.Errorf("redisstore: not sent, because the last calls had no reply: %w", err)
	case !errors.Is(err, context.Canceled):
		b.failures.Add(1)
	}
	return fmt.Errorf("redisstore: %w", err)
}

// isReply reports whether an error is a reply of the server. redis.Nil is one.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}
