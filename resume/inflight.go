// SPDX-License-Identifier: MIT

package resume

import (
	"context"
	"errors"
	"net/netip"
	"os"
)

// ErrBusy is the error of Put, Delete and RevokeIdentity when Config.Lookups writes are in
// flight.
var ErrBusy = errors.New("resume: too many writes are in flight")

// lookUp calls getEntry for a client in the network source, or returns ErrBusy if too many
// lookups are in flight, in total or for the network.
func (s *Store) lookUp(ctx context.Context, source netip.Prefix, id []byte) (value []byte, ok bool, err error) {
	source = source.Masked()
	if !s.beginLookup(source) {
		return nil, false, ErrBusy
	}
	return s.getEntry(ctx, id, func() { s.endLookup(source) })
}

// readToWrite calls getEntry for a change of the entry, or returns ErrBusy if too many
// writes are in flight.
func (s *Store) readToWrite(ctx context.Context, id []byte) (value []byte, ok bool, err error) {
	if !s.beginWrite() {
		return nil, false, ErrBusy
	}
	return s.getEntry(ctx, id, s.endWrite)
}

// getEntry calls the Backend's Get by way of callBackend. The caller must not change id
// afterwards, because an abandoned call may still read it.
func (s *Store) getEntry(ctx context.Context, id []byte, release func()) (value []byte, ok bool, err error) {
	var result struct { // only read if the call has returned: an abandoned call writes to it later
		value []byte
		ok    bool
	}
	err = s.callBackend(ctx, release, func(ctx context.Context) (err error) {
		result.value, result.ok, err = s.config.Backend.Get(ctx, id)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return result.value, result.ok, nil
}

// write calls the Backend by way of callBackend, or returns ErrBusy if too many writes
// are in flight.
func (s *Store) write(ctx context.Context, call func(context.Context) error) error {
	if !s.beginWrite() {
		return ErrBusy
	}
	return s.callBackend(ctx, s.endWrite, call)
}

// callBackend runs call in a goroutine and waits for it for at most LookupTimeout, even
// if the Backend ignores its context. release is called once, when call has returned.
// If callBackend returns the result of call, release was called before. After an error
// the call may still be running.
func (s *Store) callBackend(ctx context.Context, release func(), call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.LookupTimeout)
	defer cancel()
	result := make(chan error, 1) // buffered, so that an abandoned call does not block
	go func() {
		err := call(ctx)
		release()
		result <- err
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// outcomeOf returns the counter for an error of lookUp, readToWrite or write. ctx is the
// context of the Store's caller.
func (s *Store) outcomeOf(ctx context.Context, err error) *uint64 {
	switch {
	case errors.Is(err, ErrBusy):
		return &s.stats.Refused
	case ctx.Err() != nil:
		return &s.stats.Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return &s.stats.TimedOut
	}
	return &s.stats.Failures
}

// beginLookup reserves room for a lookup; endLookup gives it back. It reports false if
// there is no room.
func (s *Store) beginLookup(source netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.lookupsBySource[source]
	if s.stats.Lookups >= s.config.Lookups || n >= s.config.LookupsPerSource {
		return false
	}
	s.stats.Lookups++
	s.lookupsBySource[source] = n + 1
	return true
}

func (s *Store) endLookup(source netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Lookups--
	if s.lookupsBySource[source]--; s.lookupsBySource[source] == 0 {
		delete(s.lookupsBySource, source)
	}
}

// beginWrite reserves room for a call of the Backend by Put, Delete or RevokeIdentity;
// endWrite gives it back. It reports false if there is no room.
func (s *Store) beginWrite() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stats.Writes >= s.config.Lookups {
		return false
	}
	s.stats.Writes++
	return true
}

func (s *Store) endWrite() {
	s.mu.Lock()
	s.stats.Writes--
	s.mu.Unlock()
}
