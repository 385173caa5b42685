// SPDX-License-Identifier: MIT

package page

import (
	"context"
	"runtime"
	"time"
)

// walk calls visit with each slot that is taken, least recently used first, until visit returns
// false, it has worked for limit, or for waitFactor times as long with its waiting, or ctx has
// ended. complete is false after the last three. The source takes its locks for a few sessions at a
// time, and walk lets others run in between, so that a walk over a million sessions does not hold up
// the data path. worked is without the time for which others ran.
func walk(ctx context.Context, source Source, limit time.Duration, visit func(slot int, s Session) bool) (complete bool, worked time.Duration) {
	begin := time.Now()
	piece, n := begin, 0
	for slot, s := range source.Slots() {
		if n++; n%walkPiece == 0 {
			worked += time.Since(piece)
			runtime.Gosched()
			piece = time.Now()
			if ctx.Err() != nil || worked > limit || piece.Sub(begin) > waitFactor*limit {
				return false, worked
			}
		}
		if !visit(slot, s) {
			break
		}
	}
	return true, worked + time.Since(piece)
}
