// SPDX-License-Identifier: MIT

// Package resumetest tests implementations of resume.Backend.
package resumetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm/resume"
)

const (
	shortTTL   = time.Second     // of entries whose expiry a check waits for
	grace      = time.Second     // how much longer than its ttl an entry may live
	slack      = 5 * time.Second // how late a slow machine may notice the expiry
	longTTL    = time.Hour       // of entries that outlive the check
	rounds     = 50              // repetitions of a race
	goroutines = 8               // that take part in a race
)

// Run tests a Backend with one subtest for each requirement. Each subtest calls open for
// an empty Backend with room for at least 1000 entries, and open closes that Backend with
// t.Cleanup. Run takes more than a second, because it waits for entries to expire. Run it
// under the race detector too.
func Run(t *testing.T, open func(t *testing.T) resume.Backend) { runChecks(t, checks, open) }

func runChecks(t *testing.T, checks []check, open func(t *testing.T) resume.Backend) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// check tests one requirement. It is given an empty Backend.
type check struct {
	name string
	run  func(t reporter, b resume.Backend)
}

// reporter has the methods of *testing.T that checks use.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

var checks = []check{
	{"AbsentEntryIsMiss", absentEntryIsMiss},
	{"GetReturnsWhatPutStored", getReturnsWhatPutStored},
	{"IDsAndValuesHoldAnyByte", idsAndValuesHoldAnyByte},
	{"IDsThatDifferInOneBit", idsThatDifferInOneBit},
	{"IDsWithEqualEnds", idsWithEqualEnds},
	{"EmptyValue", emptyValue},
	{"LargestValue", largestValue},
	{"PutReplacesValue", putReplacesValue},
	{"SlicesAreNotShared", slicesAreNotShared},
	{"EntriesExpire", entriesExpire},
	{"DeleteComparesValue", deleteComparesValue},
	{"OneOfConcurrentDeletesSucceeds", oneOfConcurrentDeletesSucceeds},
	{"DeleteSparesConcurrentPut", deleteSparesConcurrentPut},
	{"PutReplacesInOneStep", putReplacesInOneStep},
	{"ConcurrentCalls", concurrentCalls},
	{"EndedContextIsError", endedContextIsError},
}

var background = context.Background()

// testID returns the id with a number: 32 bytes without a pattern.
func testID(n int) []byte {
	sum := sha256.Sum256(fmt.Append(nil, "id ", n))
	return sum[:]
}

func put(t reporter, b resume.Backend, id, value []byte, ttl time.Duration) {
	t.Helper()
	if err := b.Put(background, id, value, ttl); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func get(t reporter, b resume.Backend, id []byte) ([]byte, bool) {
	t.Helper()
	value, ok, err := b.Get(background, id)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return value, ok
}

func wantValue(t reporter, b resume.Backend, id, want []byte) {
	t.Helper()
	value, ok := get(t, b, id)
	if !ok {
		t.Fatalf("Get found no entry: want %s", quote(want))
	}
	if !bytes.Equal(value, want) {
		t.Fatalf("Get returned %s: want %s", quote(value), quote(want))
	}
}

func wantMiss(t reporter, b resume.Backend, id []byte) {
	t.Helper()
	if value, ok := get(t, b, id); ok {
		t.Fatalf("Get returned %s: want no entry", quote(value))
	}
}

func wantDelete(t reporter, b resume.Backend, id, value []byte, want bool) {
	t.Helper()
	deleted, err := b.Delete(background, id, value)
	if err != nil {
		t.Fatalf("Delete: %v", err)
	}
	if deleted != want {
		t.Fatalf("Delete reported %t: want %t", deleted, want)
	}
}

// quote formats a value, shortened if it is long.
func quote(value []byte) string {
	if len(value) > 64 {
		return fmt.Sprintf("%q… of %d bytes", value[:64], len(value))
	}
	return fmt.Sprintf("%q", value)
}

// concurrently calls f(0) to f(n-1) in goroutines and waits for them.
func concurrently(n int, f func(i int)) {
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() { f(i) })
	}
	done.Wait()
}

func absentEntryIsMiss(t reporter, b resume.Backend) {
	wantMiss(t, b, testID(1))
	put(t, b, testID(2), []byte("another"), longTTL)
	wantMiss(t, b, testID(1))
}

func getReturnsWhatPutStored(t reporter, b resume.Backend) {
	for i := range 100 {
		put(t, b, testID(i), fmt.Append(nil, "value ", i), longTTL)
	}
	for range 2 { // Get does not remove the entry
		for i := range 100 {
			wantValue(t, b, testID(i), fmt.Append(nil, "value ", i))
		}
	}
}

