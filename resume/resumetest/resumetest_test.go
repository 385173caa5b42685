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

func TestMemory(t *testing.T) {
	Run(t, func(t *testing.T) resume.Backend {
		m, err := resume.NewMemory(1000)
		require.NoError(t, err)
		return m
	})
}

// plain is a Backend in the plainest way, with one defect, or none.
type plain struct {
	defect string

	mu     sync.Mutex
	kept   []kept
	busy   bool
	buffer [64]byte
}

type kept struct {
	id, value []byte
	expires   time.Time
}

// gap is a moment in which others go on: the checks run with synctest's clock.
func (p *plain) gap(defect string) {
	if p.defect == defect {
		p.mu.Unlock()
		time.Sleep(time.Millisecond)
		p.mu.Lock()
	}
}

// known is as what an id is kept.
func (p *plain) known(id []byte) string {
	switch p.defect {
	case "ids without their last byte":
		return string(id[:len(id)-1])
	case "ids without their first bit":
		return string(append([]byte{id[0] & 0x7f}, id[1:]...))
	case "ids end at zero bytes":
		before, _, _ := bytes.Cut(id, []byte{0})
		return string(before)
	case "ids as text":
		return strings.ToLower(string(id))
	}
	return string(id)
}

// enter locks, for leave to unlock.
func (p *plain) enter() error {
	p.mu.Lock()
	if p.defect == "one call at a time" && p.busy {
		p.mu.Unlock()
		return errors.New("busy")
	}
	p.busy = true
	p.gap("one call at a time")
	return nil
}

func (p *plain) leave() {
	p.busy = false
	p.mu.Unlock()
}

func (p *plain) find(id []byte) int {
	now := time.Now()
	p.kept = slices.DeleteFunc(p.kept, func(k kept) bool { return !now.Before(k.expires) && p.defect != "never expires" })
	return slices.IndexFunc(p.kept, func(k kept) bool { return p.known(k.id) == p.known(id) })
}

func (p *plain) Get(ctx context.Context, id []byte) ([]byte, bool, error) {
	if ctx.Err() != nil && p.defect != "Get heeds no context" {
		return nil, false, ctx.Err()
	}
	if err := p.enter(); err != nil {
		return nil, false, err
	}
	defer p.leave()
	i := p.find(id)
	switch {
	case i < 0 && p.defect == "a miss is an error":
		return nil, false, errors.New("none")
	case i < 0 && p.defect == "a miss is a value":
		return nil, true, nil
	case i < 0:
		return nil, false, nil
	}
	value := p.kept[i].value
	switch p.defect {
	case "gives its own":
		return value, true, nil
	case "one buffer":
		return p.buffer[:copy(p.buffer[:], value)], true, nil
	case "an empty value is none":
		return bytes.Clone(value), len(value) > 0, nil
	case "Get takes":
		p.kept = slices.Delete(p.kept, i, i+1)
	}
	return bytes.Clone(value), true, nil
}

func (p *plain) Put(ctx context.Context, id, value []byte, ttl time.Duration) error {
	if ctx.Err() != nil && p.defect != "Put heeds no context" {
		return ctx.Err()
	}
	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()
	k := kept{bytes.Clone(id), bytes.Clone(value), time.Now().Add(ttl)}
	switch p.defect {
	case "keeps the id":
		k.id = id
	case "keeps the value":
		k.value = value
	case "one buffer":
		copy(p.buffer[:], value)
	case "changes the id":
		id[0]++
	case "values end at zero bytes":
		k.value, _, _ = bytes.Cut(k.value, []byte{0})
	case "values are trimmed":
		k.value = bytes.TrimSpace(k.value)
	case "values are cut":
		k.value = k.value[:min(len(k.value), 32<<10)]
	case "ttl in milliseconds as microseconds":
		k.expires = time.Now().Add(ttl / 1000)
	case "ttl in whole seconds":
		if ttl < time.Second {
			return errors.New("invalid expire time")
		}
	case "loses concurrent Puts":
		before := slices.Clone(p.kept)
		p.gap("loses concurrent Puts")
		p.kept = before
	}
	if i := p.find(k.id); i >= 0 {
		switch p.defect {
		case "keeps the first value":
			return nil
		case "keeps both values":
			p.kept = append(p.kept, k)
			return nil
		case "keeps the first ttl":
			k.expires = p.kept[i].expires
		case "keeps the shortest ttl":
			k.expires = time.Now().Add(min(ttl, time.Until(p.kept[i].expires)))
		case "keeps the longest ttl":
			k.expires = time.Now().Add(max(ttl, time.Until(p.kept[i].expires)))
		}
		p.kept = slices.Delete(p.kept, i, i+1)
		p.gap("replaces in two steps")
		if p.defect == "writes in two steps" {
			p.kept = append(p.kept, kept{k.id, k.value[:len(k.value)/2], k.expires})
			p.gap("writes in two steps")
			p.kept = slices.Delete(p.kept, p.find(k.id), p.find(k.id)+1)
		}
	}
	p.kept = append(p.kept, k)
	return nil
}

