// SPDX-License-Identifier: MIT

package udp

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// BenchmarkPath sends datagrams over loopback and reads them, with one goroutine,
// and gives the time of one datagram there. The two paths differ in system calls
// only: on loopback most of the time is the kernel's own, for each datagram.
func BenchmarkPath(b *testing.B) {
	for _, size := range []int{1, 8, 32, maxBatch} {
		for _, p := range []struct {
			name string
			open func(testing.TB, string, string) *Socket
		}{{"batch", listenOne}, {"plain", plainSocket}} {
			b.Run(fmt.Sprintf("waiting=%d/path=%s", size, p.name), func(b *testing.B) {
				from, to := p.open(b, "udp4", "127.0.0.1:0"), p.open(b, "udp4", "127.0.0.1:0")
				if err := errors.Join(from.pc.SetDeadline(time.Time{}), to.pc.SetDeadline(time.Time{})); err != nil {
					b.Fatal(err)
				}
				out, in := make([]Datagram, size), rooms(size, 2048)
				for i := range out {
					out[i] = Datagram{Buf: make([]byte, 100), Peer: addrPort(to.LocalAddr())}
				}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := from.Write(out); err != nil {
						b.Fatal(err)
					}
					for n := 0; n < size; {
						m, err := to.Read(in[n:])
						if err != nil {
							b.Fatal(err)
						}
						n += m
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/datagram")
			})
		}
	}
}
