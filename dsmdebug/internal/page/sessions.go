// SPDX-License-Identifier: MIT

package page

import (
	"bytes"
	"context"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/logtext"
)

// query is what the list of sessions is asked for.
type query struct {
	Text   string // in the address or the identity, or a network
	Newest bool   // the most recently used first
	Page   int    // from 0
}

// row is a session in the list, of the moment when it was asked for.
type row struct {
	Slot      int
	Peer      string
	Identity  string // printable and short; empty: none
	Age, Idle time.Duration
	Resumed   bool
}

// listing is a page of the list.
type listing struct {
	Query    query
	Rows     []row
	More     bool // a further page follows
	Complete bool // the walk has not ended for its time
	Seen     int  // sessions that the walk has looked at
	Taken    time.Time
}

// firstCache has the first page of all sessions, for all who ask. Its walk ends after a few
// sessions, unless they come after those of other listeners in a table that is shared. So it takes
// no turn, and rests like the others.
type firstCache struct {
	mu   sync.Mutex
	last listing
	next time.Time // when the next walk may begin
}

// get returns the page. It is a new one if the time for that has come.
func (c *firstCache) get(ctx context.Context, source Source) listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.next) {
		return c.last
	}
	var worked time.Duration
	c.last, worked = list(ctx, source, query{})
	c.next = time.Now().Add(listRest * worked)
	return c.last
}

// list walks over the sessions for a page of their list. It also returns for how long it has worked.
func list(ctx context.Context, source Source, q query) (out listing, worked time.Duration) {
	out.Query = q
	match := matcher(q.Text)
	end := (q.Page+1)*pageSize + 1 // one more tells whether a further page follows
	var kept []Session             // the last end matches if q.Newest, otherwise the first; a ring
	matches := 0
	out.Complete, worked = walk(ctx, source, listTime, func(_ int, s Session) bool {
		if s == nil {
			return true
		}
		out.Seen++
		if !match(s) {
			return true
		}
		if len(kept) < end {
			kept = append(kept, s)
		} else {
			kept[matches%end] = s
		}
		matches++
		return q.Newest || matches < end
	})
	now := time.Now()
	out.Taken = now
	for i := q.Page * pageSize; i < min(len(kept), end-1); i++ {
		at := i
		if q.Newest {
			at = (matches - 1 - i) % end
		}
		out.Rows = append(out.Rows, newRow(kept[at], now))
	}
	out.More = len(kept) == end
	return out, worked
}

func newRow(s Session, now time.Time) row {
	r := row{
		Slot: s.Slot(), Peer: s.Peer().String(), Resumed: s.Resumed(),
		Age: max(0, now.Sub(s.Established())), Idle: max(0, now.Sub(s.LastUsed())),
	}
	if key := s.IdentityKey(); key != "" {
		r.Identity = logtext.Name(key)
	}
	return r
}

// matcher returns what tells whether a session is one that is searched for.
func matcher(text string) func(Session) bool {
	if text == "" {
		return func(Session) bool { return true }
	}
	if network, err := netip.ParsePrefix(text); err == nil {
		return func(s Session) bool { return network.Contains(s.Peer().Addr().WithZone("")) }
	}
	address := []byte(strings.ToLower(text))
	identity := text
	if quoted, err := strconv.QuotedPrefix(text); err == nil && quoted[0] == '"' {
		identity, _ = strconv.Unquote(quoted) // as the list shows it, and what says how long it is
	}
	var buf [64]byte
	return func(s Session) bool {
		// The identity takes longer to make.
		return bytes.Contains(s.Peer().AppendTo(buf[:0]), address) || strings.Contains(s.IdentityKey(), identity)
	}
}
