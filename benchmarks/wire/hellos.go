// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// measureHellos measures a server during a flood of at least n first ClientHellos.
func measureHellos(server *process, name, addr string, n int) ([]figure, error) {
	if strings.HasPrefix(name, "pion") {
		return nil, fmt.Errorf("%s keeps memory without a bound for a flood", name)
	}
	if !strings.HasPrefix(name, "floor") {
		if err := warmUp(addr, 2*time.Second); err != nil {
			return nil, err
		}
		time.Sleep(2 * time.Second) // the sessions have ended
	}
	client, err := startClient(name, addr, n)
	if err != nil {
		return nil, err
	}
	defer client.end()
	var before, during, end, after usage
	if err := server.request(requestCollect, &before); err != nil {
		return nil, err
	}
	dropsBefore, err := kernelDrops(addr)
	if err != nil {
		return nil, err
	}

	var done flooded
	ended := make(chan error, 1)
	go func() { ended <- client.request(requestStart, &done) }()
	for waiting := true; waiting; {
		select {
		case err := <-ended:
			if err != nil {
				return nil, err
			}
			waiting = false
			time.Sleep(500 * time.Millisecond) // the server reads what has arrived
		case <-time.After(100 * time.Millisecond):
		}
		if err := server.request(requestUsage, &end); err != nil {
			return nil, err
		}
		during.Live = max(during.Live, end.Live)
		during.Goroutines = max(during.Goroutines, end.Goroutines)
		during.HalfOpen = max(during.HalfOpen, end.HalfOpen)
	}
	drops, err := kernelDrops(addr)
	if err != nil {
		return nil, err
	}
	drops -= dropsBefore
	if err := server.request(requestCollect, &after); err != nil {
		return nil, err
	}

	const kilo, mega = 1e3, 1e6
	received := float64(done.Sent - drops)
	percent := func(part, of float64) float64 { return 100 * part / max(of, 1) }
	return []figure{
		{"µs of CPU each", float64(end.CPU-before.CPU) / received / kilo},
		{"million hellos", float64(done.Sent) / mega},
		{"each second", float64(done.Sent) / done.Seconds},
		{"% dropped by the kernel", percent(float64(drops), float64(done.Sent))},
		{"% of the others answered", percent(float64(end.Answered-before.Answered), received)},
		{"KB of heap before", float64(before.Heap) / kilo},
		{"at most", float64(during.Live) / kilo},
		{"after", float64(after.Heap) / kilo},
		{"goroutines before", float64(before.Goroutines)},
		{"at most during", float64(during.Goroutines)},
		{"after the flood", float64(after.Goroutines)},
		{"half-open at most", float64(during.HalfOpen)},
		{"honest clients, % in", percent(float64(done.In), float64(done.Clients))},
		{"s until in, median", done.Median},
		{"last", done.Last},
	}, nil
}

// kernelDrops returns how many datagrams the kernel has dropped because the queue of a socket was
// full.
func kernelDrops(addr string) (int64, error) {
	bound, err := netip.ParseAddrPort(addr)
	if err != nil {
		return 0, err
	}
	host := bound.Addr().As4()
	// The address is a number in the machine's byte order, which is little-endian here.
	local := fmt.Sprintf("%02X%02X%02X%02X:%04X", host[3], host[2], host[1], host[0], bound.Port())
	file, err := os.Open("/proc/net/udp")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 2 && fields[1] == local {
			return strconv.ParseInt(fields[len(fields)-1], 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/net/udp has no socket %s", local)
}
