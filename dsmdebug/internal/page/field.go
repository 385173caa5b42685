// SPDX-License-Identifier: MIT

package page

import (
	"context"
	"sync"
	"time"
)

// class is what the field shows of a slot.
type class uint8

const (
	classFree class = iota
	classHandshake
	classMinute // an established session, used within a minute
	classHour
	classDay
	classOlder
	numClasses
)

// classNames has each class' words in the legend.
var classNames = [numClasses]string{
	"free", "handshake in progress", "session, last minute", "session, last hour", "session, last day", "session, older",
}

// classOf returns the class of a session that was idle for a time.
func classOf(idle time.Duration) class {
	switch {
	case idle < time.Minute:
		return classMinute
	case idle < time.Hour:
		return classHour
	case idle < 24*time.Hour:
		return classDay
	default:
		return classOlder
	}
}

// snapshot is what a walk over all slots has found. It does not change.
type snapshot struct {
	Number               uint64 // from 1
	Taken                time.Time
	Took                 time.Duration // without the time for which others ran
	Next                 time.Time     // when the next walk may begin
	Complete             bool
	Sessions, Handshakes int // the limits, which have a slot each
	Counts               [numClasses]int
	cells                []class // by slot

	pictures [numSchemes]picture
}

// fieldCache has the last snapshot, for all viewers.
type fieldCache struct {
	mu sync.Mutex
	// mu guards the following.
	last    *snapshot     // nil: the first walk has not ended
	walking chan struct{} // closed at the end of the walk; nil: there is none
	stopped bool
}

// get returns the last snapshot. If the time for the next one has come it starts a walk, and does
// not wait for it, except for the first one.
func (f *fieldCache) get(p *Page) *snapshot {
	f.mu.Lock()
	if !f.stopped && f.walking == nil && (f.last == nil || !time.Now().Before(f.last.Next)) {
		f.walking = make(chan struct{})
		p.running.Go(func() { f.walk(p) })
	}
	last, walking := f.last, f.walking
	f.mu.Unlock()
	if last == nil && walking != nil {
		<-walking // it ends with Close, too
		f.mu.Lock()
		last = f.last
		f.mu.Unlock()
	}
	if last == nil {
		return new(snapshot) // of a Page that was closed before its first walk
	}
	return last
}

// walk takes a snapshot.
func (f *fieldCache) walk(p *Page) {
	f.mu.Lock()
	number := uint64(1)
	if f.last != nil {
		number = f.last.Number + 1
	}
	f.mu.Unlock()
	s := takeSnapshot(p.ctx, p.source, number)
	f.mu.Lock()
	f.last = s
	close(f.walking)
	f.walking = nil
	f.mu.Unlock()
}

// stop has no walk start from now on.
func (f *fieldCache) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
}

// takeSnapshot walks over all slots.
func takeSnapshot(ctx context.Context, source Source, number uint64) *snapshot {
	begin := time.Now()
	stats := source.Stats()
	// A slot of a table that several listeners share can have a higher number than this.
	total := stats.MaxEstablished + stats.MaxHalfOpen
	s := &snapshot{Number: number, Taken: begin, Sessions: stats.MaxEstablished, Handshakes: stats.MaxHalfOpen, cells: make([]class, min(total, fieldSlots))}
	taken := 0
	s.Complete, s.Took = walk(ctx, source, fieldTime, func(slot int, session Session) bool {
		c := classHandshake
		if session != nil {
			c = classOf(begin.Sub(session.LastUsed()))
		}
		s.Counts[c]++
		taken++
		if slot >= len(s.cells) && slot < fieldSlots {
			s.cells = append(s.cells, make([]class, slot+1-len(s.cells))...)
		}
		if slot < len(s.cells) {
			s.cells[slot] = c
		}
		return true
	})
	s.Counts[classFree] = max(0, total-taken)
	s.Next = time.Now().Add(max(fieldEvery, fieldRest*s.Took))
	return s
}
