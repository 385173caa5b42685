// SPDX-License-Identifier: MIT

package handshake

import "sync/atomic"

// maxAmplification is how many bytes may be sent for each byte received until the client
// has validated its address. It is what RFC 9000 section 8.1 allows a server of QUIC.
// Otherwise anybody could make the server send more to a victim than it sends itself.
const maxAmplification = 3

// amplification limits what is sent to an address that is not validated. The handshake's
// lock guards received and sent.
type amplification struct {
	validated atomic.Bool // the client has shown that it receives what is sent to it
	received  int         // bytes
	sent      int         // bytes
}

// allow reports whether a datagram may be sent, and counts it.
func (a *amplification) allow(size int) bool {
	if !a.validated.Load() && a.sent+size > maxAmplification*a.received {
		return false
	}
	a.sent += size
	return true
}