// Each byte occurs in a value, and at both ends and in the middle of an id.
func idsAndValuesHoldAnyByte(t reporter, b resume.Backend) {
	value := make([]byte, 256)
	for i := range value {
		value[i] = byte(i)
	}
	for i := range 256 {
		id := testID(i)
		id[0], id[8], id[len(id)-1] = byte(i), byte(i), byte(i)
		other := bytes.Clone(id)
		other[len(id)-2] ^= 1
		value := append(value, byte(i))
		put(t, b, id, value, longTTL)
		wantValue(t, b, id, value)
		wantMiss(t, b, other)
		wantDelete(t, b, id, value, true)
		wantMiss(t, b, id)
	}
}

// A Backend may lose an entry when an id that differs in one bit is put. It must not
// return one entry for the id of the other.
func idsThatDifferInOneBit(t reporter, b resume.Backend) {
	for bit := range 8 * len(testID(1)) {
		other := testID(1)
		other[bit/8] ^= 1 << (bit % 8)
		put(t, b, other, []byte("other"), longTTL)
		wantMiss(t, b, testID(1))
		wantDelete(t, b, testID(1), []byte("other"), false)
		wantDelete(t, b, other, []byte("other"), true)
	}
}

// A Store has ids whose last 8 bytes are equal. A Backend must have room for all of them.
func idsWithEqualEnds(t reporter, b resume.Backend) {
	id := func(i int) []byte { return append(testID(i)[:24], "the same"...) }
	for i := range 100 {
		put(t, b, id(i), fmt.Append(nil, "value ", i), longTTL)
	}
	for i := range 100 {
		wantValue(t, b, id(i), fmt.Append(nil, "value ", i))
	}
}

func emptyValue(t reporter, b resume.Backend) {
	put(t, b, testID(1), nil, longTTL)
	wantValue(t, b, testID(1), nil)
	wantDelete(t, b, testID(1), []byte("x"), false)
	wantDelete(t, b, testID(1), []byte{}, true)
	wantMiss(t, b, testID(1))
}

func largestValue(t reporter, b resume.Backend) {
	value := bytes.Repeat(testID(1), resume.MaxEncoded/len(testID(1)))
	put(t, b, testID(1), value, longTTL)
	wantValue(t, b, testID(1), value)
	similar := bytes.Clone(value)
	similar[len(similar)-1] ^= 1
	wantDelete(t, b, testID(1), similar, false)
	wantDelete(t, b, testID(1), value, true)
}

func putReplacesValue(t reporter, b resume.Backend) {
	for _, value := range []string{"first", "second, and longer", "3rd", "first"} {
		put(t, b, testID(1), []byte(value), longTTL)
		wantValue(t, b, testID(1), []byte(value))
	}
	wantDelete(t, b, testID(1), []byte("first"), true)
	wantMiss(t, b, testID(1)) // an earlier value must not reappear
}

// The check modifies each slice that it passed or received, after the call. The entry
// must not change, nor may a call change the slices.
func slicesAreNotShared(t reporter, b resume.Backend) {
	invert := func(s []byte) {
		for i := range s {
			s[i] ^= 0xff
		}
	}
	id, value := testID(1), []byte("value")
	put(t, b, id, value, longTTL)
	if !bytes.Equal(id, testID(1)) || string(value) != "value" {
		t.Fatalf("Put changed its arguments")
	}
	invert(id)
	invert(value)
	wantMiss(t, b, id)
	wantValue(t, b, testID(1), []byte("value"))

	got, _ := get(t, b, testID(1))
	invert(got)
	wantValue(t, b, testID(1), []byte("value"))
	got, _ = get(t, b, testID(1))
	put(t, b, testID(1), []byte("other"), longTTL)
	if string(got) != "value" {
		t.Fatalf("Put changed a value that Get had returned: %s", quote(got))
	}

	id, value = testID(1), []byte("other")
	wantDelete(t, b, id, value, true)
	if !bytes.Equal(id, testID(1)) || string(value) != "other" {
		t.Fatalf("Delete changed its arguments")
	}
}

func entriesExpire(t reporter, b resume.Backend) {
	value := []byte("value")
	start := time.Now()
	for i, ttls := range [][]time.Duration{{shortTTL}, {longTTL, shortTTL}, {shortTTL, longTTL}, {longTTL}, {time.Millisecond}} {
		for _, ttl := range ttls {
			put(t, b, testID(i), value, ttl)
		}
	}
	for _, i := range []int{0, 1, 4} {
		for {
			_, ok := get(t, b, testID(i))
			elapsed := time.Since(start) // not less than the age of the entry
			if !ok && i != 4 && elapsed < shortTTL*9/10 {
				t.Fatalf("an entry has expired after %s: want %s", elapsed, shortTTL)
			}
			if !ok {
				break
			}
			if elapsed > shortTTL+grace+slack {
				t.Fatalf("an entry has not expired after %s: want %s", elapsed, shortTTL)
			}
			time.Sleep(shortTTL / 50)
		}
		wantDelete(t, b, testID(i), value, false)
	}
	wantValue(t, b, testID(2), value) // the ttl of the later Put counts
	wantValue(t, b, testID(3), value)
	put(t, b, testID(0), value, longTTL) // an expired entry does not prevent a new one
	wantValue(t, b, testID(0), value)
}

