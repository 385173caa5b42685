// SPDX-License-Identifier: MIT

package resumetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/resume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newMemory(t *testing.T) resume.Backend {
	m, err := resume.NewMemory(1000)
	require.NoError(t, err)
	return m
}

// Each check runs in a synctest bubble, so that expiry takes no time.
func TestMemoryPassesAllChecks(t *testing.T) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(t, newMemory(t)) })
		})
	}
}

func TestRunOpensBackendForEachCheck(t *testing.T) {
	var opened, passed []resume.Backend
	var names []string
	recordCall := func(t reporter, b resume.Backend) {
		names = append(names, t.(*testing.T).Name())
		passed = append(passed, b)
	}
	runChecks(t, []check{{"First", recordCall}, {"Second", recordCall}}, func(t *testing.T) resume.Backend {
		opened = append(opened, newMemory(t))
		return opened[len(opened)-1]
	})
	assert.Equal(t, []string{t.Name() + "/First", t.Name() + "/Second"}, names)
	require.Len(t, opened, 2)
	assert.NotSame(t, opened[0], opened[1])
	for i := range opened {
		assert.Same(t, opened[i], passed[i])
	}
}

// sliceBackend is a simple Backend that keeps its entries in a slice. It can have one
// defect.
type sliceBackend struct {
	defect string

	mu      sync.Mutex
	entries []entry
	busy    bool // a call is under way
	buffer  [64]byte
}

type entry struct {
	id, value []byte
	expires   time.Time
}

// pause lets other goroutines run in the middle of a call, if the backend has the defect.
// The clock of the checks is synctest's.
func (b *sliceBackend) pause(defect string) {
	if b.defect == defect {
		b.mu.Unlock()
		time.Sleep(time.Millisecond)
		b.mu.Lock()
	}
}

// key returns what the backend compares of an id.
func (b *sliceBackend) key(id []byte) string {
	switch b.defect {
	case "ignores the last byte of ids":
		return string(id[:len(id)-1])
	case "ignores the first bit of ids":
		return string(append([]byte{id[0] & 0x7f}, id[1:]...))
	case "ids end at a zero byte":
		before, _, _ := bytes.Cut(id, []byte{0})
		return string(before)
	case "ignores the case of ids":
		return strings.ToLower(string(id))
	}
	return string(id)
}

// begin locks the backend; end unlocks it.
func (b *sliceBackend) begin() error {
	b.mu.Lock()
	if b.defect == "refuses concurrent calls" && b.busy {
		b.mu.Unlock()
		return errors.New("busy")
	}
	b.busy = true
	b.pause("refuses concurrent calls")
	return nil
}

func (b *sliceBackend) end() {
	b.busy = false
	b.mu.Unlock()
}

// find removes expired entries and returns the index of the entry with an id, or -1.
func (b *sliceBackend) find(id []byte) int {
	now := time.Now()
	b.entries = slices.DeleteFunc(b.entries, func(e entry) bool { return !now.Before(e.expires) && b.defect != "entries do not expire" })
	return slices.IndexFunc(b.entries, func(e entry) bool { return b.key(e.id) == b.key(id) })
}

func (b *sliceBackend) remove(i int) { b.entries = slices.Delete(b.entries, i, i+1) }

func (b *sliceBackend) Get(ctx context.Context, id []byte) ([]byte, bool, error) {
	if ctx.Err() != nil && b.defect != "Get ignores its context" {
		return nil, false, ctx.Err()
	}
	if err := b.begin(); err != nil {
		return nil, false, err
	}
	defer b.end()
	i := b.find(id)
	switch {
	case i < 0 && b.defect == "a miss is an error":
		return nil, false, errors.New("no entry")
	case i < 0 && b.defect == "a miss is a value":
		return nil, true, nil
	case i < 0:
		return nil, false, nil
	}
	value := b.entries[i].value
	switch b.defect {
	case "Get returns the stored slice":
		return value, true, nil
	case "all calls share a buffer":
		return b.buffer[:copy(b.buffer[:], value)], true, nil
	case "an empty value is a miss":
		return bytes.Clone(value), len(value) > 0, nil
	case "Get removes the entry":
		b.remove(i)
	}
	return bytes.Clone(value), true, nil
}

