// SPDX-License-Identifier: MIT

package dtlstest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// recorder records how a test would have ended. It panics instead of ending it.
type recorder struct {
	testing.TB
	failed, skipped string
	cleanups        []func()
}

func (r *recorder) Fatal(args ...any) { r.failed = fmt.Sprint(args...); panic(r) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	panic(r)
}
func (r *recorder) Errorf(format string, args ...any) { r.failed = fmt.Sprintf(format, args...) }
func (r *recorder) Skip(args ...any)                  { r.skipped = fmt.Sprint(args...); panic(r) }
func (r *recorder) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }

// record runs a function that may end its test.
func (r *recorder) record(f func()) {
	defer func() {
		if p := recover(); p != nil && p != any(r) {
			panic(p)
		}
	}()
	f()
}

func TestNeedCommand(t *testing.T) {
	assert.NotEmpty(t, NeedCommand(t, "no such command", "go"))
	t.Setenv("CI", "")
	r := &recorder{TB: t}
	r.record(func() { NeedCommand(r, "no-such-command", "nor-this-one") })
	assert.Equal(t, "no-such-command or nor-this-one is not installed: not tested against it", r.skipped)
	assert.Empty(t, r.failed)
	t.Setenv("CI", "true")
	r = &recorder{TB: t}
	r.record(func() { NeedCommand(r, "no-such-command") })
	assert.Equal(t, "no-such-command is not installed, and CI must have it", r.failed)
	assert.Empty(t, r.skipped)
}

// needShell returns a shell, which stands for a foreign client here.
func needShell(t *testing.T) string {
	if runtime.GOOS == "windows" {
		t.Skip("no shell")
	}
	return NeedCommand(t, "sh")
}

func TestProcessesInParallel(t *testing.T) {
	sh := needShell(t)
	for n := range 8 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			p := StartProcess(t, sh, "-c", `while read line; do echo "noise"; echo "<$line>"; done; echo end >&2; printf rest`)
			for i := range 20 {
				p.Line(fmt.Sprint(n, " ", i))
				assert.Equal(t, fmt.Sprintf("<%d %d>", n, i), p.Expect(fmt.Sprint(n, " ", i)))
			}
			p.CloseInput()
			p.Expect("end")
			assert.Equal(t, "rest", p.Expect("rest"), "a last line without its end")
			p.Ends()
			assert.Equal(t, 40, strings.Count(p.Output(), "noise")+strings.Count(p.Output(), "<"))
		})
	}
}

func TestExpectOfAProcessThatEnds(t *testing.T) {
	sh := needShell(t)
	r := &recorder{TB: t}
	p := StartProcess(r, sh, "-c", "echo what it said")
	r.record(func() { p.Expect("something else") })
	assert.Contains(t, r.failed, `ended without "something else"`)
	assert.Contains(t, r.failed, "what it said")
	for _, f := range r.cleanups {
		f()
	}
}

func TestProcessThatMayFail(t *testing.T) {
	sh := needShell(t)
	p := StartProcess(t, sh, "-c", "echo one; echo two; read line; echo three")
	later := time.Now().Add(Patience)
	assert.True(t, p.Says(later, "one"))
	assert.False(t, p.Says(time.Now().Add(time.Millisecond), "one"), "an earlier call has passed that line")
	assert.False(t, p.EndsBy(time.Now().Add(time.Millisecond)))
	p.Line("")
	assert.False(t, p.Says(later, "four"), "the process ends")
	assert.True(t, p.EndsBy(later))
}

func TestProcessIsKilled(t *testing.T) {
	sh := needShell(t)
	p := StartCommand(t, exec.Command(sh, "-c", "echo ready; read line"))
	p.Expect("ready")
	assert.Positive(t, p.Pid())
	p.Kill()
	p.Kill()
	p.Ends()
	p = StartProcess(t, sh, "-c", "trap 'echo caught; exit' TERM; echo ready; while true; do read line; done")
	p.Expect("ready")
	p.Signal(os.Kill)
	p.Ends()
}

func TestRunProcess(t *testing.T) {
	sh := needShell(t)
	out, complaints := RunProcess(t, sh, "-c", "echo one; echo two >&2")
	assert.Equal(t, "one", out)
	assert.Equal(t, "two", complaints)
	r := &recorder{TB: t}
	r.record(func() { RunProcess(r, sh, "-c", "echo why >&2; exit 3") })
	assert.Contains(t, r.failed, "exit status 3")
	assert.Contains(t, r.failed, "why")
}
