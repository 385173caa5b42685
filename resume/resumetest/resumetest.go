// SPDX-License-Identifier: MIT

// Package resumetest tests whether a resume.Backend does what that promises.
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
	short  = time.Second     // a time to live that is waited for
	grace  = time.Second     // how much longer an entry may live
	slack  = 5 * time.Second // how late a slow machine may be to see it
	long   = time.Hour
	rounds = 50 // of a race
	racers = 8  // that take part
)

// Run tests a Backend. open returns an empty one, with room for a thousand entries at
// least, and closes it by t.Cleanup; it is called for each of the tests. They take
// some seconds, for entries have to expire. Run them with the race detector too.
func Run(t *testing.T, open func(t *testing.T) resume.Backend) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// checker is what the checks need of a *testing.T.
type checker interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

var checks = []struct {
	name string
	run  func(t checker, b resume.Backend)
}{
	{"Missing", missing},
	{"PutGet", putGet},
	{"AllBytes", allBytes},
	{"WholeIDs", wholeIDs},
	{"Empty", empty},
	{"Large", large},
	{"Overwrite", overwrite},
	{"Copies", copies},
	{"Expiry", expiry},
	{"Delete", remove},
	{"OneDeletes", oneDeletes},
	{"DeleteOrPut", deleteOrPut},
	{"OverwriteInOneStep", overwriteInOneStep},
	{"Concurrent", concurrent},
	{"EndedContext", endedContext},
}

var background = context.Background()

// idOf is the id with a number: 32 bytes without a pattern.
func idOf(n int) []byte {
	sum := sha256.Sum256(fmt.Append(nil, "id ", n))
	return sum[:]
}

func put(t checker, b resume.Backend, id, value []byte, ttl time.Duration) {
	t.Helper()
	if err := b.Put(background, id, value, ttl); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func get(t checker, b resume.Backend, id []byte) ([]byte, bool) {
	t.Helper()
	value, ok, err := b.Get(background, id)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return value, ok
}

func wantValue(t checker, b resume.Backend, id, want []byte) {
	t.Helper()
	value, ok := get(t, b, id)
	if !ok {
		t.Fatalf("Get found nothing: want %s", show(want))
	}
	if !bytes.Equal(value, want) {
		t.Fatalf("Get gave %s: want %s", show(value), show(want))
	}
}

func wantNone(t checker, b resume.Backend, id []byte) {
	t.Helper()
	if value, ok := get(t, b, id); ok {
		t.Fatalf("Get gave %s: want none", show(value))
	}
}

func wantDelete(t checker, b resume.Backend, id, value []byte, want bool) {
	t.Helper()
	deleted, err := b.Delete(background, id, value)
	if err != nil {
		t.Fatalf("Delete: %v", err)
	}
	if deleted != want {
		t.Fatalf("Delete says %t: want %t", deleted, want)
	}
}

// show is for values of many bytes.
func show(value []byte) string {
	if len(value) > 64 {
		return fmt.Sprintf("%q… of %d bytes", value[:64], len(value))
	}
	return fmt.Sprintf("%q", value)
}

// together runs f many times at once.
func together(n int, f func(i int)) {
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() { f(i) })
	}
	done.Wait()
}

func missing(t checker, b resume.Backend) {
	wantNone(t, b, idOf(1))
	put(t, b, idOf(2), []byte("another"), long)
	wantNone(t, b, idOf(1))
}

func putGet(t checker, b resume.Backend) {
	for i := range 100 {
		put(t, b, idOf(i), fmt.Append(nil, "value ", i), long)
	}
	for range 2 { // getting takes nothing away
		for i := range 100 {
			wantValue(t, b, idOf(i), fmt.Append(nil, "value ", i))
		}
	}
}

// allBytes has each byte in a value, and at the ends and amid an id.
func allBytes(t checker, b resume.Backend) {
	value := make([]byte, 256)
	for i := range value {
		value[i] = byte(i)
	}
	for i := range 256 {
		id := idOf(i)
		id[0], id[8], id[len(id)-1] = byte(i), byte(i), byte(i)
		other := bytes.Clone(id)
		other[len(id)-2] ^= 1
		value := append(value, byte(i))
		put(t, b, id, value, long)
		wantValue(t, b, id, value)
		wantNone(t, b, other)
		wantDelete(t, b, id, value, true)
		wantNone(t, b, id)
	}
}