func (b *sliceBackend) Put(ctx context.Context, id, value []byte, ttl time.Duration) error {
	if ctx.Err() != nil && b.defect != "Put ignores its context" {
		return ctx.Err()
	}
	if err := b.begin(); err != nil {
		return err
	}
	defer b.end()
	e := entry{bytes.Clone(id), bytes.Clone(value), time.Now().Add(ttl)}
	switch b.defect {
	case "Put retains the id":
		e.id = id
	case "Put retains the value":
		e.value = value
	case "all calls share a buffer":
		copy(b.buffer[:], value)
	case "Put changes the id":
		id[0]++
	case "values end at a zero byte":
		e.value, _, _ = bytes.Cut(e.value, []byte{0})
	case "values lose white space":
		e.value = bytes.TrimSpace(e.value)
	case "values are truncated":
		e.value = e.value[:min(len(e.value), 32<<10)]
	case "the ttl is a thousandth":
		e.expires = time.Now().Add(ttl / 1000)
	case "the ttl is at least a second":
		if ttl < time.Second {
			return errors.New("invalid expire time")
		}
	case "ids with equal ends replace each other":
		b.entries = slices.DeleteFunc(b.entries, func(e entry) bool { return bytes.HasSuffix(e.id, id[len(id)-8:]) })
	case "concurrent Puts are lost":
		before := slices.Clone(b.entries)
		b.pause("concurrent Puts are lost")
		b.entries = before
	}
	if i := b.find(e.id); i >= 0 {
		switch b.defect {
		case "the first value stays":
			return nil
		case "both values stay":
			b.entries = append(b.entries, e)
			return nil
		case "the first ttl stays":
			e.expires = b.entries[i].expires
		case "the shortest ttl stays":
			e.expires = time.Now().Add(min(ttl, time.Until(b.entries[i].expires)))
		case "the longest ttl stays":
			e.expires = time.Now().Add(max(ttl, time.Until(b.entries[i].expires)))
		}
		b.remove(i)
		b.pause("Put replaces in two steps")
		if b.defect == "Put writes in two steps" {
			b.entries = append(b.entries, entry{e.id, e.value[:len(e.value)/2], e.expires})
			b.pause("Put writes in two steps")
			b.remove(b.find(e.id))
		}
	}
	b.entries = append(b.entries, e)
	return nil
}

func (b *sliceBackend) Delete(ctx context.Context, id, value []byte) (bool, error) {
	if ctx.Err() != nil && b.defect != "Delete ignores its context" {
		return false, ctx.Err()
	}
	if err := b.begin(); err != nil {
		return false, err
	}
	defer b.end()
	i := b.find(id)
	if i < 0 {
		if b.defect == "Delete of an absent entry is an error" {
			return false, errors.New("no entry")
		}
		return b.defect == "Delete of an absent entry reports true", nil
	}
	found := b.entries[i].value
	equal := bytes.Equal(found, value)
	switch b.defect {
	case "Delete ignores the value":
		equal = true
	case "Delete compares lengths":
		equal = len(found) == len(value)
	case "Delete compares a prefix":
		equal = bytes.HasPrefix(found, value)
	case "Delete compares the first bytes":
		n := min(len(found), len(value), 1024)
		equal = len(found) == len(value) && bytes.Equal(found[:n], value[:n])
	case "Delete ignores case":
		equal = bytes.EqualFold(found, value)
	case "Delete removes nothing":
		return equal, nil
	case "Delete removes equal values":
		if equal {
			b.entries = slices.DeleteFunc(b.entries, func(e entry) bool { return bytes.Equal(e.value, value) })
			return true, nil
		}
	case "Delete reports false":
		if equal {
			b.remove(i)
		}
		return false, nil
	}
	if !equal {
		return false, nil
	}
	b.pause("Delete works in two steps")
	if i = b.find(id); i >= 0 {
		b.remove(i)
	}
	if b.defect == "Delete changes the value" {
		clear(value)
	}
	return true, nil
}

// recorder is a reporter that collects failures.
type recorder struct {
	mu       sync.Mutex
	failures []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// failuresOf runs a check in a synctest bubble and returns the failures that it reports.
func failuresOf(t *testing.T, run func(reporter, resume.Backend), b resume.Backend) []string {
	var r recorder
	synctest.Test(t, func(*testing.T) {
		concurrently(1, func(int) { run(&r, b) }) // in a goroutine that Fatalf can end
	})
	return r.failures
}

func TestBackendWithoutDefectPassesAllChecks(t *testing.T) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			assert.Empty(t, failuresOf(t, c.run, &sliceBackend{}))
		})
	}
}

func findCheck(t *testing.T, name string) func(reporter, resume.Backend) {
	for _, c := range checks {
		if c.name == name {
			return c.run
		}
	}
	require.Fail(t, "no such check", name)
	return nil
}

