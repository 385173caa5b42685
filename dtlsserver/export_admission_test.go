// SPDX-License-Identifier: MIT

package dtlsserver

// Bounds of limits.go that the tests of handshakes need.
const (
	MinHandshakes = minHandshakes
	RunningFactor = runningFactor
	RestartAfter  = restartAfter
	StallAfter    = stallAfter
	HeldRecords   = heldRecords
)
