// SPDX-License-Identifier: MIT

package dtlstest

import (
	"container/heap"
	"time"
)

// arrival is a datagram that is under way.
type arrival struct {
	Datagram
	direction Direction
	at        time.Time
	number    uint64 // the order of those that arrive at the same time
}

// arrivals is a heap, the next arrival first.
type arrivals []arrival

func (a arrivals) Len() int { return len(a) }

func (a arrivals) Less(i, j int) bool {
	if !a[i].at.Equal(a[j].at) {
		return a[i].at.Before(a[j].at)
	}
	return a[i].number < a[j].number
}

func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)   { *a = append(*a, x.(arrival)) }

func (a *arrivals) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	(*a)[last] = arrival{}
	*a = (*a)[:last]
	return x
}

// delayLocked has a datagram arrive after a delay.
func (n *Network) delayLocked(direction Direction, d Datagram, delay time.Duration) {
	if n.closed {
		return
	}
	number := n.delayed
	n.delayed++
	heap.Push(&n.underWay, arrival{d, direction, time.Now().Add(delay), number})
	if n.underWay[0].number == number && !n.delivering {
		n.armLocked()
	}
}

// armLocked has arrive called when the next datagram arrives.
func (n *Network) armLocked() {
	if len(n.underWay) == 0 {
		return
	}
	wait := max(time.Until(n.underWay[0].at), 0)
	if n.timer == nil {
		n.timer = time.AfterFunc(wait, n.arrive)
	} else {
		n.timer.Reset(wait)
	}
}

// arrive delivers the datagrams whose time has come. One call at a time does so, or
// they would not keep their order.
func (n *Network) arrive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.delivering {
		return // the call that runs arms the timer
	}
	n.delivering = true
	for len(n.underWay) > 0 && !n.underWay[0].at.After(time.Now()) {
		a := heap.Pop(&n.underWay).(arrival)
		n.mu.Unlock()
		n.deliver(a.direction, a.Datagram, nil, false)
		n.mu.Lock()
	}
	n.delivering = false
	n.armLocked()
}
