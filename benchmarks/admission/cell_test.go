// SPDX-License-Identifier: MIT

package admission

import (
	"net/netip"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
)

func TestGroup(t *testing.T) {
	a := Group{Clients: 4, In: []time.Duration{time.Second, 10 * time.Second}, Deceived: 1}
	near(t, 0.25, a.Within(9*time.Second))
	near(t, 0.5, a.Within(10*time.Second))
	near(t, 0, Group{}.Within(time.Second))
	if last, all := a.Last(); last != 10*time.Second || all {
		t.Error(last, all)
	}
	b := Group{Clients: 1, In: []time.Duration{5 * time.Second}, Attempts: dtlstest.Attempts{Handshakes: 1}}
	sum := both(a, b)
	if last, _ := sum.Last(); last != 10*time.Second || sum.Clients != 5 || len(sum.In) != 3 || sum.Deceived != 1 || sum.Attempts.Handshakes != 1 {
		t.Errorf("%+v", sum)
	}
	if len(a.In) != 2 || a.Clients != 4 {
		t.Errorf("changed: %+v", a)
	}
}

// Each client has an address of its own at each visit, in one /24 or each in another.
func TestAddressesOfClients(t *testing.T) {
	for _, oneNetwork := range []bool{false, true} {
		c := Cell{OneNetwork: oneNetwork}
		addresses, networks := map[netip.AddrPort]bool{}, map[netip.Prefix]bool{}
		const clients = 10_000
		for n := range clients {
			for visit := range uint16(2) {
				addr := c.address(n, visit)
				addresses[addr] = true
				network, _ := addr.Addr().Prefix(24)
				networks[network] = true
			}
		}
		want := clients
		if oneNetwork {
			want = 1
		}
		if len(addresses) != 2*clients || len(networks) != want {
			t.Errorf("%d addresses, %d networks", len(addresses), len(networks))
		}
	}
}

func TestPercent(t *testing.T) {
	for share, want := range map[float64]string{0: "0", 1: "100", 0.9999: "99.9", 0.0001: "<0.1", 0.5: "50", 0.1234: "12.3"} {
		if got := percent(share); got != want {
			t.Errorf("%v: %s, not %s", share, got, want)
		}
	}
}
