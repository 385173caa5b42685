// SPDX-License-Identifier: MIT

package main

import (
	"log"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"golang.org/x/sys/unix"
)

const (
	// slowMark is the first byte of a datagram whose handler computes for slowFor of CPU time. Other
	// datagrams begin with another byte.
	slowMark = 0xff
	slowFor  = time.Millisecond
	// slowEvery is the interval of these datagrams in a session.
	slowEvery = 20 * time.Millisecond
)

// computed counts the nanoseconds that handlers have computed.
var computed atomic.Int64

// computeFor has the handler of a datagram compute, if its client wants that.
func computeFor(datagram []byte) {
	if len(datagram) == 0 || datagram[0] != slowMark {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := threadTime()
	for threadTime()-begin < slowFor {
	}
	computed.Add(int64(threadTime() - begin))
}

// threadTime returns the CPU time of this thread.
func threadTime() time.Duration {
	var t unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t))
	return time.Duration(t.Nano())
}

// sendSlow sends datagrams whose handlers compute in all sessions, until done is closed. The
// echoes stay in the sockets.
func sendSlow(clients []*session, done <-chan struct{}) {
	if len(clients) == 0 {
		return
	}
	ticker := time.NewTicker(slowEvery / time.Duration(len(clients)))
	defer ticker.Stop()
	text := make([]byte, payload)
	text[0] = slowMark
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		s := clients[i%len(clients)]
		sealed, err := s.records.Seal(nil, record.TypeApplicationData, text)
		check(err)
		if _, err := s.socket.Write(sealed); err != nil {
			log.Fatal(err)
		}
	}
}
