// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFullQueueDropsNewestDatagrams has a bound on datagrams, and one on bytes: a datagram
// of 100 bytes takes a buffer of 256, as its record is longer than 128. When there is room
// again more is taken.
func TestFullQueueDropsNewestDatagrams(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]dtlsserver.Config{"datagrams": {QueueDatagrams: 3}, "bytes": {QueueBytes: 4*(256+dtlsserver.BufferOverhead) - 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, cfg, func(t *testing.T, l memory) {
				client, s := l.connect(t)
				for n := range 10 {
					write(t, client, string(append(make([]byte, 99), byte(n))))
				}
				synctest.Wait()
				require.EqualValues(t, 7, l.Stats().QueueFull)
				for n := range 3 {
					require.EqualValues(t, n, read(t, s)[99])
				}
				go func() { _, _ = s.Write([]byte(read(t, s))) }()
				dtlstest.Echo(t, client, "and then it takes more")
			})
		})
	}
}

// TestDefaultQueueBounds fills both default bounds.
func TestDefaultQueueBounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ size, fit int }{
		"datagrams": {1, dtlsserver.DefaultQueueDatagrams},
		"bytes":     {1900, dtlsserver.DefaultQueueBytes / (2048 + dtlsserver.BufferOverhead)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
				client, s := l.connect(t)
				for range c.fit + 5 {
					write(t, client, string(make([]byte, c.size)))
				}
				synctest.Wait()
				assert.EqualValues(t, 5, l.Stats().QueueFull)
				assert.Equal(t, c.fit, s.Unread())
			})
		})
	}
}

// readers has n goroutines read once each from a session, and waits until they wait.
func readers(t *testing.T, s *dtlsserver.Conn, n int) <-chan error {
	t.Helper()
	errs := make(chan error, n)
	for range n {
		go func() { _, err := s.Read(make([]byte, 10)); errs <- err }()
	}
	synctest.Wait()
	require.Equal(t, n, s.Readers())
	return errs
}

func TestDeadlineReachesEveryWaitingRead(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		for _, wait := range []time.Duration{-time.Second, 0, time.Minute} {
			errs := readers(t, s, 3)
			begin := time.Now()
			require.NoError(t, s.SetReadDeadline(begin.Add(wait)))
			for range 3 {
				require.ErrorIs(t, <-errs, os.ErrDeadlineExceeded)
			}
			require.Equal(t, max(wait, 0), time.Since(begin))
			_, err := s.Read(nil)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "it stays past")
			require.NoError(t, s.SetReadDeadline(time.Time{}))
		}
		errs := readers(t, s, 2)
		write(t, client, "a", "b")
		assert.NoError(t, <-errs)
		assert.NoError(t, <-errs)
	})
}

// TestDeadlineCanChangeWhileReadsWait sets one deadline after the other. The last one
// counts.
func TestDeadlineCanChangeWhileReadsWait(t *testing.T) {
	t.Parallel()
	const minute = time.Minute
	for name, c := range map[string]struct {
		deadlines []time.Duration // one each 10 seconds; 0: none
		want      time.Duration   // after which Reads end; 0: they do not
	}{
		"later":             {[]time.Duration{minute, 3 * minute}, 3*minute + 10*time.Second},
		"earlier":           {[]time.Duration{3 * minute, minute}, minute + 10*time.Second},
		"past":              {[]time.Duration{minute, -minute}, 10 * time.Second},
		"none":              {[]time.Duration{minute, 0}, 0},
		"none, and another": {[]time.Duration{minute, 0, minute}, minute + 20*time.Second},
		"ever later":        {[]time.Duration{11 * time.Second, 11 * time.Second, 11 * time.Second, 11 * time.Second}, 41 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
				client, s := l.connect(t)
				errs := readers(t, s, 2)
				begin := time.Now()
				for i, d := range c.deadlines {
					if i > 0 {
						time.Sleep(10 * time.Second)
					}
					var at time.Time
					if d != 0 {
						at = time.Now().Add(d)
					}
					require.NoError(t, s.SetReadDeadline(at))
				}
				if c.want == 0 {
					time.Sleep(time.Hour)
					require.Equal(t, 2, s.Readers())
					write(t, client, "a", "b")
					require.NoError(t, <-errs)
					require.NoError(t, <-errs)
					return
				}
				for range 2 {
					require.ErrorIs(t, <-errs, os.ErrDeadlineExceeded)
					require.Equal(t, c.want, time.Since(begin))
				}
			})
		})
	}
}

