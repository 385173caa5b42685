// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"fmt"
	"reflect"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sumError returns an error if one of the sums that Stats documents does not hold.
func sumError(s Stats) error {
	results, ended := uint64(0), uint64(0)
	for c := range s.Counts() {
		switch c.Kind {
		case HandshakeResult:
			results += c.N
		case SessionEnd:
			ended += c.N
		}
	}
	if s.HalfOpen < 0 || s.Started != uint64(s.HalfOpen)+results {
		return fmt.Errorf("handshakes: %d begun, %d in progress, %d results", s.Started, s.HalfOpen, results)
	}
	if s.Established < 0 || s.Completed+s.Restored != uint64(s.Established)+ended {
		return fmt.Errorf("sessions: %d completed, %d restored, %d established, %d ended", s.Completed, s.Restored, s.Established, ended)
	}
	return nil
}

// TestWords: each count of Stats that is a result, an end, a refusal or a drop is in Counts
// once, under the word that its name has.
func TestWords(t *testing.T) {
	t.Parallel()
	other := map[string]bool{} // those of no kind
	for _, name := range []string{
		"Started", "Resumed", "Restored", "NotResumed", "HelloVerifyRequests", "ForeignCookies", "ToldToRestart",
		"AddressChanges", "AddressChangesRefused", "AddressLimited", "RoutabilityChecks", "JournalBytes", "JournalErrors",
	} {
		other[name] = true
	}
	var s Stats
	v := reflect.ValueOf(&s).Elem()
	want := map[string]uint64{}
	capital := regexp.MustCompile(`([a-z])([A-Z])`)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Field(i).Kind() != reflect.Uint64 || other[name] {
			continue
		}
		v.Field(i).SetUint(uint64(i))
		word := regexp.MustCompile(`PSKI`).ReplaceAllString(name, "PskI")
		word = regexp.MustCompile(`[A-Z]`).ReplaceAllStringFunc(capital.ReplaceAllString(word, "${1}_${2}"), func(c string) string { return string(c[0] - 'A' + 'a') })
		want[word] = uint64(i)
	}
	got := map[string]uint64{}
	kinds := map[Kind]int{}
	for c := range s.Counts() {
		assert.NotContains(t, got, c.Word)
		got[c.Word] = c.N
		kinds[c.Kind]++
	}
	assert.Equal(t, want, got)
	assert.Len(t, kinds, int(numKinds))
	for range s.Counts() {
		break // the loop may end early
	}
	assert.Equal(t, "refusal", HelloRefusal.String())
	assert.Equal(t, "unknown", numKinds.String())
}

// TestSumsOfZero: the sums hold for a listener on which nothing has happened.
func TestSumsOfZero(t *testing.T) {
	t.Parallel()
	require.NoError(t, sumError(Stats{}))
	assert.Error(t, sumError(Stats{Started: 1}))
	assert.Error(t, sumError(Stats{Restored: 1}))
}

// TestStatsAreOfOneMoment: handshakes begin and are completed, and sessions end, while the
// counts are read.
func TestStatsAreOfOneMoment(t *testing.T) {
	t.Parallel()
	l := &Listener{}
	l.backlog.init(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range 50_000 {
			l.admission.hold(func() { l.counters.started.Add(1) })
			if n%2 == 0 {
				l.counters.add(resultFailed)
				continue
			}
			l.admission.hold(func() { l.counters.add(resultCompleted) })
			l.counters.ended[Evicted].Add(1)
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		s := l.Stats()
		require.NoError(t, sumError(s))
		require.LessOrEqual(t, s.HalfOpen, 1)
		require.LessOrEqual(t, s.Established, 1)
	}
}