// wholeIDs has ids that differ in one bit. A Backend may lose one of them for the
// other, but not give one for the other.
func wholeIDs(t checker, b resume.Backend) {
	for bit := range 8 * len(idOf(1)) {
		other := idOf(1)
		other[bit/8] ^= 1 << (bit % 8)
		put(t, b, other, []byte("other"), long)
		wantNone(t, b, idOf(1))
		wantDelete(t, b, idOf(1), []byte("other"), false)
		wantDelete(t, b, other, []byte("other"), true)
	}
}

func empty(t checker, b resume.Backend) {
	put(t, b, idOf(1), nil, long)
	wantValue(t, b, idOf(1), nil)
	wantDelete(t, b, idOf(1), []byte("x"), false)
	wantDelete(t, b, idOf(1), []byte{}, true)
	wantNone(t, b, idOf(1))
}

func large(t checker, b resume.Backend) {
	value := bytes.Repeat(idOf(1), resume.MaxEncoded/len(idOf(1)))
	put(t, b, idOf(1), value, long)
	wantValue(t, b, idOf(1), value)
	almost := bytes.Clone(value)
	almost[len(almost)-1] ^= 1
	wantDelete(t, b, idOf(1), almost, false)
	wantDelete(t, b, idOf(1), value, true)
}

func overwrite(t checker, b resume.Backend) {
	for _, value := range []string{"first", "second, and longer", "3rd", "first"} {
		put(t, b, idOf(1), []byte(value), long)
		wantValue(t, b, idOf(1), []byte(value))
	}
	wantDelete(t, b, idOf(1), []byte("first"), true)
	wantNone(t, b, idOf(1)) // none of the earlier ones comes back
}

// copies changes every slice after the call that it was for.
func copies(t checker, b resume.Backend) {
	spoil := func(s []byte) {
		for i := range s {
			s[i] ^= 0xff
		}
	}
	id, value := idOf(1), []byte("value")
	put(t, b, id, value, long)
	if !bytes.Equal(id, idOf(1)) || string(value) != "value" {
		t.Fatalf("Put changed what it was given")
	}
	spoil(id)
	spoil(value)
	wantNone(t, b, id)
	wantValue(t, b, idOf(1), []byte("value"))

	given, _ := get(t, b, idOf(1))
	spoil(given)
	wantValue(t, b, idOf(1), []byte("value"))
	given, _ = get(t, b, idOf(1))
	put(t, b, idOf(1), []byte("other"), long)
	if string(given) != "value" {
		t.Fatalf("Put changed what Get gave: %s", show(given))
	}

	id, value = idOf(1), []byte("other")
	wantDelete(t, b, id, value, true)
	if !bytes.Equal(id, idOf(1)) || string(value) != "other" {
		t.Fatalf("Delete changed what it was given")
	}
}

func expiry(t checker, b resume.Backend) {
	value := []byte("value")
	began := time.Now()
	for i, ttls := range [][]time.Duration{{short}, {long, short}, {short, long}, {long}, {time.Millisecond}} {
		for _, ttl := range ttls {
			put(t, b, idOf(i), value, ttl)
		}
	}
	for _, i := range []int{0, 1, 4} {
		for {
			_, ok := get(t, b, idOf(i))
			age := time.Since(began) // at least the entry's
			if !ok && i != 4 && age < short*9/10 {
				t.Fatalf("an entry is gone after %s: want %s", age, short)
			}
			if !ok {
				break
			}
			if age > short+grace+slack {
				t.Fatalf("an entry is still there after %s: want %s", age, short)
			}
			time.Sleep(short / 50)
		}
		wantDelete(t, b, idOf(i), value, false)
	}
	wantValue(t, b, idOf(2), value) // the later Put counts
	wantValue(t, b, idOf(3), value)
	put(t, b, idOf(0), value, long) // an expired entry is in nobody's way
	wantValue(t, b, idOf(0), value)
}

