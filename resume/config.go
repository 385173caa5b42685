// SPDX-License-Identifier: MIT

package resume

import (
	"fmt"
	"log/slog"
	"time"
)

// Defaults and limits of Config.
const (
	DefaultEntries       = 10000                 // entries of the Memory that a nil Config.Backend means
	DefaultLookupTimeout = 50 * time.Millisecond // Config.LookupTimeout
	DefaultLookups       = 256                   // Config.Lookups
	MaxLifetime          = 24 * time.Hour        // default and maximum of Config.Lifetime, RFC 5246 appendix F.1.4

	minLookupsPerSource = 4 // the least that a zero Config.LookupsPerSource means
)

// Bounds that a Config does not change.
const (
	sessionIDLen      = 32          // bytes of a session id, as pion makes them
	maxDeleteAttempts = 4           // for Delete while others replace the entry
	maxRevoked        = 1024        // remembered calls of Revoke; each takes an authentic fatal alert
	clockSkew         = time.Minute // by which the clocks of two servers may differ, for RevokeIdentity
	warnInterval      = time.Minute // between two log lines, so that a failing Backend does not fill the log
)

// Config says where a Store keeps its entries and how much time and concurrent work it
// spends on them. The zero Config is usable. A negative number is an error unless the
// field's comment gives it a meaning.
type Config struct {
	// Backend keeps the entries. Nil means a Memory of DefaultEntries. The Store does
	// not close the Backend; the caller does, after the last call of the Store.
	Backend Backend
	// Lifetime is how long after its full handshake a session can be resumed. Zero
	// means MaxLifetime; a longer duration is an error.
	Lifetime time.Duration
	// LookupTimeout bounds the time that the Store waits for each call of the
	// Backend. A call that takes longer is abandoned, and counts as in flight until
	// it returns. Zero means DefaultLookupTimeout.
	LookupTimeout time.Duration
	// Lookups bounds the lookups in flight, which are the calls of the Backend for Get
	// and IdentityRevoked. Separately it bounds the writes in flight, which are the
	// calls for Put, Delete and RevokeIdentity. Zero means DefaultLookups.
	Lookups int
	// LookupsPerSource bounds the lookups in flight for clients of one network. Zero
	// means a quarter of Lookups, and at least 4. A negative number means no bound
	// other than Lookups.
	LookupsPerSource int
	// Logger receives a warning about failures, timeouts and entries that cannot be
	// decoded, at most one a minute. Nil means no logging.
	Logger *slog.Logger
}

// withDefaults validates the Config and returns it with its zero values replaced.
func (c Config) withDefaults() (Config, error) {
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"Lifetime", int64(c.Lifetime)}, {"LookupTimeout", int64(c.LookupTimeout)}, {"Lookups", int64(c.Lookups)},
	} {
		if field.value < 0 {
			return c, fmt.Errorf("resume: Config.%s is negative", field.name)
		}
	}
	if c.Lifetime > MaxLifetime {
		return c, fmt.Errorf("resume: Config.Lifetime is %s, more than %s", c.Lifetime, MaxLifetime)
	}
	if c.Lifetime == 0 {
		c.Lifetime = MaxLifetime
	}
	if c.LookupTimeout == 0 {
		c.LookupTimeout = DefaultLookupTimeout
	}
	if c.Lookups == 0 {
		c.Lookups = DefaultLookups
	}
	switch {
	case c.LookupsPerSource == 0:
		c.LookupsPerSource = max(minLookupsPerSource, c.Lookups/4)
	case c.LookupsPerSource < 0:
		c.LookupsPerSource = c.Lookups
	}
	if c.Backend == nil {
		var err error
		if c.Backend, err = NewMemory(DefaultEntries); err != nil {
			return c, err
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
