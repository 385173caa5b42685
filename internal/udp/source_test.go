// SPDX-License-Identifier: MIT

package udp

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAnswerLeavesFromAddressOfRequest sends datagrams to each local address of a
// socket and answers them. The clients are connected, so an answer from another
// address would not reach them.
func TestAnswerLeavesFromAddressOfRequest(t *testing.T) {
	for _, tc := range []struct {
		network, address string
		hosts            []string
	}{
		{"udp4", "127.0.0.1:0", []string{"127.0.0.1"}},
		{"udp", "127.0.0.1:0", []string{"127.0.0.1"}},
		{"udp6", "[::1]:0", []string{"::1"}},
		{"udp4", "0.0.0.0:0", []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}},
		{"udp6", "[::]:0", []string{"::1"}},
		{"udp", "[::]:0", []string{"::1", "127.0.0.1", "127.0.0.2"}},
		{"udp", ":0", []string{"127.0.0.2", "::1", "127.0.0.1"}},
	} {
		for name, open := range map[string]openFunc{"Listen": listenOne, "New": newFromConn, "single": listenSingle} {
			t.Run(fmt.Sprintf("%s/%s/%s", name, tc.network, tc.address), func(t *testing.T) {
				if strings.Contains(strings.Join(tc.hosts, " "), ":") {
					needIPv6(t)
				}
				single := name == "single"
				s := open(t, tc.network, tc.address)
				wildcard := s.LocalAddr().(*net.UDPAddr).IP.IsUnspecified()
				sources := map[Source]bool{}
				for _, host := range tc.hosts {
					if !isLinux && wildcard && host != "127.0.0.1" && host != "::1" {
						continue
					}
					client := dial(t, s, host)
					for _, text := range []string{"one", "", "three"} {
						_, err := client.Write([]byte(text))
						require.NoError(t, err)
						d := readOne(t, s)
						assert.Equal(t, text, string(d.Buf))
						assert.False(t, d.Truncated)
						assert.Equal(t, addrPort(client.LocalAddr()), d.Peer, "not mapped to IPv6")
						sources[d.Source] = true
						if single && wildcard && d.Peer.Addr().Is4() && host != "127.0.0.1" {
							continue // the kernel chooses 127.0.0.1 for the answer
						}
						answer := Datagram{Buf: []byte("re: " + text), Peer: d.Peer, Source: d.Source}
						// batchIO writes one datagram by another system call than two.
						for _, ds := range [][]Datagram{{answer}, {answer, answer}} {
							n, err := s.Write(ds)
							require.NoError(t, err)
							assert.Equal(t, len(ds), n)
							for range ds {
								assert.Equal(t, "re: "+text, receive(t, client))
							}
						}
					}
				}
				if isLinux && !single && wildcard {
					assert.Len(t, sources, len(tc.hosts), "a local address has one Source")
					assert.NotContains(t, sources, Source{})
				} else {
					assert.Equal(t, map[Source]bool{{}: true}, sources)
				}
			})
		}
	}
}

// TestAnswerToLinkLocalPeer sends a datagram to a link-local address of this machine
// and answers it. The zone of the peer and the interface of the Source must both be
// kept.
func TestAnswerToLinkLocalPeer(t *testing.T) {
	needIPv6(t)
	host := linkLocalHost()
	if host == "" {
		t.Skip("no link-local IPv6 address on this machine")
	}
	forEachIO(t, func(t *testing.T, open openFunc, _ bool) {
		s := open(t, "udp6", "[::]:0")
		client := dial(t, s, host)
		_, err := client.Write([]byte("hello"))
		require.NoError(t, err)
		d := readOne(t, s)
		assert.Equal(t, addrPort(client.LocalAddr()), d.Peer)
		assert.NotEmpty(t, d.Peer.Addr().Zone())
		for _, ds := range [][]Datagram{{d}, {d, d}} {
			_, err = s.Write(ds)
			require.NoError(t, err)
			for range ds {
				assert.Equal(t, "hello", receive(t, client))
			}
		}
	})
}

// linkLocalHost returns a link-local IPv6 address of this machine with its zone, or
// an empty string.
func linkLocalHost() string {
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			ip, ok := a.(*net.IPNet)
			if ok && i.Flags&net.FlagUp != 0 && ip.IP.To4() == nil && ip.IP.IsLinkLocalUnicast() {
				return ip.IP.String() + "%" + i.Name
			}
		}
	}
	return ""
}
