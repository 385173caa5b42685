// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// callbacks makes the calls of one of Config's callbacks that may wait. Nothing can stop a
// callback that ignores its context. So each call has a goroutine of its own, for which neither
// a handshake nor Close waits, and the number of calls that have not returned is bounded. A
// panic in the callback ends the program, as in any goroutine.
type callbacks[R, A any] struct {
	// Set in init, never changed.
	name     string // of the callback
	callback func(context.Context, R) (A, error)
	inFlight chan struct{} // has an element for each call that has not returned
}

func (c *callbacks[R, A]) init(name string, most int, callback func(context.Context, R) (A, error)) {
	c.name, c.callback = name, callback
	c.inFlight = make(chan struct{}, most)
}

// answer is what a callback has returned.
type answer[A any] struct {
	value A
	err   error
}

// noAnswerError is the error of a call that was not made, or has not returned in time.
type noAnswerError struct{ cause error }

func (e *noAnswerError) Error() string { return e.cause.Error() }
func (e *noAnswerError) Unwrap() error { return e.cause }

// isNoAnswer reports whether call has returned an error for the lack of an answer. An error of the
// application's can wrap a noAnswerError, of another listener, so nothing is unwrapped.
func isNoAnswer(err error) bool {
	_, is := err.(*noAnswerError)
	return is
}

// errGoexit is the error of a callback that has ended its goroutine.
var errGoexit = errors.New("dsm: the callback has called runtime.Goexit")

// call calls the callback, and returns what that returns. It waits no longer than ctx. The
// error is a *noAnswerError if there is no answer. An error that the callback returns after the
// end of ctx is no answer: it says that there was no time for one. No lock may be held.
func (c *callbacks[R, A]) call(ctx context.Context, r R) (value A, err error) {
	lockorder.AssertNone(c.name)
	if err := ctx.Err(); err != nil {
		return value, &noAnswerError{fmt.Errorf("dsm: %s was not called: %w", c.name, err)}
	}
	select {
	case c.inFlight <- struct{}{}:
	default:
		// A wait for one of them would end with the handshake's time.
		return value, &noAnswerError{fmt.Errorf("dsm: %s was not called: %d calls of it have not returned", c.name, cap(c.inFlight))}
	}
	answered := make(chan answer[A], 1) // so that a late answer holds up nobody
	go c.run(ctx, r, answered)
	select {
	case a := <-answered:
		if a.err == nil || ctx.Err() == nil {
			return a.value, a.err
		}
	case <-ctx.Done():
	}
	return value, &noAnswerError{fmt.Errorf("dsm: %s has not returned: %w", c.name, ctx.Err())}
}

func (c *callbacks[R, A]) run(ctx context.Context, r R, answered chan<- answer[A]) {
	a := answer[A]{err: errGoexit}
	defer func() {
		<-c.inFlight
		answered <- a
	}()
	a.value, a.err = c.callback(ctx, r)
}
