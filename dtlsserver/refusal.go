// SPDX-License-Identifier: MIT

package dtlsserver

// refusal says why a handshake was not admitted.
type refusal uint8

const (
	admitted     refusal = iota
	noRoom               // too many handshakes, or no free slot
	shareTaken           // too many handshakes of the same network
	addressTaken         // too many handshakes of the same address
	sessionsFull         // Config.WhenFull refuses newcomers
	stopped              // no handshake starts any more
	notNew               // the ClientHello belongs to a handshake in progress, or to the session
	notStarted           // start returned no ticket
)

// countRefusal counts a first ClientHello that started no handshake.
func (c *counters) countRefusal(cause refusal) {
	switch cause {
	case noRoom:
		c.noRoom.Add(1)
	case shareTaken:
		c.sourceShare.Add(1)
	case addressTaken:
		c.addressShare.Add(1)
	case sessionsFull:
		c.sessionsFull.Add(1)
	}
}
