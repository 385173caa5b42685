// SPDX-License-Identifier: MIT

package udp

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// BenchmarkWriteRead writes datagrams to loopback and reads them in the same
// goroutine. It reports the time of writing and reading one datagram. batchIO and
// singleIO differ only in the number of system calls; on loopback most of the time
// is the kernel's work on each datagram.
func BenchmarkWriteRead(b *testing.B) {
	for _, size := range []int{1, 8, 32, maxBatch} {
		for _, io := range []struct {
			name string
			open openFunc
		}{{"batch", listenOne}, {"single", listenSingle}} {
			b.Run(fmt.Sprintf("datagrams=%d/io=%s", size, io.name), func(b *testing.B) {
				from, to := io.open(b, "udp4", "127.0.0.1:0"), io.open(b, "udp4", "127.0.0.1:0")
				if err := errors.Join(from.pc.SetDeadline(time.Time{}), to.pc.SetDeadline(time.Time{})); err != nil {
					b.Fatal(err)
				}
				out, in := make([]Datagram, size), newDatagrams(size, 2048)
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
