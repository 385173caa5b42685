// SPDX-License-Identifier: MIT

package admission

import (
	"fmt"
	"io"
)

// writeSection writes the text for BENCHMARKS.md.
func writeSection(w io.Writer, ordinary, floods, networks, herds []Result) {
	fmt.Fprint(w, `## Admission

    make admission

Virtual time (testing/synctest), a network in memory, clients of pion v2 whose transport repeats their flights as OpenSSL (1, 2, 4 … 60 s), Mbed TLS (the same,
and gives up after 123 s) and devices by RFC 7925 (9, 18 … 60 s) do. Suite TLS_PSK_WITH_AES_128_CCM_8. A client is *in* when its handshake is done and the server has its
session. *Deceived*: its handshake is done, and the server has no session. *Begun anew*: handshakes that a fatal alert has ended, after which the client starts the next
one at once, without its session. Shares are of the clients that are in within 10 / 30 / 60 s of their first ClientHello.

- `+"`ours`"+`: `+"`pionv2.NewListener`"+`, 1000 half-open handshakes.
- `+"`ours-v4`"+`: `+"`pionv4.NewListener`"+`, 1000 half-open handshakes. It keeps nothing for a client that has not returned its cookie, so a place is taken only by the second
  ClientHello. Returning clients have a cookie as well, and take one round trip more.
- `+"`pion`"+`: `+"`dtls.NewListener`"+`, one goroutine that calls Accept, over a listener that does what pion's UDP listener does: a connection for each address whose
  first datagram is a handshake record, 128 of them waiting for Accept. It is measured in fewer cells: a stranger holds up Accept for 30 s, whatever else the cell says.
- *ideal*: a server with 1000 places that knows each client's round trip and how many hellos will come. It keeps a place exactly as long as a cookie takes (two round
  trips if strangers return cookies, and for a herd), and gives each first ClientHello an equal chance. It is computed, for a network without loss. A
  server can be better that treats networks differently while one network floods, that prefers repeated hellos while strangers do not repeat theirs, or that needs no
  place until the cookie is returned, as ours-v4.

![Share of the clients that are in within 30 s, over the strangers' rate](benchmarks/admission.svg)

`)
	fmt.Fprint(w, "Floods. After 20 s of flood ten clients come each second, for 30 s, new and returning ones in turn. MB: heap and stacks at the height of it.\n\n")
	writeFloods(w, floods)
	fmt.Fprint(w, "Other round trips, losses and timers.\n\n")
	writeFloods(w, networks)
	fmt.Fprint(w, "Herds: all clients send their first ClientHello at the same moment.\n\n")
	writeHerds(w, herds)
	fmt.Fprint(w, "The default configuration; the last rows are with 60 strangers a second, `Sessions: 100`.\n\n")
	var quiet, flooded []Result
	for _, r := range ordinary {
		if r.Strangers > 0 {
			flooded = append(flooded, r)
		} else {
			quiet = append(quiet, r)
		}
	}
	writeHerds(w, quiet)
	writeFloods(w, flooded)
}
