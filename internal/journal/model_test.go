// SPDX-License-Identifier: MIT

package journal_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
	"github.com/go-dsm/dsm/internal/journal"
	"github.com/go-dsm/dsm/keyring"
)

const dir = "d"

func newRing(tb testing.TB, ids ...uint32) *keyring.Ring {
	tb.Helper()
	keys := make([]keyring.Key, len(ids))
	for i, id := range ids {
		keys[i] = keyring.Key{ID: id, Secret: [32]byte{byte(id), 1}}
	}
	ring, err := keyring.New(keys...)
	require.NoError(tb, err)
	return ring
}

// values is what a journal has: by slot, a state, and after a bar the update, if any.
type values map[uint32]string

func recoverValues(l *journal.Log) (values, journal.Recovery, error) {
	got := values{}
	previous := -1
	r, err := l.Recover(func(slot uint32, state, update []byte) error {
		if int(slot) <= previous {
			return errors.New("slots out of order")
		}
		previous = int(slot)
		got[slot] = string(state)
		if update != nil {
			got[slot] += "|" + string(update)
		}
		return nil
	})
	return got, r, err
}

const (
	slots   = 4
	nothing = "" // the value of a slot that has no state
)

// model drives a Log, and knows of each slot which values the journal may have.
type model struct {
	random  *rand.Rand
	ring    *keyring.Ring
	prepare func(*crashfs.FS)
	fs      *crashfs.FS
	log     *journal.Log

	next     int           // for values that differ
	possible [slots]values // by number of attempt: the durable value and those attempted since
	tries    uint32
	current  [slots]string // the newest value
	inFile   [slots]bool   // the file that was begun has the slot
	mustSet  [slots]bool   // its state may not be in the journal, so an update could go to an older one
}

var errViolation = errors.New("the rule is violated")

func newModel(seed uint64, ring *keyring.Ring, prepare func(*crashfs.FS)) *model {
	m := &model{random: rand.New(rand.NewPCG(seed, 2)), ring: ring, prepare: prepare, fs: crashfs.New(seed)}
	prepare(m.fs)
	for slot := range m.possible {
		m.confirm(uint32(slot), nothing)
	}
	return m
}

func (m *model) attempt(slot uint32, value string) {
	m.tries++
	m.possible[slot][m.tries] = value
	m.current[slot] = value
}

func (m *model) confirm(slot uint32, value string) {
	m.possible[slot] = values{0: value}
	m.current[slot] = value
}

// open opens the journal and checks what it has. After a crash that is durable.
func (m *model) open(crashed bool) error {
	var err error
	if m.log, err = journal.Open(m.fs, dir, m.ring); err != nil {
		return err
	}
	got, _, err := recoverValues(m.log)
	if err != nil {
		return err
	}
	for slot := range uint32(slots) {
		if !slices.Contains(slices.Collect(maps.Values(m.possible[slot])), got[slot]) {
			return fmt.Errorf("%w: slot %d: %.20q instead of one of %.20q", errViolation, slot, got[slot], m.possible[slot])
		}
		m.current[slot], m.mustSet[slot], m.inFile[slot] = got[slot], !crashed, false
		if crashed {
			m.confirm(slot, got[slot])
		}
	}
	return nil
}

func (m *model) state() string {
	m.next++
	state := fmt.Sprint("state", m.next)
	if m.random.IntN(400) == 0 {
		state += strings.Repeat("x", 70_000) // a chunk of its own
	}
	return state
}

// append appends some entries.
func (m *model) append(begunSlots bool) error {
	var b journal.Batch
	var touched [slots]bool
	for range 1 + m.random.IntN(3) {
		slot := uint32(m.random.IntN(slots))
		if begunSlots { // one that the file does not have
			if missing := slices.Index(m.inFile[:], false); missing >= 0 {
				slot = uint32(missing)
			}
		}
		touched[slot] = true
		state, _, _ := strings.Cut(m.current[slot], "|")
		switch action := m.random.IntN(6); {
		case action == 0:
			b.Clear(slot)
			m.attempt(slot, nothing)
			m.inFile[slot], m.mustSet[slot] = true, false
		case action < 3 || m.mustSet[slot] || begunSlots:
			value := m.state()
			b.SetState(slot, []byte(value))
			m.attempt(slot, value)
			m.inFile[slot], m.mustSet[slot] = true, false
		case state == nothing:
			b.Update(slot, []byte("without a state"))
		default:
			m.next++
			update := fmt.Sprint("update", m.next)
			b.Update(slot, []byte(update))
			m.attempt(slot, state+"|"+update)
		}
	}
	err := m.log.Append(&b)
	for slot := range uint32(slots) {
		if err != nil {
			m.mustSet[slot] = true
		} else if touched[slot] {
			m.confirm(slot, m.current[slot])
		}
	}
	return err
}

func (m *model) begin() error {
	m.inFile = [slots]bool{}
	return m.log.Begin()
}

// complete completes the file that was begun: slots that are not in it have nothing.
func (m *model) complete() error {
	for slot, is := range m.inFile {
		if !is {
			m.attempt(uint32(slot), nothing)
		}
	}
	return m.confirmAll(m.log.Complete())
}

