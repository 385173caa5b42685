// SPDX-License-Identifier: MIT

//go:build race

package packet

const raceEnabled = true
