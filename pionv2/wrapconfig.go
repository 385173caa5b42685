// SPDX-License-Identifier: MIT

package pionv2

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/go-dsm/dsm"
)

// WrapConfig says how a Wrapped listener uses its table. The zero WrapConfig is usable. It is
// copied, and may be changed or used again afterwards.
type WrapConfig struct {
	// Sessions is the number of session slots. Zero means DefaultSessions,
	// negative is an error.
	Sessions int
	// Table, if not nil, is used instead of a new one of that many Sessions,
	// which must be zero then. Several listeners may share a table: each has a
	// sock of its own and evicts none but its own sessions.
	Table *dsm.Table[*WrappedConn]
	// WhenFull says what becomes of a newcomer when no slot is free.
	WhenFull Policy
	// Logger is told of failed handshakes (Warn), evicted and refused sessions
	// (Info), and sessions that begin and end (Debug). Nil: nobody is.
	Logger *slog.Logger
}

// table returns the table that it asks for.
func (c WrapConfig) table() (*dsm.Table[*WrappedConn], error) {
	switch {
	case c.Sessions < 0:
		return nil, fmt.Errorf("pionv2: WrapConfig.Sessions is %d", c.Sessions)
	case c.WhenFull != EvictLeastRecentlyUsed && c.WhenFull != RefuseNewcomer:
		return nil, fmt.Errorf("pionv2: WrapConfig.WhenFull is %d, no policy", c.WhenFull)
	case c.Table != nil && c.Sessions != 0:
		return nil, errors.New("pionv2: WrapConfig has both a Table and a number of Sessions")
	case c.Table != nil:
		return c.Table, nil
	case c.Sessions == 0:
		c.Sessions = DefaultSessions
	}
	return dsm.New[*WrappedConn](c.Sessions)
}
