// SPDX-License-Identifier: MIT

package resume

import (
	"context"
	"time"
)

// Backend is where a Store keeps its entries: bytes in, bytes out. Memory is one,
// package redisstore another, and package resumetest tests any. It must be safe for
// concurrent use, keep no slice that it was given and give none that it keeps, and
// return when its context has ended: with an error if that was so from the start.
//
// A Store's ids are 32 random bytes, and its values at most MaxEncoded bytes. An
// empty value is a value. A Backend may lose entries, to make room for others say.
//
// Entries hold master secrets: a Backend that lets them out of the process must seal
// them. Its errors are logged, so they name no id and no value.
type Backend interface {
	// Get looks an entry up; ok is false if there is none, or it has expired.
	Get(ctx context.Context, id []byte) (value []byte, ok bool, err error)
	// Put keeps an entry for ttl, which is positive, instead of one that is there,
	// in one step. It may be kept for up to a second longer.
	Put(ctx context.Context, id, value []byte, ttl time.Duration) error
	// Delete removes an entry if its value is still value, in one step, and says
	// whether it did. Where there is none it is no error.
	Delete(ctx context.Context, id, value []byte) (deleted bool, err error)
}
