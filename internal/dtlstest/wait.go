// SPDX-License-Identifier: MIT

package dtlstest

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// Patience bounds what a test waits for. Only a failure waits for all of it.
const Patience = 20 * time.Second

// pollInterval is the time between two looks at a condition.
const pollInterval = time.Millisecond

// Eventually waits until a condition holds that other goroutines bring about. It calls
// cond in the goroutine of the test, at once and then every millisecond. message and
// args are as for fmt.Sprintf.
func Eventually(t testing.TB, cond func() bool, message string, args ...any) {
	t.Helper()
	if !poll(Patience, cond) {
		t.Fatalf("not within %v: %s", Patience, fmt.Sprintf(message, args...))
	}
}

// poll reports whether cond held within a time.
func poll(limit time.Duration, cond func() bool) bool {
	for begin := time.Now(); !cond(); time.Sleep(pollInterval) {
		if time.Since(begin) > limit {
			return false
		}
	}
	return true
}

// Receive waits for a value from a channel.
func Receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	limit := time.NewTimer(Patience)
	defer limit.Stop()
	select {
	case v, ok := <-from:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return v
	case <-limit.C:
		t.Fatalf("nothing was received within %v", Patience)
	}
	panic("not reached")
}

// InCI reports whether the environment says that the tests run in CI: there everything
// runs at full size, and nothing may be missing.
func InCI() bool { return os.Getenv("CI") != "" }

// Scaled returns the size of a test: ci in CI, and here elsewhere. Under the race
// detector, and with -short, the size is three tenths of here.
func Scaled(here, ci int) int {
	switch {
	case RaceEnabled || testing.Short():
		return max(here*3/10, 1)
	case InCI():
		return ci
	}
	return here
}
