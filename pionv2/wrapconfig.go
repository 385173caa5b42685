// SPDX-License-Identifier: MIT

package pionv2

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/go-dsm/dsm"
)

// WrapConfig says how many sessions a Wrapped has, and what becomes of a newcomer. The
// zero WrapConfig is usable. Wrap copies it: it may be changed and used again.
type WrapConfig struct {
	// Sessions is how many sessions can be established at one time. Zero means
	// DefaultSessions. Negative is an error.
	Sessions int
	// Table, if not nil, is used instead of a new table of Sessions slots, and
	// Sessions must be zero. Several listeners may share a table. Each has its own
	// Sock in it and evicts only its own sessions.
	Table *dsm.Table[*WrappedConn]
	// WhenFull says what becomes of a newcomer while no slot is free.
	WhenFull Policy
	// Logger is told of failed handshakes (Warn), of evicted and refused sessions
	// (Info), and of sessions that begin and end (Debug). Nil means no log.
	Logger *slog.Logger
}

// table returns the table for a listener, or the error that names the wrong field.
func (c WrapConfig) table() (*dsm.Table[*WrappedConn], error) {
	switch {
	case c.Sessions < 0:
		return nil, fmt.Errorf("pionv2: WrapConfig.Sessions is %d", c.Sessions)
	case c.WhenFull != EvictLeastRecentlyUsed && c.WhenFull != RefuseNewcomer:
		return nil, fmt.Errorf("pionv2: WrapConfig.WhenFull is %d, which is no Policy", c.WhenFull)
	case c.Table != nil && c.Sessions != 0:
		return nil, errors.New("pionv2: WrapConfig has both a Table and a number of Sessions")
	case c.Table != nil:
		return c.Table, nil
	case c.Sessions == 0:
		c.Sessions = DefaultSessions
	}
	return dsm.New[*WrappedConn](c.Sessions)
}
