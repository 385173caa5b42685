// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
)

// TestNoNonceTwice runs random schedules of clients, saves, restores, crashes and failing
// disks. No two different records of a session have the same epoch and sequence number,
// whichever listener has sent them.
func TestNoNonceTwice(t *testing.T) {
	t.Parallel()
	var total nonceCounts
	for seed := range uint64(dtlstest.Scaled(150, 1000)) {
		violations, counts := runNonceSchedule(t, seed, mutant{})
		assert.Empty(t, violations, "schedule %d", seed)
		total.add(counts)
	}
	t.Logf("%+v", total)
	for what, count := range map[string]int{
		"records": total.records, "saves": total.saves, "failed saves": total.failedSaves, "restores": total.restores,
		"claimed": total.claimed, "crashes": total.crashes, "losses of power": total.powerLosses, "recoveries": total.recoveries,
		"exhaustions": total.exhausted, "attachments": total.attached, "races": total.races,
	} {
		assert.NotZero(t, count, what)
	}
}

// TestNonceMutants: the schedules find out when a part of the protection is missing.
func TestNonceMutants(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]mutant{
		"no fsync":   {lie: true},
		"no claim":   {noClaim: true},
		"no ceiling": {noCeiling: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(nonceSchedules) {
				if violations, _ := runNonceSchedule(t, seed, m); len(violations) > 0 {
					t.Logf("schedule %d: %s", seed, violations[0])
					return
				}
			}
			t.Error("no schedule shows it")
		})
	}
}

// nonceSchedules is how many schedules are enough to find each mutant.
const nonceSchedules = 1000

// runNonceSchedule runs one schedule, and returns which numbers were used twice.
func runNonceSchedule(t *testing.T, seed uint64, m mutant) (violations []string, counts nonceCounts) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newNonceWorld(t, seed, m)
		w.run()
		violations, counts = w.sent.check(t), w.counts
		if len(violations) > 0 {
			violations[0] += string(w.trace)
		}
		counts.records = len(w.sent.records)
		counts.schedules = 1
	})
	return violations, counts
}

// sentRecords are the protected records that listeners have sent.
type sentRecords struct {
	mu sync.Mutex
	// mu guards the following.
	records  []sentRecord
	sessions map[netip.AddrPort][]*record.Session // of the peer, as its server has them
	secrets  map[record.Random]bool               // the sessions that are in there, by their clients' randoms
}

type sentRecord struct {
	record.Record
	from, to netip.AddrPort
	step     int // of the schedule
}

// add notes the records of a datagram.
func (s *sentRecords) add(d dtlstest.Datagram, step int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for rest := bytes.Clone(d.Payload); len(rest) > 0; {
		r, after, fault := record.Next(rest)
		rest = after
		if fault == record.NoFault && r.Epoch > 0 {
			s.records = append(s.records, sentRecord{r, d.From, d.To, step})
		}
	}
}

// learn notes a session, by whose keys its records are recognized.
func (s *sentRecords) learn(t *testing.T, c *dtlsserver.Conn) {
	secrets := c.Secrets()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets[secrets.ClientRandom] {
		return
	}
	session, err := record.New(secrets)
	if assert.NoError(t, err) {
		s.secrets[secrets.ClientRandom] = true
		s.sessions[c.Peer()] = append(s.sessions[c.Peer()], session)
	}
}

// check returns which sequence numbers were used for two different records.
func (s *sentRecords) check(t *testing.T) (violations []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	type nonce struct {
		session  *record.Session
		epoch    uint16
		sequence uint64
	}
	used := map[nonce]sentRecord{}
	for _, r := range s.records {
		session := s.owner(r)
		if !assert.NotNil(t, session, "a record of no known session: step %d, %v to %v", r.step, r.from, r.to) {
			continue
		}
		n := nonce{session, r.Epoch, r.Sequence}
		if before, ok := used[n]; ok && !bytes.Equal(before.Raw, r.Raw) {
			violations = append(violations, fmt.Sprintf("%v: epoch %d, number %#x: by %v in step %d and by %v in step %d",
				r.to, r.Epoch, r.Sequence, before.from, before.step, r.from, r.step))
		}
		used[n] = r
	}
	return violations
}

// owner returns the session of a record: the one whose keys open it.
func (s *sentRecords) owner(r sentRecord) *record.Session {
	for _, session := range s.sessions[r.to] {
		if _, _, err := session.OpenOwn(r.Record); err == nil {
			return session
		}
	}
	return nil
}