func (p *plain) Delete(ctx context.Context, id, value []byte) (bool, error) {
	if ctx.Err() != nil && p.defect != "Delete heeds no context" {
		return false, ctx.Err()
	}
	if err := p.enter(); err != nil {
		return false, err
	}
	defer p.leave()
	i := p.find(id)
	if i < 0 {
		if p.defect == "deleting nothing is an error" {
			return false, errors.New("none")
		}
		return p.defect == "says that it deleted nothing", nil
	}
	found := p.kept[i].value
	same := bytes.Equal(found, value)
	switch p.defect {
	case "deletes anything":
		same = true
	case "deletes by length":
		same = len(found) == len(value)
	case "deletes by prefix":
		same = bytes.HasPrefix(found, value)
	case "deletes by the first bytes":
		n := min(len(found), len(value), 1024)
		same = len(found) == len(value) && bytes.Equal(found[:n], value[:n])
	case "deletes regardless of case":
		same = bytes.EqualFold(found, value)
	case "deletes nothing":
		return same, nil
	case "deletes by value":
		if same {
			p.kept = slices.DeleteFunc(p.kept, func(k kept) bool { return bytes.Equal(k.value, value) })
			return true, nil
		}
	case "gives no answer":
		if same {
			p.kept = slices.Delete(p.kept, i, i+1)
		}
		return false, nil
	}
	if !same {
		return false, nil
	}
	p.gap("deletes in two steps")
	if i = p.find(id); i >= 0 {
		p.kept = slices.Delete(p.kept, i, i+1)
	}
	if p.defect == "Delete changes the value" {
		clear(value)
	}
	return true, nil
}

// recorder stands in for a *testing.T that may fail.
type recorder struct {
	mu   sync.Mutex
	said []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// complaints runs a check, on a clock that does not wait.
func complaints(t *testing.T, check func(checker, resume.Backend), b resume.Backend) []string {
	var r recorder
	synctest.Test(t, func(*testing.T) {
		together(1, func(int) { check(&r, b) }) // Fatalf ends its goroutine
	})
	return r.said
}

// Nothing is wrong with a Backend that does not resemble Memory.
func TestPlain(t *testing.T) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			assert.Empty(t, complaints(t, c.run, &plain{}))
		})
	}
}

func checkOf(t *testing.T, name string) func(checker, resume.Backend) {
	for _, c := range checks {
		if c.name == name {
			return c.run
		}
	}
	require.Fail(t, "no such check", name)
	return nil
}

// Each defect is found by the check that is for it.
func TestDefects(t *testing.T) {
	tested := map[string]bool{}
	for _, d := range []struct{ defect, check, complaint string }{
		{"a miss is an error", "Missing", "Get: none"},
		{"a miss is a value", "Missing", "want none"},
		{"Get takes", "PutGet", "Get found nothing"},
		{"values end at zero bytes", "AllBytes", "want"},
		{"values are trimmed", "AllBytes", "want"},
		{"ids end at zero bytes", "AllBytes", "want none"},
		{"ids as text", "WholeIDs", "want none"},
		{"ids without their last byte", "WholeIDs", "want none"},
		{"ids without their first bit", "WholeIDs", "want none"},
		{"an empty value is none", "Empty", "Get found nothing"},
		{"values are cut", "Large", "want"},
		{"deletes by the first bytes", "Large", "Delete says true"},
		{"keeps the first value", "Overwrite", "want \"second"},
		{"keeps both values", "Overwrite", "want \"second"},
		{"keeps the id", "Copies", "want none"},
		{"keeps the value", "Copies", "want \"value\""},
		{"changes the id", "Copies", "Put changed what it was given"},
		{"gives its own", "Copies", "want \"value\""},
		{"one buffer", "Copies", "Put changed what Get gave"},
		{"Delete changes the value", "Copies", "Delete changed what it was given"},
		{"never expires", "Expiry", "still there"},
		{"keeps the first ttl", "Expiry", "still there"},
		{"keeps the shortest ttl", "Expiry", "Get found nothing"},
		{"keeps the longest ttl", "Expiry", "still there"},
		{"ttl in milliseconds as microseconds", "Expiry", "is gone after"},
		{"ttl in whole seconds", "Expiry", "invalid expire time"},
		{"deletes anything", "Delete", "Delete says true"},
		{"deletes by length", "Delete", "Delete says true"},
		{"deletes by prefix", "Delete", "Delete says true"},
		{"deletes regardless of case", "Delete", "Delete says true"},
		{"deletes by value", "Delete", "Get found nothing"},
		{"deletes nothing", "Delete", "want none"},
		{"gives no answer", "Delete", "Delete says false"},
		{"deleting nothing is an error", "Delete", "Delete: none"},
		{"says that it deleted nothing", "Delete", "Delete says true"},
		{"deletes in two steps", "OneDeletes", "8 calls of Delete"},
		{"deletes in two steps", "DeleteOrPut", "Get found nothing"},
		{"replaces in two steps", "OverwriteInOneStep", "nothing while the entry was replaced"},
		{"writes in two steps", "OverwriteInOneStep", "want one of two values"},
		{"one call at a time", "OneDeletes", "Delete: busy"},
		{"one call at a time", "DeleteOrPut", "busy"},
		{"one call at a time", "OverwriteInOneStep", "busy"},
		{"one call at a time", "Concurrent", "busy"},
		{"loses concurrent Puts", "Concurrent", "Get"},
		{"Get heeds no context", "EndedContext", "Get when"},
		{"Put heeds no context", "EndedContext", "Put when"},
		{"Delete heeds no context", "EndedContext", "Delete when"},
	} {
		t.Run(d.check+"/"+strings.ReplaceAll(d.defect, " ", "_"), func(t *testing.T) {
			tested[d.check] = true
			said := complaints(t, checkOf(t, d.check), &plain{defect: d.defect})
			require.NotEmpty(t, said, "the check found nothing")
			assert.Contains(t, strings.Join(said, "\n"), d.complaint)
		})
	}
	for _, c := range checks {
		assert.True(t, tested[c.name], "no defect is for %s", c.name)
	}
}
