// SPDX-License-Identifier: MIT

package dtlstest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestEventually(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		Eventually(t, func() bool { return true }, "at once")
		assert.Zero(t, time.Since(begin))
		Eventually(t, func() bool { return time.Since(begin) >= time.Second }, "after a second")
		assert.Equal(t, time.Second, time.Since(begin))

		r := &recorder{TB: t}
		r.record(func() { Eventually(r, func() bool { return false }, "it is %d", 42) })
		assert.Contains(t, r.failed, "it is 42")
		assert.InDelta(t, Patience, time.Since(begin)-time.Second, float64(2*pollInterval))
	})
}

func TestReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		values := make(chan int, 1)
		values <- 42
		assert.Equal(t, 42, Receive(t, values))
		r := &recorder{TB: t}
		r.record(func() { Receive(r, values) })
		assert.Contains(t, r.failed, "nothing")
		close(values)
		r.record(func() { Receive(r, values) })
		assert.Contains(t, r.failed, "closed")
	})
}

func TestScaled(t *testing.T) {
	t.Setenv("CI", "")
	here, ci := 10_000, 100_000
	if RaceEnabled || testing.Short() {
		here, ci = 3_000, 3_000
	}
	assert.Equal(t, here, Scaled(10_000, 100_000))
	t.Setenv("CI", "1")
	assert.Equal(t, ci, Scaled(10_000, 100_000))
	assert.Equal(t, 1, Scaled(1, 1))
}

func TestLogBuffer(t *testing.T) {
	var log LogBuffer
	go func() { log.Logger().Debug("it happened", "n", 1) }()
	log.WaitFor(t, "it happened")
	assert.Contains(t, log.String(), "n=1")
	written := ""
	_, err := WriterFunc(func(p []byte) { written += string(p) }).Write([]byte("x"))
	assert.NoError(t, err)
	assert.Equal(t, "x", written)
}
