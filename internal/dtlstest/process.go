// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// NeedCommand returns the path of the first command that is installed. If no command
// is, it skips the test, or fails it in CI.
func NeedCommand(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, strings.Join(names, " or "))
	return ""
}

// missing skips a test for which something is not installed, or fails it in CI.
func missing(t testing.TB, what string) {
	t.Helper()
	if InCI() {
		t.Fatal(what + " is not installed, and CI must have it")
	}
	t.Skip(what + " is not installed: not tested against it")
}

// Process is a foreign client, or server, whose output a test reads line by line. Each
// call waits for Patience at most. Tests that run in parallel can each have some; one
// Process is for one goroutine.
type Process struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	reap  sync.Once
	read  int // lines that Expect has taken

	mu sync.Mutex
	// mu guards the following.
	lines   []string
	ended   bool
	changed chan struct{} // closed at the next change
}

// StartProcess starts a command. It is killed when the test ends.
func StartProcess(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	return StartCommand(t, exec.Command(name, args...))
}

// StartCommand is StartProcess for a command with an environment or a directory of its
// own.
func StartCommand(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Process{t: t, cmd: cmd, stdin: stdin, changed: make(chan struct{})}
	go p.readLines(stdout)
	t.Cleanup(p.Kill)
	return p
}

func (p *Process) readLines(stdout io.Reader) {
	for r := bufio.NewReader(stdout); ; {
		line, err := r.ReadString('\n')
		p.mu.Lock()
		if line != "" {
			p.lines = append(p.lines, strings.TrimRight(line, "\r\n"))
		}
		p.ended = err != nil
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await calls look with all lines, and again at each change, until it reports that it
// is satisfied. It returns false when the time is over.
func (p *Process) await(patience time.Duration, look func(lines []string, ended bool) bool) bool {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		p.mu.Lock()
		lines, ended, changed := p.lines, p.ended, p.changed
		p.mu.Unlock()
		if look(lines, ended) {
			return true
		}
		select {
		case <-changed:
		case <-limit.C:
			return false
		}
	}
}

// Expect waits for a line that contains text, among those that no earlier Expect has
// passed, and returns it.
func (p *Process) Expect(text string) string {
	p.t.Helper()
	line, found, ended := p.find(Patience, text)
	switch {
	case found:
	case ended:
		p.t.Fatalf("%s ended without %q; it said:\n%s", p.cmd.Path, text, p.Output())
	default:
		p.t.Fatalf("no %q of %s, which said:\n%s", text, p.cmd.Path, p.Output())
	}
	return line
}

// Says is Expect for a process that may fail: it waits for the line until a time, and
// reports whether there was one.
func (p *Process) Says(by time.Time, text string) bool {
	_, found, _ := p.find(time.Until(by), text)
	return found
}

// find waits for a line that contains text, or for the end of the process.
func (p *Process) find(patience time.Duration, text string) (line string, found, ended bool) {
	p.await(patience, func(lines []string, over bool) bool {
		for !found && p.read < len(lines) {
			line = lines[p.read]
			found = strings.Contains(line, text)
			p.read++
		}
		ended = over
		return found || ended
	})
	return line, found, ended
}

// Line writes a line to the process.
func (p *Process) Line(text string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.stdin, text); err != nil {
		p.t.Fatalf("%s takes no line: %v; it said:\n%s", p.cmd.Path, err, p.Output())
	}
}

// CloseInput closes the standard input of the process.
func (p *Process) CloseInput() { _ = p.stdin.Close() }

// Ends waits until the process ends by itself.
func (p *Process) Ends() {
	p.t.Helper()
	if !p.EndsBy(time.Now().Add(Patience)) {
		p.t.Fatalf("%s does not end; it said:\n%s", p.cmd.Path, p.Output())
	}
}

// EndsBy reports whether the process ends by itself before a time.
func (p *Process) EndsBy(by time.Time) bool {
	return p.await(time.Until(by), func(_ []string, ended bool) bool { return ended })
}

// Signal sends a signal to the process.
func (p *Process) Signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// Kill ends the process, if it has not ended yet, and waits for that.
func (p *Process) Kill() {
	p.reap.Do(func() {
		_ = p.cmd.Process.Kill()
		p.await(Patience, func(_ []string, ended bool) bool { return ended })
		_ = p.cmd.Wait()
	})
}

// Pid returns the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Output returns what the process has written so far, on both its outputs.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// RunProcess runs a command to its end, which must come within Patience and be a
// success, and returns what it has written without white space around it.
func RunProcess(t testing.TB, name string, args ...string) (stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, complaints.String())
	}
	return strings.TrimSpace(out.String()), strings.TrimSpace(complaints.String())
}
