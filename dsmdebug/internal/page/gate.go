// SPDX-License-Identifier: MIT

package page

import (
	"context"
	"errors"
	"time"
)

// errBusy says that too many requests want a walk.
var errBusy = errors.New("too many searches at once")

// gate lets one walk at a time through, and for at most a part of the time of a core.
type gate struct {
	places chan struct{} // those of the requests that walk or wait
	turn   chan struct{} // has an element while no request walks

	next time.Time // when the next walk may begin; whoever has the turn may touch it
}

func newGate() *gate {
	g := &gate{places: make(chan struct{}, listQueue), turn: make(chan struct{}, 1)}
	g.turn <- struct{}{}
	return g
}

// do calls walk when its turn has come. walk returns for how long it has worked. The error is errBusy if others wait already or the turn
// does not come within listWait, and that of ctx.
func (g *gate) do(ctx context.Context, walk func() time.Duration) error {
	select {
	case g.places <- struct{}{}:
		defer func() { <-g.places }()
	default:
		return errBusy
	}
	limit := time.NewTimer(listWait)
	defer limit.Stop()
	select {
	case <-g.turn:
		defer func() { g.turn <- struct{}{} }()
	case <-limit.C:
		return errBusy
	case <-ctx.Done():
		return ctx.Err()
	}
	rest := time.NewTimer(time.Until(g.next))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-limit.C:
		return errBusy
	case <-ctx.Done():
		return ctx.Err()
	}
	worked := walk()
	g.next = time.Now().Add(listRest * worked)
	return nil
}
