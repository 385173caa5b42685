// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// authorization is the type of Config.Authorize.
type authorization func(context.Context, *dtlsserver.AuthRequest) (any, error)

// The identities of clients that authorizing knows.
const (
	denied  = "denied"  // an error
	exits   = "exits"   // runtime.Goexit
	slow    = "slow"    // admitted after slowness
	obeys   = "obeys"   // no word until the context ends
	ignores = "ignores" // no word until the test ends
)

const slowness = 2 * time.Second

var errDenied = errors.New("not this one")

// authorizing returns a Config.Authorize that admits every identity but those above, whose
// value is the identity. It counts the calls that have not returned. It is made in the test's
// bubble.
func authorizing(t *testing.T, inFlight *atomic.Int32) authorization {
	released := make(chan struct{})
	t.Cleanup(func() { close(released); synctest.Wait() })
	return func(ctx context.Context, r *dtlsserver.AuthRequest) (any, error) {
		inFlight.Add(1)
		defer inFlight.Add(-1)
		switch who := string(r.Identity.PSKIdentity); who {
		case denied:
			return "a value that nobody gets", errDenied
		case exits:
			runtime.Goexit()
		case slow:
			time.Sleep(slowness)
		case obeys:
			<-ctx.Done()
			return nil, ctx.Err()
		case ignores:
			<-released
		}
		return string(r.Identity.PSKIdentity), nil
	}
}

// requests are those that a Config.Authorize has got.
type requests struct {
	mu  sync.Mutex
	all []dtlsserver.AuthRequest
}

// add adds a request, and returns how many there are.
func (r *requests) add(request dtlsserver.AuthRequest) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, request)
	return len(r.all)
}

func (r *requests) list() []dtlsserver.AuthRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// withAuthorize runs a test in a bubble with a listener that has the Config.Authorize of
// authorizing, on a network with a round trip of 300 ms.
func withAuthorize(t *testing.T, cfg dtlsserver.Config, test func(t *testing.T, l memory, inFlight *atomic.Int32)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		inFlight := new(atomic.Int32)
		cfg.Authorize = authorizing(t, inFlight)
		l := listenInMemory(t, psk(), cfg)
		l.network.SetRoundTrip(300 * time.Millisecond)
		test(t, l, inFlight)
	})
}

// requireSums checks the sums that Stats documents.
func requireSums(t *testing.T, l *dtlsserver.Listener) dtlsserver.Stats {
	t.Helper()
	s := l.Stats()
	handshakes, sessions := uint64(s.HalfOpen), uint64(s.Established)
	for count := range s.Counts() {
		switch count.Kind {
		case dtlsserver.HandshakeResult:
			handshakes += count.N
		case dtlsserver.SessionEnd:
			sessions += count.N
		}
	}
	require.Equal(t, s.Started, handshakes)
	require.Equal(t, s.Completed+s.Restored, sessions)
	return s
}

// plaintextTo collects the records of epoch 0 that go to clients.
func (l memory) plaintextTo(lose func(r record.Record) bool) func() []record.Record {
	var records []record.Record
	l.network.SetHook(dtlstest.ToClient, func(datagram []byte) bool {
		for _, r := range dtlstest.Records(datagram) {
			if r.Epoch == 0 {
				records = append(records, r.Clone())
				if lose != nil && lose(r) {
					return false
				}
			}
		}
		return true
	})
	return func() []record.Record { synctest.Wait(); return records }
}

// TestClientThatIsNotAuthorizedIsTold by an alert that it does not take for a replay, and
// nothing is left of its session.
func TestClientThatIsNotAuthorizedIsTold(t *testing.T) {
	t.Parallel()
	for identity, test := range map[string]struct {
		alert uint8
		name  string // pion's
		count func(dtlsserver.Stats) uint64
	}{
		denied:  {record.AccessDenied, "AccessDenied", func(s dtlsserver.Stats) uint64 { return s.Denied }},
		exits:   {record.AccessDenied, "AccessDenied", func(s dtlsserver.Stats) uint64 { return s.Denied }},
		obeys:   {record.InternalError, "InternalError", func(s dtlsserver.Stats) uint64 { return s.AuthorizeTimedOut }},
		ignores: {record.InternalError, "InternalError", func(s dtlsserver.Stats) uint64 { return s.AuthorizeTimedOut }},
	} {
		t.Run(identity, func(t *testing.T) {
			t.Parallel()
			var log dtlstest.LogBuffer
			cfg := dtlsserver.Config{
				AuthorizeTimeout: time.Second, Resumption: newStore(t, resume.Config{}), Logger: log.Logger(),
				OnEstablished: func(*dtlsserver.Conn) { t.Error("there is no session") },
				OnEnd:         func(*dtlsserver.Conn, dtlsserver.Reason) { t.Error("there was no session") },
			}
			withAuthorize(t, cfg, func(t *testing.T, l memory, _ *atomic.Int32) {
				sent := l.plaintextTo(nil)
				require.ErrorContains(t, l.tryDial(device(identity, "", "key")), test.name)
				all := sent()
				last := all[len(all)-1]
				assert.Equal(t, []byte{record.LevelFatal, test.alert}, last.Fragment())
				for _, r := range all[:len(all)-1] {
					assert.Less(t, r.Sequence, last.Sequence)
					assert.NotEqual(t, record.TypeChangeCipherSpec, r.Type)
				}
				time.Sleep(time.Minute) // the client repeats nothing any more
				synctest.Wait()
				s := requireSums(t, l.Listener)
				assert.EqualValues(t, 1, test.count(s))
				assert.EqualValues(t, 1, s.Started)
				assert.Zero(t, s.Completed)
				assert.Zero(t, cfg.Resumption.Stats().Puts)
				assert.Empty(t, peers(l.Listener))
				assert.Equal(t, l.Table().MaxSlots(), l.Table().AvailableSlots())
				assert.Contains(t, log.String(), "the session is not authorized")
			})
		})
	}
}
