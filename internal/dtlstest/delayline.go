// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"
	"time"
)

// maxUnderWay bounds the datagrams that are under way in one direction of a Relay. Further
// ones are lost, as in a router whose queue is full.
const maxUnderWay = 1024

// delayLine sends datagrams some time after it has got them, in the same order. With a
// delay of zero it sends at once.
type delayLine struct {
	delay    time.Duration
	send     func(datagram []byte)
	underWay chan delayed
}

// delayed is a datagram, and the time at which it is sent.
type delayed struct {
	at       time.Time
	datagram []byte
}

func newDelayLine(delay time.Duration, send func(datagram []byte)) *delayLine {
	return &delayLine{delay, send, make(chan delayed, maxUnderWay)}
}

// pass does not keep the datagram. One goroutine calls it.
func (l *delayLine) pass(datagram []byte) {
	if l.delay == 0 {
		l.send(datagram)
		return
	}
	select {
	case l.underWay <- delayed{time.Now().Add(l.delay), bytes.Clone(datagram)}:
	default:
	}
}

// run sends the delayed datagrams until closed is closed. What is under way then is lost.
func (l *delayLine) run(closed <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var next delayed
		select {
		case next = <-l.underWay:
		case <-closed:
			return
		}
		timer.Reset(time.Until(next.at))
		select {
		case <-timer.C:
			l.send(next.datagram)
		case <-closed:
			return
		}
	}
}
