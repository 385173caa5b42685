// SPDX-License-Identifier: MIT

//go:build !linux

package udp

import "net/netip"

// Addr returns the zero Addr: no Source has an address here.
func (s Source) Addr() netip.Addr { return netip.Addr{} }

// SourceOf returns the zero Source: the kernel chooses the address.
func (s *Socket) SourceOf(netip.Addr) Source { return Source{} }
