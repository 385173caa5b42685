// SPDX-License-Identifier: MIT

package record

import (
	"fmt"
	"testing"
)

// BenchmarkRecord measures, for each suite, sealing and opening a record of 100 bytes,
// without a connection ID and with one of 8 bytes, and building the ciphers of a session.
func BenchmarkRecord(b *testing.B) {
	for _, s := range suites {
		payload := make([]byte, 100)
		sealed, opened := make([]byte, 0, 256), make([]byte, 0, 256)
		name := fmt.Sprintf("suite=%#04x", uint16(s.id))
		for _, n := range []int{0, 8} {
			client, server := newSessionsWithIDs(b, s.id, nil, idOf(1, n))
			b.Run(fmt.Sprintf("%s/op=seal-open/id=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					raw, _ := client.Seal(sealed, TypeApplicationData, payload)
					r, _, _ := NextWithID(raw, n)
					if _, _, err := server.Open(opened, r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(name+"/op=build", func(b *testing.B) {
			client, _ := newSessions(b, s.id)
			b.ReportAllocs()
			for b.Loop() {
				client.ReleaseCiphers()
				if _, err := client.buildCiphers(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