// TestDeadlineSetAtTheMomentTheLastOneFires: the timer and the call come in either order,
// so Reads end at the first deadline or at the second one, and not later.
func TestDeadlineSetAtTheMomentTheLastOneFires(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, s := l.connect(t)
		for range 20 {
			begin := time.Now()
			require.NoError(t, s.SetReadDeadline(begin.Add(10*time.Second)))
			errs := readers(t, s, 2)
			time.Sleep(10 * time.Second)
			require.NoError(t, s.SetReadDeadline(begin.Add(time.Minute)))
			for range 2 {
				require.ErrorIs(t, <-errs, os.ErrDeadlineExceeded)
				require.Contains(t, []time.Duration{10 * time.Second, time.Minute}, time.Since(begin))
			}
		}
	})
}

// TestDeadlinePassesBeforeWhatWasReceived is package net's rule: a deadline that has
// passed gives an error though there is something to read, which is read later.
func TestDeadlinePassesBeforeWhatWasReceived(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		write(t, client, "x")
		synctest.Wait()
		require.NoError(t, s.SetReadDeadline(time.Now().Add(-time.Second)))
		_, err := s.Read(make([]byte, 10))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		_, err = s.Write([]byte("y"))
		assert.NoError(t, err, "the write deadline is another one")
		require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Second)))
		assert.Equal(t, "x", read(t, s))
	})
}

func TestWriteDeadline(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		require.NoError(t, s.SetWriteDeadline(time.Now().Add(time.Minute)))
		_, err := s.Write([]byte("a"))
		require.NoError(t, err)
		time.Sleep(time.Minute)
		before := l.network.Counts(dtlstest.ToClient).Sent
		_, err = s.Write([]byte("b"))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, before, l.network.Counts(dtlstest.ToClient).Sent, "nothing was sent")
		require.NoError(t, s.SetWriteDeadline(time.Time{}))
		_, err = s.Write([]byte("c"))
		require.NoError(t, err)
		dtlstest.Expect(t, client, "a")
		dtlstest.Expect(t, client, "c")

		require.NoError(t, s.SetDeadline(time.Now()))
		_, err = s.Write(nil)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		_, err = s.Read(nil)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

// ends is how sessions end, with what Read and Write give then.
var ends = map[string]struct {
	end         func(t *testing.T, l memory, client *dtlstest.Client, s *dtlsserver.Conn)
	read, write error
}{
	"closed by us": {func(t *testing.T, _ memory, _ *dtlstest.Client, s *dtlsserver.Conn) {
		require.NoError(t, s.Close())
	}, net.ErrClosed, net.ErrClosed},
	"closed by the listener": {func(t *testing.T, l memory, _ *dtlstest.Client, _ *dtlsserver.Conn) {
		require.NoError(t, l.Close())
	}, net.ErrClosed, net.ErrClosed},
	"closed by peer": {func(t *testing.T, _ memory, client *dtlstest.Client, _ *dtlsserver.Conn) {
		require.NoError(t, client.Close())
	}, io.EOF, dtlsserver.ErrPeerClosed},
	"replaced": {func(t *testing.T, l memory, client *dtlstest.Client, s *dtlsserver.Conn) {
		client.Kill()
		l.dial(t, s.Peer())
	}, io.EOF, dtlsserver.ErrReplaced},
	"evicted": {func(t *testing.T, l memory, _ *dtlstest.Client, _ *dtlsserver.Conn) {
		l.dial(t, netip.AddrPort{})
	}, dtlsserver.ErrEvicted, dtlsserver.ErrEvicted},
	"expired": {func(*testing.T, memory, *dtlstest.Client, *dtlsserver.Conn) {
		time.Sleep(20 * time.Minute)
	}, dtlsserver.ErrExpired, dtlsserver.ErrExpired},
}

