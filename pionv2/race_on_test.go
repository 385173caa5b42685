// SPDX-License-Identifier: MIT

//go:build race

package pionv2

const raceEnabled = true
