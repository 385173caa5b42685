// SPDX-License-Identifier: MIT

package record

// minWindow is the least number of records that a Window remembers.
const minWindow = 64

// Window remembers which sequence numbers were seen (RFC 6347 section 4.1.2.6). It
// is a bit for each of the last size numbers, kept in a ring of words (as RFC 6479
// does), with one word more than size needs so that a whole one can be cleared.
type Window struct {
	next uint64 // one more than the highest number seen; 0: none was
	few  [minWindow/64 + 1]uint64
	many *[]uint64 // instead of few, for windows larger than that
}

// NewWindow makes a window of at least size numbers, and of at least 64.
func NewWindow(size int) Window {
	n := max(size+63, minWindow) / 64
	var w Window
	if n+1 > len(w.few) {
		words := make([]uint64, n+1)
		w.many = &words
	}
	return w
}

// size is how many numbers the window has.
func (w *Window) size() uint64 { return uint64(len(w.ring())-1) * 64 }

func (w *Window) ring() []uint64 {
	if w.many != nil {
		return *w.many
	}
	return w.few[:]
}

// Fresh is whether a number is neither older than the window nor seen.
func (w *Window) Fresh(sequence uint64) bool {
	if sequence >= w.next {
		return true
	}
	if w.next-sequence > w.size() {
		return false
	}
	ring := w.ring()
	return ring[sequence/64%uint64(len(ring))]&(1<<(sequence%64)) == 0
}

// See enters a number that is Fresh. Only those of records whose MAC held may be.
func (w *Window) See(sequence uint64) {
	ring := w.ring()
	n := uint64(len(ring))
	if sequence >= w.next {
		// Words that the window moves into are from its last turn.
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