// forEachEnd runs a test for each way of a session to end.
func forEachEnd(t *testing.T, test func(t *testing.T, client *dtlstest.Client, s *dtlsserver.Conn, end func(), read, write error)) {
	t.Helper()
	for name, c := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlsserver.Config{Sessions: 1, IdleTimeout: 10 * time.Minute}, func(t *testing.T, l memory) {
				client, s := l.connect(t)
				test(t, client, s, func() {
					c.end(t, l, client, s)
					synctest.Wait()
				}, c.read, c.write)
			})
		})
	}
}

// TestEndComesBeforePassedDeadline is package net's rule: the end of a connection is
// told whatever the deadline.
func TestEndComesBeforePassedDeadline(t *testing.T) {
	t.Parallel()
	forEachEnd(t, func(t *testing.T, _ *dtlstest.Client, s *dtlsserver.Conn, end func(), readErr, writeErr error) {
		require.NoError(t, s.SetDeadline(time.Now().Add(-time.Second)))
		_, err := s.Read(nil)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		_, err = s.Write(nil)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		end()
		for range 2 {
			_, err = s.Read(nil)
			assert.ErrorIs(t, err, readErr)
			assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			_, err = s.Write(nil)
			assert.ErrorIs(t, err, writeErr)
			assert.ErrorIs(t, err, net.ErrClosed)
			assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			_ = s.SetDeadline(time.Now().Add(-time.Second)) // an error after Close
		}
	})
}

// TestClosedConnGivesErrClosedWhateverDeadline closes sessions that have ended before,
// too: after Close it does not matter how.
func TestClosedConnGivesErrClosedWhateverDeadline(t *testing.T) {
	t.Parallel()
	forEachEnd(t, func(t *testing.T, client *dtlstest.Client, s *dtlsserver.Conn, end func(), _, _ error) {
		write(t, client, "not read")
		synctest.Wait()
		require.NoError(t, s.SetDeadline(time.Now().Add(-time.Second)))
		end()
		_ = s.Close()
		for range 2 {
			_, err := s.Read(make([]byte, 10))
			assert.ErrorIs(t, err, net.ErrClosed)
			assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			_, err = s.Write(nil)
			assert.ErrorIs(t, err, net.ErrClosed)
			assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			assert.ErrorIs(t, s.SetDeadline(time.Time{}), net.ErrClosed)
		}
	})
}

// TestReceivedBeforeTheEndIsReadFirst also has a read deadline that passes, before the
// end or after it.
func TestReceivedBeforeTheEndIsReadFirst(t *testing.T) {
	t.Parallel()
	for name, deadline := range map[string]time.Duration{"no deadline": 0, "past": -time.Second, "to come": 30 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachEnd(t, func(t *testing.T, client *dtlstest.Client, s *dtlsserver.Conn, end func(), readErr, _ error) {
				write(t, client, "last", "words")
				synctest.Wait()
				if deadline != 0 {
					require.NoError(t, s.SetReadDeadline(time.Now().Add(deadline)))
				}
				unread := s.Unread()
				end()
				if s.Unread() == 0 { // Conn.Close drops it
					require.Equal(t, dtlsserver.ClosedByUs, s.EndReason())
					return
				}
				require.Equal(t, unread, s.Unread())
				time.Sleep(40 * time.Minute)
				assert.Equal(t, "last", read(t, s))
				assert.Equal(t, "words", read(t, s))
				for range 2 {
					_, err := s.Read(nil)
					assert.ErrorIs(t, err, readErr)
				}
			})
		})
	}
}

// TestEndWakesEveryWaitingRead has some wait for a deadline, too.
func TestEndWakesEveryWaitingRead(t *testing.T) {
	t.Parallel()
	for name, deadline := range map[string]time.Duration{"no deadline": 0, "to come": 30 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachEnd(t, func(t *testing.T, _ *dtlstest.Client, s *dtlsserver.Conn, end func(), readErr, _ error) {
				if deadline != 0 {
					require.NoError(t, s.SetReadDeadline(time.Now().Add(deadline)))
				}
				errs := readers(t, s, 3)
				end()
				for range 3 {
					assert.ErrorIs(t, <-errs, readErr)
				}
			})
		})
	}
}

