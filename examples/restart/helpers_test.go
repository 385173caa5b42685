// SPDX-License-Identifier: MIT

package main

import (
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/require"
)

const (
	key     = "secret secret 12" // the default of -psk
	libcoap = "coap-client-openssl"
	// asServer is the variable with which this program of tests is the server, so that the
	// server's successor is one too.
	asServer = "RESTART_TEST_SERVER"
)

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		main()
		return
	}
	dtlstest.Main(m)
}

// program is a server, and after a restart its successor: the output goes on.
type program struct {
	*dtlstest.Process
	t    *testing.T
	pid  int
	addr *net.UDPAddr
}

// startServer starts a server on a free port, unless args have another one, and kills it
// and its successor when the test ends.
func startServer(t *testing.T, args ...string) *program {
	t.Helper()
	return startCommand(t, exec.Command(executable(t), append([]string{"-listen", "127.0.0.1:0"}, args...)...))
}

func executable(t *testing.T) string {
	t.Helper()
	name, err := os.Executable()
	require.NoError(t, err)
	return name
}

func startCommand(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	cmd.Env = append(os.Environ(), asServer+"=1")
	p := &program{Process: dtlstest.StartCommand(t, cmd), t: t}
	t.Cleanup(func() {
		if !p.EndsBy(time.Now()) {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	})
	p.Expect("msg=serving")
	p.readServing()
	return p
}

var serving = regexp.MustCompile(`msg=serving pid=(\d+) address=(\S+)`)

// readServing takes the number and the address of the process from what the server has said.
func (p *program) readServing() {
	p.t.Helper()
	all := serving.FindAllStringSubmatch(p.Output(), -1)
	last := all[len(all)-1]
	var err error
	p.pid, err = strconv.Atoi(last[1])
	require.NoError(p.t, err)
	p.addr, err = net.ResolveUDPAddr("udp", last[2])
	require.NoError(p.t, err)
}

func (p *program) signal(sig syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, syscall.Kill(p.pid, sig))
}

// kill ends the server as a crash does.
func (p *program) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.Ends()
}

// restart restarts the server, with a number of sessions, and waits for its successor.
func (p *program) restart(sessions int) {
	p.t.Helper()
	old := p.pid
	p.signal(syscall.SIGHUP)
	p.awaitSuccessor(sessions)
	require.NotEqual(p.t, old, p.pid)
}

func (p *program) awaitSuccessor(sessions int) {
	p.t.Helper()
	n := strconv.Itoa(sessions)
	require.Contains(p.t, p.Expect("msg=restored"), "Sessions:"+n+" Restored:"+n+" ")
	p.Expect("msg=serving")
	p.readServing()
}

// wire counts the records at a relay: handshake records in both directions, and records with
// data in each.
type wire struct{ handshakes, in, out atomic.Int64 }

func (w *wire) watch(relay *dtlstest.Relay) {
	look := func(data *atomic.Int64) dtlstest.Hook {
		return func(datagram []byte) bool {
			for _, r := range dtlstest.Records(datagram) {
				switch r.Type {
				case record.TypeHandshake:
					w.handshakes.Add(1)
				case record.TypeApplicationData:
					data.Add(1)
				}
			}
			return true
		}
	}
	relay.SetIn(look(&w.in))
	relay.SetOut(look(&w.out))
}

// numbers returns the numbers of the lines of a client's output that are a prefix and a
// number.
func numbers(output, prefix string) (all []int) {
	for line := range strings.Lines(output) {
		text, found := strings.CutPrefix(strings.TrimSpace(line), prefix)
		if n, err := strconv.Atoi(text); found && err == nil {
			all = append(all, n)
		}
	}
	return all
}

// requireNoGap fails the test unless each number is followed by the next one.
func requireNoGap(t *testing.T, all []int) {
	t.Helper()
	for i, n := range all {
		require.Equal(t, all[0]+i, n, "line %d of %d", i, len(all))
	}
}
