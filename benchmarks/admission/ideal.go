// SPDX-License-Identifier: MIT

package admission

import (
	"math"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
)

// The ideal server has as many places for half-open handshakes as the one that is
// measured. It knows the round trip of each client, so that it keeps a place for a cookie
// exactly one round trip. It knows in advance how many first ClientHellos come, and gives
// each one the same chance. Nothing is lost on its network.

// roundTripsOfPlace is how many round trips a full handshake takes a place, from the
// first ClientHello to the client's last flight, and roundTripsOfClient how many its
// client sees.
const (
	roundTripsOfPlace  = 2
	roundTripsOfClient = 3
)

// chance returns the chance of each first ClientHello of a flood: hellos a second come,
// and each takes a place for a time if it gets one.
func chance(places int, keep time.Duration, hellos float64) float64 {
	if load := keep.Seconds() * hellos; load > float64(places) {
		return float64(places) / load
	}
	return 1
}

// floodIdeal returns the share of honest clients that are in within a time of their first
// hello. The clients begin a full handshake each, and repeat their first ClientHello as
// timer says. cookies says that strangers return their cookies: then their places are
// kept until the next flight would come.
func floodIdeal(places int, rtt time.Duration, hellos float64, cookies bool, timer dtlstest.Timer, within time.Duration) float64 {
	keep := rtt
	if cookies {
		keep = roundTripsOfPlace * rtt
	}
	p, refused := chance(places, keep, hellos), 1.0
	for _, at := range timer.Sendings(within) {
		if at+roundTripsOfClient*rtt <= within {
			refused *= 1 - p
		}
	}
	return 1 - refused
}

// herdIdeal returns the share of a herd that is in within a time: all clients come at
// once, and each takes one place for two round trips.
func herdIdeal(clients, places int, rtt, within time.Duration) float64 {
	rounds := math.Floor(float64(within-(roundTripsOfClient-roundTripsOfPlace)*rtt) / float64(roundTripsOfPlace*rtt))
	return min(max(rounds, 0)*float64(places)/float64(clients), 1)
}

// herdTime returns when the last client of a herd is in, at an ideal server.
func herdTime(clients, places int, rtt time.Duration) time.Duration {
	rounds := (clients + places - 1) / places
	return time.Duration(roundTripsOfPlace*rounds)*rtt + (roundTripsOfClient-roundTripsOfPlace)*rtt
}
