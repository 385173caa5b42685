// SPDX-License-Identifier: MIT

package dtlstest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// leakPackages are the import paths, or their beginnings, whose goroutines must end:
// this project and pion with its transports.
var leakPackages = []string{"github.com/go-dsm/dsm", "github.com/pion/"}

// leakPatience is how long goroutines may take to end after the last test. Only a leak
// takes all of it.
var leakPatience = Patience / 2

// Main is the TestMain of a package: it runs the tests and fails if goroutines of this
// project or of pion are left when all have passed. packages are further import paths,
// or beginnings of some, whose goroutines must end. Main does not return.
func Main(m *testing.M, packages ...string) {
	code := m.Run()
	if code == 0 {
		if left := awaitGoroutines(nil, packages); len(left) > 0 {
			fmt.Fprintf(os.Stderr, "goroutines left: %d\n\n%s\n", len(left), stacks(left))
			code = 1
		}
	}
	os.Exit(code)
}

// CheckLeaks fails the test if goroutines that were started after this call are left
// when the test ends. It ignores those that exist already. The test calls it first, so
// that the check comes after all other cleanups, and does not run in parallel with
// other tests, whose goroutines would count. packages are as for Main.
func CheckLeaks(t testing.TB, packages ...string) {
	t.Helper()
	before := goroutines(packages)
	t.Cleanup(func() {
		if left := awaitGoroutines(before, packages); len(left) > 0 {
			t.Errorf("goroutines left: %d\n\n%s", len(left), stacks(left))
		}
	})
}

// awaitGoroutines waits for all goroutines to end that are not among those known
// before, and returns those that do not.
func awaitGoroutines(before map[string]string, packages []string) map[string]string {
	var left map[string]string
	poll(leakPatience, func() bool {
		left = goroutines(packages)
		for id := range before {
			delete(left, id)
		}
		return len(left) == 0
	})
	return left
}

// goroutines returns the stacks of the goroutines whose code, or whose creator, is of
// leakPackages or packages, by their number. Those that run tests are not among them.
func goroutines(packages []string) map[string]string {
	buf := make([]byte, 1<<20)
	n := runtime.Stack(buf, true)
	for n == len(buf) {
		buf = make([]byte, 2*len(buf))
		n = runtime.Stack(buf, true)
	}
	found := map[string]string{}
	all := strings.Split(string(buf[:n]), "\n\n")
	for _, stack := range all[1:] { // the first one is the caller's
		if runsTests(stack) || !inPackages(stack, leakPackages) && !inPackages(stack, packages) {
			continue
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(stack, "goroutine "), " ")
		found[id] = stack
	}
	return found
}

// runsTests reports whether a goroutine is one of package testing.
func runsTests(stack string) bool {
	for _, function := range []string{"testing.tRunner(", "testing.fRunner(", "testing.(*B).", "testing.(*F).", "testing.(*M).Run("} {
		if strings.Contains(stack, "\n"+function) {
			return true
		}
	}
	return false
}

// inPackages reports whether a stack has a function of one of the packages.
func inPackages(stack string, packages []string) bool {
	for _, p := range packages {
		if strings.Contains(stack, "\n"+p) || strings.Contains(stack, "\ncreated by "+p) {
			return true
		}
	}
	return false
}

func stacks(goroutines map[string]string) string {
	var all []string
	for _, stack := range goroutines {
		all = append(all, stack)
	}
	return strings.Join(all, "\n\n")
}
