// SPDX-License-Identifier: MIT

package main

import (
	"os"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
)

// libcoap is the client of libcoap.
const libcoap = "coap-client-openssl"

// libcoapArgs returns the client's command line for a path.
func (a *app) libcoapArgs(path string, args ...string) []string {
	return append(args, "-k", key, "-u", dtlstest.Identity, "coaps://"+a.listener.Addr().String()+path)
}

func TestLibcoapReadsAndReplaces(t *testing.T) {
	t.Parallel()
	command := dtlstest.NeedCommand(t, libcoap)
	a := serve(t, 4)
	run := func(path string, args ...string) (stdout, stderr string) {
		t.Helper()
		return dtlstest.RunProcess(t, command, a.libcoapArgs(path, args...)...)
	}
	out, _ := run(notePath)
	assert.Equal(t, "nothing noted yet", out)
	out, complaints := run(notePath, "-m", "put", "-e", "hello of libcoap")
	assert.Empty(t, out)
	assert.Empty(t, complaints)
	out, _ = run(notePath, "-m", "get")
	assert.Equal(t, "hello of libcoap", out)
	_, complaints = run("/else")
	assert.Contains(t, complaints, "4.04")
	// Blocks are served to a client that reads. They are refused to one that writes.
	out, _ = run(notePath, "-b", "16")
	assert.Equal(t, "hello of libcoap", out)
	_, complaints = run(notePath, "-b", "16", "-m", "put", "-e", "more than sixteen bytes")
	assert.Contains(t, complaints, "4.08")

	// Each client has ended its session.
	dtlstest.Eventually(t, func() bool { return a.listener.Stats().Established == 0 }, "sessions are left")
	stats := a.listener.Stats()
	assert.EqualValues(t, 6, stats.Completed)
	assert.EqualValues(t, 6, stats.ClosedByPeer)
}

func TestLibcoapObserves(t *testing.T) {
	t.Parallel()
	command := dtlstest.NeedCommand(t, libcoap)
	a := serve(t, 4)
	observer := dtlstest.StartProcess(t, command, a.libcoapArgs(notePath, "-s", "60", "-w")...)
	assert.Equal(t, "nothing noted yet", observer.Expect(""))
	for _, text := range []string{"one", "two", "three"} {
		dtlstest.RunProcess(t, command, a.libcoapArgs(notePath, "-m", "put", "-e", text)...)
		assert.Equal(t, text, observer.Expect(""))
	}
	assert.Equal(t, 1, a.observers())

	// The client that is interrupted tells the server and ends its session.
	observer.Signal(os.Interrupt)
	dtlstest.Eventually(t, func() bool { return a.listener.Stats().Established == 0 }, "the session is left")
	a.awaitNoObserver(t)
}
