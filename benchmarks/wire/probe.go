// SPDX-License-Identifier: MIT

package main

import (
	"encoding/binary"
	"errors"
	"log"
	"os"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"golang.org/x/sys/unix"
)

const (
	// probePause is the time between an echo and the next datagram of a probe.
	probePause = 200 * time.Microsecond
	// probePatience is the time after which an echo counts as lost.
	probePatience = time.Second
	// maxSend is the longest time to send a datagram. If it takes longer the client has lost its
	// core, and the latency does not count.
	maxSend = 200 * time.Microsecond
)

// probe exchanges one datagram at a time in a session, at least one and until done is closed, and
// returns the latency of each. A lost echo counts as one after probePatience.
//
// A latency ends when the kernel puts the echo into the client's socket, by the kernel's time
// stamp. So the time until the client runs, on a core where other clients run too, is not in it.
func probe(s *session, done <-chan struct{}) (latencies []time.Duration) {
	stampArrivals(s)
	out, in, oob, text := make([]byte, 0, 256), make([]byte, 2048), make([]byte, 128), make([]byte, payload)
	for isOpen := true; isOpen || len(latencies) == 0; {
		select {
		case <-done:
			isOpen = false
		case <-time.After(probePause):
		}
		sealed, err := s.records.Seal(out, record.TypeApplicationData, text)
		check(err)
		check(s.socket.SetReadDeadline(time.Now().Add(probePatience)))
		begin := time.Now()
		_, err = s.socket.Write(sealed)
		check(err)
		sent := time.Now()
		n, stamps, _, _, err := s.socket.ReadMsgUDPAddrPort(in, oob)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			latencies = append(latencies, probePatience)
			discard(s)
			continue
		case err != nil:
			log.Fatal(err)
		case n < payload:
			log.Fatalf("the echo has %d bytes", n)
		case sent.Sub(begin) > maxSend:
			continue
		}
		latencies = append(latencies, arrival(oob[:stamps]).Sub(begin.Round(0)))
	}
	return latencies
}

// discard drops the echoes that come late.
func discard(s *session) {
	check(s.socket.SetReadDeadline(time.Now().Add(10 * time.Millisecond)))
	for in := make([]byte, 2048); ; {
		if _, err := s.socket.Read(in); err != nil {
			return
		}
	}
}

// stampArrivals has the kernel stamp what comes to the socket of a session with the time.
func stampArrivals(s *session) {
	raw, err := s.socket.SyscallConn()
	check(err)
	check(raw.Control(func(fd uintptr) {
		check(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
	}))
}

// arrival returns the time stamp among the control messages of a datagram.
func arrival(oob []byte) time.Time {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		check(err)
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS {
			return time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:])))
		}
		oob = rest
	}
	log.Fatal("the datagram has no time stamp")
	return time.Time{}
}
