// SPDX-License-Identifier: MIT

//go:build race

package dtlstest

// RaceEnabled reports whether the race detector is on.
const RaceEnabled = true
