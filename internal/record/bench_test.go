// SPDX-License-Identifier: MIT

package record

import (
	"fmt"
	"testing"
)

// BenchmarkRecord measures, for each suite, sealing and opening a record of 100 bytes,
// and building the ciphers of a session.
func BenchmarkRecord(b *testing.B) {
	for _, s := range suites {
		client, server := newSessions(b, s.id)
		payload := make([]byte, 100)
		sealed, opened := make([]byte, 0, 256), make([]byte, 0, 256)
		name := fmt.Sprintf("suite=%#04x", uint16(s.id))
		b.Run(name+"/op=seal-open", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				raw, _ := client.Seal(sealed, TypeApplicationData, payload)
				r, _, _ := Next(raw)
				if _, err := server.Open(opened, r); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/op=build", func(b *testing.B) {
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
