// SPDX-License-Identifier: MIT

package dsm

import "strconv"

// State is the state of a session, or the result of Store: RIOT's dsm_state_t.
type State int8

const (
	// NoSpace is a result of Store: the table did not have the session and no slot
	// was free. No session is in this state.
	NoSpace State = -1
	// StateNone means that the table does not have the session.
	StateNone State = 0
	// StateHandshake is the state of a session during its handshake (half-open).
	StateHandshake State = 1
	// StateEstablished is the state of a session after its handshake. No call of
	// RIOT's takes it back: an established session can only be removed. See
	// Handle.Demote for the exception.
	StateEstablished State = 2
)

// String returns RIOT's word for s: NO_SPACE, NONE, HANDSHAKE or ESTABLISHED.
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
