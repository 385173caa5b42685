// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAGateIsSafeForConcurrentUse: the client, strangers, pion's two goroutines, the timers
// and the end of the handshake, each in a goroutine of its own. The handshakes that nobody
// ends pass, and no sequence number comes twice in any.
func TestAGateIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{kindPSK, kindCertificate, kindAbbreviated} {
		for name, end := range map[string]func(s *script){
			"to the end": nil,
			"Abort":      func(s *script) { s.gate.Abort() },
			"Refuse":     func(s *script) { _ = s.gate.Refuse(context.Background(), errPion) },
			"Result":     func(s *script) { _, _ = s.gate.Result() },
			"fails": func(s *script) {
				s.gate.mu.Lock()
				defer s.gate.mu.Unlock()
				s.gate.failLocked(errPion)
			},
		} {
			t.Run(k.name+", "+name, func(t *testing.T) {
				t.Parallel()
				for n := range 20 {
					synctest.Test(t, func(t *testing.T) { newConcurrent(t, k).run(time.Duration(n)*20*time.Microsecond, end) })
				}
			})
		}
	}
}

// concurrent is a script whose roles run in goroutines of their own.
type concurrent struct {
	*script
	records [][]byte // of an honest client, in all orders
	flight  [][]byte
	last    [][]byte        // pion's Finished
	roles   context.Context // until the test is done
	passed  chan struct{}   // closed when pion has read a Finished
}

func newConcurrent(t *testing.T, k kind) *concurrent {
	s := newScript(t, k)
	s.unsorted = true
	s.gate.options.Interval = time.Millisecond
	count := sync.Mutex{}
	s.gate.parameters.Count = func(Verdict) { count.Lock(); defer count.Unlock() }
	c := &concurrent{script: s, passed: make(chan struct{})}
	take := func(m record.Handshake) {
		c.records = append(c.records, dtlstest.Plaintext(record.TypeHandshake, 0, m.Append(nil)...))
	}
	take(s.clientMessage(record.MessageClientHello))
	if !k.abbreviated {
		c.flight = append(c.flight, s.cookieRequest())
		take(s.clientMessage(record.MessageClientHello))
	}
	c.flight = append(c.flight, bytes.Join(s.flight(), nil))
	for _, m := range s.lastFlight() {
		take(m)
	}
	c.records = append(c.records, dtlstest.Plaintext(record.TypeChangeCipherSpec, 0, 1))
	m := s.finishedMessage()
	for range 200 {
		c.records = append(c.records, s.seal(record.TypeHandshake, m).Raw)
	}
	if !k.abbreviated {
		c.last = [][]byte{bytes.Join(s.pionFinished(), nil)}
	}
	return c
}

// run runs all roles. end is called after a time; nil: the handshake goes on to its end.
func (c *concurrent) run(after time.Duration, end func(*script)) {
	var cancel context.CancelFunc
	c.roles, cancel = context.WithCancel(context.Background())
	var roles sync.WaitGroup
	repeatedly := func(role func(n int)) {
		roles.Go(func() {
			for n := 0; c.roles.Err() == nil; n++ {
				role(n)
				time.Sleep(20 * time.Microsecond)
			}
		})
	}
	repeatedly(func(n int) {
		r, _, _ := record.Next(c.records[n%len(c.records)])
		c.HandleRecord(r)
	})
	repeatedly(func(n int) {
		r, _, _ := record.Next(c.records[min(n%8, len(c.records)-1)])
		c.HandleRecord(r)
	})
	repeatedly(func(n int) {
		for _, raw := range [][]byte{
			dtlstest.Unauthentic(record.TypeHandshake, uint64(n), 40),
			dtlstest.Plaintext(record.TypeAlert, uint64(n), record.LevelWarning, 0),
		} {
			r, _, _ := record.Next(raw)
			c.HandleRecord(r)
		}
	})
	repeatedly(func(int) { _ = c.gate.AddressValidated(); c.gate.repeat() })
	roles.Go(c.pionRuns)
	switch {
	case end == nil:
		select {
		case <-c.passed:
		case <-time.After(20 * time.Second):
			assert.Fail(c, "the handshake does not pass")
		}
		result, err := c.gate.Result()
		if assert.NoError(c, err) {
			assert.Equal(c, c.abbreviated, result.Resumed)
		}
	default:
		time.Sleep(after)
		ended := make(chan struct{})
		go func() { defer close(ended); end(c.script) }()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			assert.Fail(c, "the end does not come")
		}
		c.gate.Abort()
	}
	cancel()
	roles.Wait()
	c.uniqueSequences()
}

func (c *concurrent) HandleRecord(r record.Record) {
	c.mu.Lock()
	c.received += len(r.Raw)
	c.mu.Unlock()
	c.gate.HandleRecord(r)
}

// pionRuns is pion: it reads, and answers what it has read.
func (c *concurrent) pionRuns() {
	ctx := c.roles
	if _, err := c.gate.Hello(ctx); err != nil {
		return
	}
	if c.abbreviated {
		c.gate.Resume(secret)
	}
	for ctx.Err() == nil {
		for _, r := range dtlstest.Records(c.gate.Next()) {
			m, _, _ := record.NextHandshake(r.Fragment())
			switch {
			case r.Epoch > 0:
				for _, raw := range c.last {
					c.gate.FromPion(raw)
				}
				close(c.passed)
				return
			case r.Type == record.TypeHandshake && m.Type == record.MessageClientHello:
				c.gate.FromPion(c.flight[m.MessageSeq])
			case r.Type == record.TypeHandshake && m.Type == record.MessageClientKeyExchange:
				_, err := c.gate.PSK(ctx, []byte(identity))
				assert.NoError(c, err)
				if c.certificates == 0 {
					c.gate.MasterSecret(secret)
				}
			case r.Type == record.TypeHandshake && m.Type == record.MessageCertificateVerify:
				c.gate.MasterSecret(secret)
			}
		}
		select {
		case <-c.gate.Wake():
		case <-c.gate.Failed():
			return
		case <-ctx.Done():
			return
		}
	}
}

// uniqueSequences requires that no sequence number was used twice.
func (c *concurrent) uniqueSequences() {
	type number struct {
		epoch    uint16
		sequence uint64
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[number]bool{}
	for _, d := range c.sent {
		for _, r := range dtlstest.Records(d.raw) {
			n := number{r.Epoch, r.Sequence}
			require.False(c, seen[n], "%v", n)
			seen[n] = true
		}
	}
}

// TestSendMayCallTheGate: no lock is held.
func TestSendMayCallTheGate(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		send := s.gate.parameters.Send
		calls := 0
		s.gate.parameters.Send = func(raw []byte) {
			send(raw)
			calls++
			s.gate.AddressValidated()
			s.gate.PSK(context.Background(), nil) //nolint:errcheck // the call is what counts
			s.gate.HandleRecord(s.one(dtlstest.Plaintext(record.TypeAlert, 0, 1, 0)))
		}
		s.to(awaitFinished)
		time.Sleep(DefaultInterval)
		s.take()
		assert.Equal(s, 3, calls)
		s.pionAlert(40)
		assert.Equal(s, 4, calls)
		s.gate.failLocked(errors.New("x"))
		s.gate.outcome.alert = &record.Alert{Level: record.LevelFatal}
		_ = s.gate.Refuse(context.Background(), errPion)
		assert.Equal(s, 5, calls)
	})
}
