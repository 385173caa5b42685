// SPDX-License-Identifier: MIT

package dtlstest

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// leak starts a goroutine that ends when end is closed.
func leak(end <-chan struct{}) {
	started := make(chan struct{})
	go func() {
		close(started)
		<-end
	}()
	<-started
}

func TestGoroutinesFindsThoseOfTheProject(t *testing.T) {
	before := goroutines(nil)
	end := make(chan struct{})
	leak(end)
	after := goroutines(nil)
	found := 0
	for id, stack := range after {
		if before[id] == "" {
			found++
			assert.Contains(t, stack, "dtlstest.leak")
		}
	}
	assert.Equal(t, 1, found)
	t.Run("not those that run tests", func(t *testing.T) {
		assert.Len(t, goroutines(nil), len(after))
	})
	close(end)
	assert.Empty(t, awaitGoroutines(before, nil))
}

func TestCheckLeaksWaitsForWhatEnds(t *testing.T) {
	earlier := make(chan struct{})
	defer close(earlier)
	leak(earlier)
	r := &recorder{TB: t}
	CheckLeaks(r)
	end := make(chan struct{})
	leak(end)
	require.Len(t, r.cleanups, 1)
	checked := make(chan struct{})
	go func() { defer close(checked); close(end) }()
	<-checked
	r.cleanups[0]()
	assert.Empty(t, r.failed, "neither what ended nor what was there before")
}

// leakForever, in the environment, makes TestLeaksForTestMain leave a goroutine.
const leakForever = "DSM_TEST_LEAK"

func TestLeaksForTestMain(t *testing.T) {
	if os.Getenv(leakForever) != "" {
		leak(nil)
	}
}

func TestMainFailsIfGoroutinesAreLeft(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestLeaksForTestMain$")
	cmd.Env = append(os.Environ(), leakForever+"=1")
	out, err := cmd.CombinedOutput()
	assert.Error(t, err)
	assert.Contains(t, string(out), "goroutines left: 1")
	assert.Contains(t, string(out), "dtlstest.leak")

	out, err = exec.Command(os.Args[0], "-test.run=^TestLeaksForTestMain$").CombinedOutput()
	assert.NoError(t, err, string(out))
}
