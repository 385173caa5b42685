// SPDX-License-Identifier: MIT

package dsm

import "strconv"

// State is the state of a session, or what Store found: RIOT's dsm_state_t.
type State int8

const (
	// NoSpace is Store's answer when the session is not in the table and no
	// slot is free. No session is ever in this state.
	NoSpace State = -1
	// StateNone says that the table holds no such session.
	StateNone State = 0
	// StateHandshake is a session whose handshake is under way (half-open).
	StateHandshake State = 1
	// StateEstablished is a session whose handshake is done. It is the last
	// state of a session: from here it can only be taken out of the table.
	StateEstablished State = 2
)

// String gives RIOT's word for s: NO_SPACE, NONE, HANDSHAKE or ESTABLISHED.
func (s State) String() string {
	switch s {
	case NoSpace:
		return "NO_SPACE"
	case StateNone:
		return "NONE"
	case StateHandshake:
		return "HANDSHAKE"
	case StateEstablished:
		return "ESTABLISHED"
	}
	return "State(" + strconv.Itoa(int(s)) + ")"
}
