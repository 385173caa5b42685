// SPDX-License-Identifier: MIT

package dtlsserver

// Bounds of limits.go that the tests of handshakes need.
const (
	MinPatience    = minPatience
	RestartUnasked = restartUnasked
	LongPatience   = longPatience
	MaxUnvalidated = maxUnvalidated
	MaxPending     = maxUnvalidated + maxValidated + 1 // and the one that is being displaced
	MaxNamed       = maxNamed
	HeldRecords    = heldRecords

	StaleCookieTime = staleCookieTime
	MaxRestarts     = maxRestarts
	FirstRoundTrip  = firstRoundTrip
)

// Pressure returns how many handshakes of newcomers there are with Config.Handshakes when a
// network gets no more than its share.
func Pressure(handshakes int) int {
	newcomers := handshakes - handshakes/reservedPart
	return newcomers - newcomers/pressurePart
}

// MaxRunning returns how many handshakes can be running with Config.Handshakes, displaced
// ones included.
func MaxRunning(handshakes int) int { return handshakes + handshakes/endingPart + minEnding }
