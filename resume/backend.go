// SPDX-License-Identifier: MIT

package resume

import (
	"context"
	"time"
)

// Backend stores the entries of a Store: byte strings under session ids. [Memory] is a
// Backend in the memory of this process, package redisstore has a Backend on Redis, and
// package resumetest tests any implementation.
//
// A Backend must be safe for concurrent use. It must not retain a slice that it was
// given, nor return a slice that it retains. Each call must return when its context
// ends; a call whose context has ended already must return an error.
//
// A Store uses ids of 32 bytes and values of at most MaxEncoded bytes. An empty value is
// valid. The first 24 bytes of an id are random or a hash; the last 8 may be equal to those
// of many other ids. A ttl is at most a minute longer than MaxLifetime.
//
// A Backend may lose entries, for example to make room for others. With the entry of a
// RevokeIdentity it loses the revocation. A Backend that removes the least recently used
// entry, or the one that expires first, usually loses the revoked sessions before: they
// are older, and a lookup of one of them is followed by a lookup of the revocation.
//
// Entries contain master secrets: a Backend that sends entries out of the process must
// encrypt and authenticate them. A Store logs the errors of its Backend, so an error
// must not contain an id or a value.
type Backend interface {
	// Get returns the value of an entry. ok is false if there is no such entry or it
	// has expired; neither is an error.
	Get(ctx context.Context, id []byte) (value []byte, ok bool, err error)
	// Put stores an entry for the duration ttl, which is positive. An existing entry
	// is replaced in one atomic step. The entry may live up to a second longer.
	Put(ctx context.Context, id, value []byte, ttl time.Duration) error
	// Delete removes an entry if its value equals value, in one atomic step, and
	// reports whether it removed the entry. A missing entry is not an error.
	Delete(ctx context.Context, id, value []byte) (deleted bool, err error)
}
