// SPDX-License-Identifier: MIT

package dtlstest

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// maxDatagram bounds the datagrams that tests exchange, in bytes.
const maxDatagram = 1 << 16

// Echo sends a text and waits for it to come back.
func Echo(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatalf("echo of %q: %v", text, err)
	}
	Expect(t, c, text)
}

// Expect waits for a datagram, which must be text. It leaves a read deadline behind.
func Expect(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	buf := make([]byte, maxDatagram)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if string(buf[:n]) != text {
		t.Fatalf("%q was received, not %q", buf[:n], text)
	}
}

// RequireEOF waits for the peer's close_notify.
func RequireEOF(t testing.TB, c net.Conn) {
	t.Helper()
	if err := readEnd(t, c); err != io.EOF {
		t.Fatalf("%v instead of close_notify", err)
	}
}

// lostCloseNotify counts the close_notify that pion did not send.
var lostCloseNotify atomic.Int32

// RequireEOFOfPion is RequireEOF for sessions that pion's server closes. Its Close
// sometimes closes the transport before it sends close_notify. That is tolerated once
// in a run of a package's tests.
func RequireEOFOfPion(t testing.TB, c net.Conn) {
	t.Helper()
	switch err := readEnd(t, c); {
	case err == io.EOF:
	case errors.Is(err, context.DeadlineExceeded) && lostCloseNotify.Add(1) == 1:
		t.Log("pion has sent no close_notify")
	default:
		t.Fatalf("%v instead of close_notify", err)
	}
}

// readEnd reads once. The peer has a quarter of Patience.
func readEnd(t testing.TB, c net.Conn) error {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(Patience / 4)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxDatagram)
	n, err := c.Read(buf)
	if err == nil {
		t.Fatalf("%q instead of close_notify", buf[:n])
	}
	return err
}

// ServeEcho accepts sessions and echoes what they say, until l is closed. It returns
// the sessions in the order of their acceptance; the channel holds 1000 of them, and
// then no more are accepted until the test takes some. At the end of the test it
// closes l and waits for all sessions to end.
func ServeEcho[C net.Conn](t testing.TB, l net.Listener) <-chan C {
	conns := make(chan C, 1000)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("Accept: %v", err)
				}
				return
			}
			select {
			case conns <- c.(C):
			case <-stop:
			}
			wg.Go(func() { echoAll(c) })
		}
	})
	t.Cleanup(func() {
		close(stop)
		_ = l.Close()
		wg.Wait()
	})
	return conns
}

func echoAll(c net.Conn) {
	defer func() { _ = c.Close() }()
	buf := make([]byte, maxDatagram)
	for {
		n, err := c.Read(buf)
		if err == nil {
			_, err = c.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}
