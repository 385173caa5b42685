// SPDX-License-Identifier: MIT

package admission

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
)

func near(t *testing.T, want, got float64) {
	t.Helper()
	if math.Abs(want-got) > 1e-9 {
		t.Errorf("%v, not %v", got, want)
	}
}

func TestFloodIdeal(t *testing.T) {
	const second = time.Second
	ideal := func(hellos float64, rtt time.Duration, cookies bool, within time.Duration) float64 {
		return floodIdeal(1000, rtt, hellos, cookies, dtlstest.OpenSSLTimer, within)
	}
	near(t, 1, ideal(1000, second, false, 10*second))
	near(t, 1-math.Pow(0.5, 4), ideal(2000, second, false, 10*second)) // sent at 0, 1, 3 and 7 s
	near(t, 1-math.Pow(0.75, 4), ideal(2000, second, true, 10*second))
	near(t, 1-math.Pow(0.95, 5), ideal(20000, second, false, 30*second))
	near(t, 0, ideal(20, 6*second, false, 10*second)) // the handshake takes longer
	near(t, 1, ideal(20, 6*second, false, 18*second))
}

func TestHerdIdeal(t *testing.T) {
	const rtt = 2500 * time.Millisecond
	near(t, 0, herdIdeal(300, 1000, rtt, rtt))
	near(t, 1, herdIdeal(300, 1000, rtt, 3*rtt))
	near(t, 0.1, herdIdeal(10_000, 1000, rtt, 10*time.Second))
	near(t, 1, herdIdeal(10_000, 1000, rtt, herdTime(10_000, 1000, rtt)))
	near(t, 0.9, herdIdeal(10_000, 1000, rtt, herdTime(10_000, 1000, rtt)-time.Millisecond))
	if got := herdTime(10_000, 1000, rtt); got != 52500*time.Millisecond {
		t.Error(got)
	}
}

// A server that gives each hello the chance that floodIdeal computes with has as many
// handshakes as places, on average.
func TestChanceFillsThePlaces(t *testing.T) {
	const places, hellos, seconds = 100, 1000, 200
	for _, keep := range []time.Duration{50 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second} {
		p := chance(places, keep, hellos)
		r := rand.New(rand.NewPCG(1, 2))
		var ends []float64 // of the places taken, in order
		sum := 0
		for n := range hellos * seconds {
			now := float64(n) / hellos
			for len(ends) > 0 && ends[0] <= now {
				ends = ends[1:]
			}
			if r.Float64() < p {
				ends = append(ends, now+keep.Seconds())
			}
			sum += len(ends)
		}
		mean, want := float64(sum)/(hellos*seconds), min(places, hellos*keep.Seconds())
		if math.Abs(mean-want) > 0.05*want {
			t.Errorf("keep %v: %.1f places are taken, not %.1f", keep, mean, want)
		}
	}
}
