// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"cmp"
	"net/netip"
	"slices"
)

// HandshakeNetwork says how many handshakes of a network are in progress.
type HandshakeNetwork struct {
	Network    netip.Prefix // an IPv4 /24 or an IPv6 /64
	Handshakes int
}

// HandshakeNetworks returns the networks that have handshakes in progress, those with most of
// them first. It holds up other handshakes for a time that is proportional to Stats.HalfOpen,
// some 50 µs for a thousand.
func (l *Listener) HandshakeNetworks() []HandshakeNetwork {
	counts := map[netip.Prefix]int{}
	l.admission.hold(func() { l.admission.countNetworksLocked(counts) })
	networks := make([]HandshakeNetwork, 0, len(counts))
	for network, n := range counts {
		networks = append(networks, HandshakeNetwork{network, n})
	}
	slices.SortFunc(networks, func(a, b HandshakeNetwork) int {
		return cmp.Or(cmp.Compare(b.Handshakes, a.Handshakes), a.Network.Addr().Compare(b.Network.Addr()))
	})
	return networks
}

// countNetworksLocked counts the handshakes of each network.
func (a *admission) countNetworksLocked(counts map[netip.Prefix]int) {
	for network, q := range a.sources {
		counts[network] += q.len()
	}
	for i := range a.queues[returning] {
		for e := a.queues[returning][i].Front(); e != nil; e = e.Next() {
			counts[e.Value.(*ticket).prefix]++
		}
	}
}
