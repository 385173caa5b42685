// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestTimerThatIsLateDoesNotExpireChangedDeadline calls what the timer calls, as if it had
// fired for an earlier deadline and come after the change.
func TestTimerThatIsLateDoesNotExpireChangedDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		b := newInbox(&mu, nil)
		set := func(at time.Time) {
			mu.Lock()
			defer mu.Unlock()
			b.setReadDeadline(at)
		}
		expired := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return b.readExpired
		}
		begin := time.Now()
		set(begin.Add(time.Minute))
		set(begin.Add(time.Hour))
		b.readTimeout()
		assert.False(t, expired(), "the deadline is a later one now")
		time.Sleep(time.Hour - time.Second)
		assert.False(t, expired())
		time.Sleep(time.Second)
		synctest.Wait()
		assert.True(t, expired(), "and its own time comes")

		set(time.Now().Add(time.Minute))
		set(time.Time{})
		b.readTimeout()
		time.Sleep(time.Hour)
		assert.False(t, expired(), "there is no deadline any more")

		set(time.Now().Add(-time.Minute))
		b.readTimeout()
		assert.True(t, expired(), "it stays past")
	})
}
