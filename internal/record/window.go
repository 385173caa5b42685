// SPDX-License-Identifier: MIT

package record

// minWindowSize is the smallest size of a Window, in sequence numbers. RFC 6347 section
// 4.1.2.6 requires 32 and recommends 64.
const minWindowSize = 64

// Window is a replay window (RFC 6347 section 4.1.2.6). It records which of the most
// recent sequence numbers have been received: one bit for each number, in a ring of words
// as in RFC 6479. The ring has one word more than the window, so that the window advances
// by clearing whole words. The zero Window is empty and has the smallest size.
type Window struct {
	next  uint64                       // one more than the highest number marked; 0 if there is no such number
	small [minWindowSize/64 + 1]uint64 // the ring of the smallest size
	large *[]uint64                    // the ring of any other size, else nil
}

// NewWindow returns an empty window of at least size sequence numbers, and at least 64.
func NewWindow(size int) Window {
	n := max(size+63, minWindowSize) / 64
	var w Window
	if n+1 > len(w.small) {
		words := make([]uint64, n+1)
		w.large = &words
	}
	return w
}

// size returns the size of the window in sequence numbers.
func (w *Window) size() uint64 { return uint64(len(w.ring())-1) * 64 }

func (w *Window) ring() []uint64 {
	if w.large != nil {
		return *w.large
	}
	return w.small[:]
}

// Check reports whether a record with the sequence number may be accepted: the number
// is not marked and not older than the window.
func (w *Window) Check(sequence uint64) bool {
	if sequence >= w.next {
		return true
	}
	if w.next-sequence > w.size() {
		return false
	}
	ring := w.ring()
	return ring[sequence/64%uint64(len(ring))]&(1<<(sequence%64)) == 0
}

// Mark records a sequence number as received. Check must have reported true for it, and
// the MAC of its record must have been verified: a forged record must not advance the
// window.
func (w *Window) Mark(sequence uint64) {
	ring := w.ring()
	n := uint64(len(ring))
	if sequence >= w.next {
		// The words into which the window advances hold old bits.
		word := sequence / 64
		if w.next == 0 {
			clear(ring)
		} else if last := (w.next - 1) / 64; word-last >= n {
			clear(ring)
		} else {
			for last++; last <= word; last++ {
				ring[last%n] = 0
			}
		}
		w.next = sequence + 1
	}
	ring[sequence/64%n] |= 1 << (sequence % 64)
}