func deleteComparesValue(t reporter, b resume.Backend) {
	value := []byte("value")
	wantDelete(t, b, testID(1), value, false)
	put(t, b, testID(1), value, longTTL)
	put(t, b, testID(2), value, longTTL)
	for _, wrong := range []string{"", "v", "valu", "value ", "value\x00", "Value", "eulav"} {
		wantDelete(t, b, testID(1), []byte(wrong), false)
		wantValue(t, b, testID(1), value)
	}
	wantDelete(t, b, testID(1), value, true)
	wantMiss(t, b, testID(1))
	wantDelete(t, b, testID(1), value, false)
	wantValue(t, b, testID(2), value) // an equal value under another id is not deleted
}

func oneOfConcurrentDeletesSucceeds(t reporter, b resume.Backend) {
	for round := range rounds {
		id, value := testID(round), []byte("value")
		put(t, b, id, value, longTTL)
		var succeeded atomic.Int32
		concurrently(goroutines, func(int) {
			deleted, err := b.Delete(background, id, value)
			if err != nil {
				t.Errorf("Delete: %v", err)
			}
			if deleted {
				succeeded.Add(1)
			}
		})
		if n := succeeded.Load(); n != 1 {
			t.Fatalf("%d calls of Delete reported that they removed the entry: want 1", n)
		}
		wantMiss(t, b, id)
	}
}

// A Delete of the old value runs while Put replaces it. It must not remove the new value.
func deleteSparesConcurrentPut(t reporter, b resume.Backend) {
	for round := range rounds {
		id, before, after := testID(round), []byte("before"), []byte("after")
		put(t, b, id, before, longTTL)
		concurrently(goroutines, func(i int) {
			var err error
			if i == goroutines/2 {
				err = b.Put(background, id, after, longTTL)
			} else {
				_, err = b.Delete(background, id, before)
			}
			if err != nil {
				t.Errorf("Put or Delete: %v", err)
			}
		})
		wantValue(t, b, id, after)
	}
}

// A Get that runs while Put replaces the entry must return the whole old or the whole new
// value.
func putReplacesInOneStep(t reporter, b resume.Backend) {
	id := testID(1)
	values := [][]byte{bytes.Repeat([]byte("a"), 1000), bytes.Repeat([]byte("b"), 500)}
	put(t, b, id, values[0], longTTL)
	var stop atomic.Bool
	concurrently(goroutines, func(i int) {
		if i == 0 {
			defer stop.Store(true)
			for n := range 4 * rounds {
				if err := b.Put(background, id, values[n%2], longTTL); err != nil {
					t.Errorf("Put: %v", err)
				}
			}
			return
		}
		for !stop.Load() {
			value, ok, err := b.Get(background, id)
			switch {
			case err != nil:
				t.Errorf("Get: %v", err)
				return
			case !ok:
				t.Errorf("Get found no entry while it was replaced")
				return
			case !bytes.Equal(value, values[0]) && !bytes.Equal(value, values[1]):
				t.Errorf("Get returned %s: want one of the two values that were put", quote(value))
				return
			}
		}
	})
}

func concurrentCalls(t reporter, b resume.Backend) {
	concurrently(goroutines, func(i int) {
		for n := range rounds {
			id, value := testID(goroutines*n+i), fmt.Append(nil, "value ", i, n)
			if err := b.Put(background, id, value, longTTL); err != nil {
				t.Errorf("Put: %v", err)
			}
			if got, ok, err := b.Get(background, id); err != nil || !ok || !bytes.Equal(got, value) {
				t.Errorf("Get: %s, %t, %v: want %s", quote(got), ok, err, quote(value))
			}
			if n%2 == 1 {
				continue
			}
			if deleted, err := b.Delete(background, id, value); err != nil || !deleted {
				t.Errorf("Delete: %t, %v", deleted, err)
			}
		}
	})
	for i := range goroutines {
		for n := range rounds {
			if id := testID(goroutines*n + i); n%2 == 1 {
				wantValue(t, b, id, fmt.Append(nil, "value ", i, n))
			} else {
				wantMiss(t, b, id)
			}
		}
	}
}

// Calls with an ended context must fail. Put may or may not have stored the entry then.
func endedContextIsError(t reporter, b resume.Backend) {
	ctx, cancel := context.WithCancel(background)
	cancel()
	id, value := testID(1), []byte("value")
	put(t, b, id, value, longTTL)
	if _, ok, err := b.Get(ctx, id); err == nil || ok {
		t.Errorf("Get with an ended context: %t, %v: want an error", ok, err)
	}
	if err := b.Put(ctx, id, value, longTTL); err == nil {
		t.Errorf("Put with an ended context: want an error")
	}
	if deleted, err := b.Delete(ctx, id, value); err == nil || deleted {
		t.Errorf("Delete with an ended context: %t, %v: want an error", deleted, err)
	}
}