func (m *model) start() error {
	m.inFile = [slots]bool{}
	return m.confirmAll(m.log.Start(func(b *journal.Batch) error {
		for slot := range uint32(slots) {
			if m.random.IntN(3) == 0 {
				m.attempt(slot, nothing)
				continue
			}
			value := m.state()
			b.SetState(slot, []byte(value))
			m.attempt(slot, value)
			if m.random.IntN(3) == 0 {
				b.Update(slot, []byte("first"))
				m.attempt(slot, value+"|first")
			}
		}
		return nil
	}))
}

func (m *model) confirmAll(err error) error {
	for slot := range uint32(slots) {
		if err == nil {
			m.confirm(slot, m.current[slot])
		}
		m.mustSet[slot] = err != nil
	}
	return err
}

// close closes the journal, and opens it again.
func (m *model) close(retire bool) error {
	if retire {
		for slot := range uint32(slots) {
			m.attempt(slot, nothing)
		}
	}
	err := m.log.Close(retire)
	if retire && err == nil {
		_ = m.confirmAll(nil)
	}
	if errors.Is(err, crashfs.ErrCrashed) {
		return err
	}
	return m.open(false)
}

// step does something. Only a loss of power and a violation are errors.
func (m *model) step() error {
	switch m.random.IntN(12) {
	case 0:
		m.fs.FailWrites(errors.New("disk full"), m.random.IntN(500))
	case 1:
		m.fs.FailSync(errors.New("disk broken"))
	case 2, 3:
		m.fs.FailWrites(nil, 0)
		m.fs.FailSync(nil)
	}
	var err error
	switch action := m.random.IntN(40); {
	case action < 16:
		err = m.append(false)
	case action < 24:
		err = m.append(true)
	case action < 30:
		err = m.begin()
	case action < 34:
		err = m.complete()
	case action < 36:
		err = m.start()
	default:
		err = m.close(action == 39)
	}
	if errors.Is(err, errViolation) || errors.Is(err, crashfs.ErrCrashed) {
		return err
	}
	if m.log == nil {
		return fmt.Errorf("the journal is not open: %w", err)
	}
	return nil
}

// run is one life after the other, each of which ends with a loss of power.
func (m *model) run() error {
	for life := range 3 {
		err := m.open(life > 0)
		m.fs.CrashAfter(1 + m.random.IntN(60))
		for n := 0; err == nil && n < 30; n++ {
			err = m.step()
		}
		if err != nil && !errors.Is(err, crashfs.ErrCrashed) {
			return err
		}
		m.fs = m.fs.Crash()
		m.prepare(m.fs)
	}
	return m.open(true)
}

func runSchedules(tb testing.TB, schedules uint64, prepare func(*crashfs.FS)) (violations int, first error) {
	ring := newRing(tb, 1)
	for seed := range schedules {
		if err := newModel(seed, ring, prepare).run(); err != nil {
			violations++
			if first == nil {
				first = fmt.Errorf("seed %d: %w", seed, err)
			}
		}
	}
	return violations, first
}

// After a loss of power each slot has the value of the last call that returned nil, or one that
// was attempted later.
func TestRecoverySurvivesAnySchedule(t *testing.T) {
	violations, first := runSchedules(t, 2000, func(*crashfs.FS) {})
	require.NoError(t, first, "%d violations", violations)
}

// The test above must see that data or names are not synced.
func TestLyingSyncBreaksRecovery(t *testing.T) {
	for _, lie := range []struct{ files, names bool }{{true, false}, {false, true}} {
		violations, first := runSchedules(t, 200, func(fs *crashfs.FS) { fs.Lie(lie.files, lie.names) })
		t.Logf("%+v: %d violations of 200, the first one: %v", lie, violations, first)
		require.Positive(t, violations)
		require.ErrorIs(t, first, errViolation)
	}
}

func TestNothingIsRecoveredAfterRetirement(t *testing.T) {
	for n := range 25 {
		for seed := range uint64(40) {
			fs := crashfs.New(seed)
			l, err := journal.Open(fs, dir, newRing(t, 1))
			require.NoError(t, err)
			set := func(b *journal.Batch) error { b.SetState(1, []byte("state")); return nil }
			require.NoError(t, l.Start(set))
			require.NoError(t, l.Begin())
			var b journal.Batch
			b.Update(1, []byte("update"))
			require.NoError(t, l.Append(&b))
			fs.CrashAfter(n)
			closeErr := l.Close(true)
			l, err = journal.Open(fs.Crash(), dir, newRing(t, 1))
			require.NoError(t, err)
			got, _, err := recoverValues(l)
			require.NoError(t, err)
			if closeErr == nil {
				require.Empty(t, got)
			} else {
				require.True(t, len(got) == 0 || maps.Equal(got, values{1: "state|update"}), "%v", got)
			}
		}
	}
}

func TestDirectoryHasOneLog(t *testing.T) {
	fs := crashfs.New(1)
	l, err := journal.Open(fs, dir, newRing(t, 1))
	require.NoError(t, err)
	_, err = journal.Open(fs, dir, newRing(t, 1))
	require.ErrorIs(t, err, durable.ErrLocked)
	require.NoError(t, l.Close(false))
	_, err = journal.Open(fs, dir, newRing(t, 1))
	require.NoError(t, err)
}
