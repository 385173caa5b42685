// SPDX-License-Identifier: MIT

//go:build !race

package record

const raceEnabled = false