func remove(t checker, b resume.Backend) {
	value := []byte("value")
	wantDelete(t, b, idOf(1), value, false)
	put(t, b, idOf(1), value, long)
	put(t, b, idOf(2), value, long)
	for _, wrong := range []string{"", "v", "valu", "value ", "value\x00", "Value", "eulav"} {
		wantDelete(t, b, idOf(1), []byte(wrong), false)
		wantValue(t, b, idOf(1), value)
	}
	wantDelete(t, b, idOf(1), value, true)
	wantNone(t, b, idOf(1))
	wantDelete(t, b, idOf(1), value, false)
	wantValue(t, b, idOf(2), value) // that value elsewhere is another's
}

func oneDeletes(t checker, b resume.Backend) {
	for round := range rounds {
		id, value := idOf(round), []byte("value")
		put(t, b, id, value, long)
		var winners atomic.Int32
		together(racers, func(int) {
			deleted, err := b.Delete(background, id, value)
			if err != nil {
				t.Errorf("Delete: %v", err)
			}
			if deleted {
				winners.Add(1)
			}
		})
		if n := winners.Load(); n != 1 {
			t.Fatalf("%d calls of Delete say that they removed the entry: want 1", n)
		}
		wantNone(t, b, id)
	}
}

// deleteOrPut deletes an entry while it is replaced: that must not take the new one.
func deleteOrPut(t checker, b resume.Backend) {
	for round := range rounds {
		id, before, after := idOf(round), []byte("before"), []byte("after")
		put(t, b, id, before, long)
		together(racers, func(i int) {
			var err error
			if i == racers/2 {
				err = b.Put(background, id, after, long)
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

// overwriteInOneStep gets an entry while it is replaced: there is always one, whole.
func overwriteInOneStep(t checker, b resume.Backend) {
	id := idOf(1)
	values := [][]byte{bytes.Repeat([]byte("a"), 1000), bytes.Repeat([]byte("b"), 500)}
	put(t, b, id, values[0], long)
	var stop atomic.Bool
	together(racers, func(i int) {
		if i == 0 {
			defer stop.Store(true)
			for n := range 4 * rounds {
				if err := b.Put(background, id, values[n%2], long); err != nil {
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
				t.Errorf("Get found nothing while the entry was replaced")
				return
			case !bytes.Equal(value, values[0]) && !bytes.Equal(value, values[1]):
				t.Errorf("Get gave %s: want one of two values that were put", show(value))
				return
			}
		}
	})
}

func concurrent(t checker, b resume.Backend) {
	together(racers, func(i int) {
		for n := range rounds {
			id, value := idOf(racers*n+i), fmt.Append(nil, "value ", i, n)
			if err := b.Put(background, id, value, long); err != nil {
				t.Errorf("Put: %v", err)
			}
			if got, ok, err := b.Get(background, id); err != nil || !ok || !bytes.Equal(got, value) {
				t.Errorf("Get: %s, %t, %v: want %s", show(got), ok, err, show(value))
			}
			if n%2 == 1 {
				continue
			}
			if deleted, err := b.Delete(background, id, value); err != nil || !deleted {
				t.Errorf("Delete: %t, %v", deleted, err)
			}
		}
	})
	for i := range racers {
		for n := range rounds {
			if id := idOf(racers*n + i); n%2 == 1 {
				wantValue(t, b, id, fmt.Append(nil, "value ", i, n))
			} else {
				wantNone(t, b, id)
			}
		}
	}
}

// endedContext wants errors. Whether Put has put is open.
func endedContext(t checker, b resume.Backend) {
	ctx, cancel := context.WithCancel(background)
	cancel()
	id, value := idOf(1), []byte("value")
	put(t, b, id, value, long)
	if _, ok, err := b.Get(ctx, id); err == nil || ok {
		t.Errorf("Get when its context has ended: %t, %v: want an error", ok, err)
	}
	if err := b.Put(ctx, id, value, long); err == nil {
		t.Errorf("Put when its context has ended: want an error")
	}
	if deleted, err := b.Delete(ctx, id, value); err == nil || deleted {
		t.Errorf("Delete when its context has ended: %t, %v: want an error", deleted, err)
	}
}