func TestEachDefectFailsItsCheck(t *testing.T) {
	tested := map[string]bool{}
	for _, d := range []struct{ defect, check, failure string }{
		{"a miss is an error", "AbsentEntryIsMiss", "Get: no entry"},
		{"a miss is a value", "AbsentEntryIsMiss", "want no entry"},
		{"Get removes the entry", "GetReturnsWhatPutStored", "Get found no entry"},
		{"values end at a zero byte", "IDsAndValuesHoldAnyByte", "want"},
		{"values lose white space", "IDsAndValuesHoldAnyByte", "want"},
		{"ids end at a zero byte", "IDsAndValuesHoldAnyByte", "want no entry"},
		{"ignores the case of ids", "IDsThatDifferInOneBit", "want no entry"},
		{"ignores the last byte of ids", "IDsThatDifferInOneBit", "want no entry"},
		{"ignores the first bit of ids", "IDsThatDifferInOneBit", "want no entry"},
		{"ids with equal ends replace each other", "IDsWithEqualEnds", "Get found no entry"},
		{"an empty value is a miss", "EmptyValue", "Get found no entry"},
		{"values are truncated", "LargestValue", "want"},
		{"Delete compares the first bytes", "LargestValue", "Delete reported true"},
		{"the first value stays", "PutReplacesValue", "want \"second"},
		{"both values stay", "PutReplacesValue", "want \"second"},
		{"Put retains the id", "SlicesAreNotShared", "want no entry"},
		{"Put retains the value", "SlicesAreNotShared", "want \"value\""},
		{"Put changes the id", "SlicesAreNotShared", "Put changed its arguments"},
		{"Get returns the stored slice", "SlicesAreNotShared", "want \"value\""},
		{"all calls share a buffer", "SlicesAreNotShared", "Put changed a value that Get had returned"},
		{"Delete changes the value", "SlicesAreNotShared", "Delete changed its arguments"},
		{"entries do not expire", "EntriesExpire", "has not expired"},
		{"the first ttl stays", "EntriesExpire", "has not expired"},
		{"the shortest ttl stays", "EntriesExpire", "Get found no entry"},
		{"the longest ttl stays", "EntriesExpire", "has not expired"},
		{"the ttl is a thousandth", "EntriesExpire", "has expired after"},
		{"the ttl is at least a second", "EntriesExpire", "invalid expire time"},
		{"Delete ignores the value", "DeleteComparesValue", "Delete reported true"},
		{"Delete compares lengths", "DeleteComparesValue", "Delete reported true"},
		{"Delete compares a prefix", "DeleteComparesValue", "Delete reported true"},
		{"Delete ignores case", "DeleteComparesValue", "Delete reported true"},
		{"Delete removes equal values", "DeleteComparesValue", "Get found no entry"},
		{"Delete removes nothing", "DeleteComparesValue", "want no entry"},
		{"Delete reports false", "DeleteComparesValue", "Delete reported false"},
		{"Delete of an absent entry is an error", "DeleteComparesValue", "Delete: no entry"},
		{"Delete of an absent entry reports true", "DeleteComparesValue", "Delete reported true"},
		{"Delete works in two steps", "OneOfConcurrentDeletesSucceeds", "8 calls of Delete"},
		{"Delete works in two steps", "DeleteSparesConcurrentPut", "Get found no entry"},
		{"Put replaces in two steps", "PutReplacesInOneStep", "found no entry while it was replaced"},
		{"Put writes in two steps", "PutReplacesInOneStep", "want one of the two values"},
		{"refuses concurrent calls", "OneOfConcurrentDeletesSucceeds", "Delete: busy"},
		{"refuses concurrent calls", "DeleteSparesConcurrentPut", "busy"},
		{"refuses concurrent calls", "PutReplacesInOneStep", "busy"},
		{"refuses concurrent calls", "ConcurrentCalls", "busy"},
		{"concurrent Puts are lost", "ConcurrentCalls", "Get"},
		{"Get ignores its context", "EndedContextIsError", "Get with an ended context"},
		{"Put ignores its context", "EndedContextIsError", "Put with an ended context"},
		{"Delete ignores its context", "EndedContextIsError", "Delete with an ended context"},
	} {
		t.Run(d.check+"/"+strings.ReplaceAll(d.defect, " ", "_"), func(t *testing.T) {
			tested[d.check] = true
			failures := failuresOf(t, findCheck(t, d.check), &sliceBackend{defect: d.defect})
			require.NotEmpty(t, failures, "the check reported nothing")
			assert.Contains(t, strings.Join(failures, "\n"), d.failure)
		})
	}
	for _, c := range checks {
		assert.True(t, tested[c.name], "no defect fails %s", c.name)
	}
}