// TestLoopOverTimeoutsEndsWithTheSession is the usual loop of a server: on a timeout it
// sets the next deadline and goes on, whatever SetReadDeadline says.
func TestLoopOverTimeoutsEndsWithTheSession(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]time.Duration{"while it waits": 90 * time.Second, "with a deadline": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachEnd(t, func(t *testing.T, _ *dtlstest.Client, s *dtlsserver.Conn, end func(), readErr, _ error) {
				last := make(chan error, 1)
				turns := 0
				go func() {
					buf := make([]byte, 10)
					for {
						_ = s.SetReadDeadline(time.Now().Add(time.Minute))
						_, err := s.Read(buf)
						if turns++; !errors.Is(err, os.ErrDeadlineExceeded) || turns > 1000 {
							last <- err
							return
						}
					}
				}()
				time.Sleep(when)
				end()
				assert.ErrorIs(t, <-last, readErr)
				assert.LessOrEqual(t, turns, 22, "one a minute, for the 20 minutes of the idle session at most")
			})
		})
	}
}

// TestLoopOverWriteTimeoutsEndsWithTheSession is the same for a loop that writes.
func TestLoopOverWriteTimeoutsEndsWithTheSession(t *testing.T) {
	t.Parallel()
	forEachEnd(t, func(t *testing.T, _ *dtlstest.Client, s *dtlsserver.Conn, end func(), _, writeErr error) {
		past := time.Now().Add(-time.Minute)
		require.NoError(t, s.SetWriteDeadline(past))
		end()
		for range 3 {
			_, err := s.Write([]byte("x"))
			assert.ErrorIs(t, err, writeErr)
			_ = s.SetWriteDeadline(past)
		}
	})
}

// TestNoTimerIsLeftAfterTheEnd: a timer would keep an ended session in memory.
func TestNoTimerIsLeftAfterTheEnd(t *testing.T) {
	t.Parallel()
	forEachEnd(t, func(t *testing.T, _ *dtlstest.Client, s *dtlsserver.Conn, end func(), _, _ error) {
		require.NoError(t, s.SetReadDeadline(time.Now().Add(1000*time.Hour)))
		require.True(t, s.HasReadTimer())
		end()
		assert.False(t, s.HasReadTimer())
		_ = s.SetReadDeadline(time.Now().Add(1000 * time.Hour))
		assert.False(t, s.HasReadTimer(), "nor is there a new one")
		_ = s.Close()
		assert.False(t, s.HasReadTimer())
	})
}

// TestReplacedDeadlineLeavesOneTimer sets many deadlines and lets all of them pass.
func TestReplacedDeadlineLeavesOneTimer(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, s := l.connect(t)
		begin := time.Now()
		for n := range 100 {
			require.NoError(t, s.SetReadDeadline(begin.Add(time.Duration(n)*time.Second+time.Hour)))
		}
		require.NoError(t, s.SetReadDeadline(begin.Add(2*time.Hour)))
		_, err := s.Read(nil)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, 2*time.Hour, time.Since(begin))
		assert.False(t, s.HasReadTimer())
	})
}

// TestReadsShareWhatIsReceived has more datagrams than readers, and more readers than
// datagrams: no wake-up is lost.
func TestReadsShareWhatIsReceived(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		const n, each = 4, 50
		got := make(chan string, n*each)
		for range n {
			go func() {
				for range each {
					got <- read(t, s)
				}
			}()
		}
		want := map[string]bool{}
		for i := range n * each {
			text := time.Duration(i).String()
			want[text] = true
			write(t, client, text)
			if i%16 == 0 { // so that nothing is dropped, and readers wait now and then
				synctest.Wait()
			}
		}
		for range n * each {
			text := <-got
			assert.True(t, want[text], text)
			delete(want, text)
		}
		assert.Empty(t, want)
		assert.Zero(t, l.Stats().QueueFull)
	})
}
