// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// measurement has the defaults for a value of -what.
type measurement struct {
	sessions string
	servers  []string
}

var (
	echoServers      = []string{"floor", "floor-c", "dsm-serve", "dsm-accept", "pion", "pion-batch"}
	handshakeServers = []string{"dsm-serve", "pion-parallel"}

	measurements = map[string]measurement{
		"echo":      {"1,16,256,4096", echoServers},
		"saturated": {"256,4096", echoServers},
		"receive":   {"256", echoServers},
		"latency":   {"0,256", []string{"dsm-serve", "dsm-accept"}},
		"handshake": {"16", handshakeServers},
		"idle":      {"20000", handshakeServers},
		"resume":    {"16", []string{"dsm-full", "dsm-resumed"}},
		"half-open": {"500", handshakeServers},
		"hellos":    {"1000000", []string{"floor", "floor-answers", "dsm-serve"}},
		"stalled":   {"100", []string{"dsm-undisturbed", "dsm-stalled"}},
		"attacked":  {"1", []string{"dsm-undisturbed", "dsm-attacked"}},
		"sockets":   {"256", []string{"dsm-serve", "dsm-sockets"}},
		"save":      {"1000000", []string{"dsm", "dsm-resumption"}},
		"million":   {"1000,1000000", []string{"dsm-serve"}},
		"journal":   {"10000", []string{"dsm-serve", "dsm-journal"}},
		"watched":   {"256", []string{"dsm-serve", "dsm-watched"}},
	}
)

// measure prints a table for each number of sessions.
func measure() error {
	defer removeFloorC()
	m, ok := measurements[*what]
	if !ok {
		return fmt.Errorf("-what %s: want %s", *what, strings.Join(slices.Sorted(maps.Keys(measurements)), ", "))
	}
	if *sessions != "" {
		m.sessions = *sessions
	}
	if *serverNames != "" {
		m.servers = strings.Split(*serverNames, ",")
	} else {
		var err error
		if m.servers, err = withAdapters(m.servers); err != nil {
			return err
		}
	}
	var err error
	if m.servers, err = withBase(m.servers); err != nil {
		return err
	}
	least, slowNumbers := 1, []int{0}
	if *what == "latency" {
		least = 0
		if slowNumbers, err = numbers("slow", *slow, 0); err != nil {
			return err
		}
	}
	sessionNumbers, err := numbers("sessions", m.sessions, least)
	if err != nil {
		return err
	}
	for _, n := range sessionNumbers {
		for _, slowClients := range slowNumbers {
			if n == 0 && slowClients > 0 {
				continue
			}
			*slow = strconv.Itoa(slowClients)
			if err := measureTable(m.servers, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// numbers returns the numbers of a flag.
func numbers(flag, list string, least int) (all []int, err error) {
	for number := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(number)
		if err != nil || n < least {
			return nil, fmt.Errorf("-%s %q: want comma-separated numbers, at least %d", flag, list, least)
		}
		all = append(all, n)
	}
	return all, nil
}

// measureTable measures servers with n sessions, in all rounds, and prints the table.
func measureTable(servers []string, n int) error {
	measureRound := measureServer
	stay := map[string]running{}
	if staysRunning() {
		measureRound = func(name string, n int) ([]figure, error) { return measureRunning(stay, name, n) }
	}
	t := table{sessions: n, servers: servers, values: map[string]map[string][]float64{}}
	for range *rounds {
		if *what == "idle" {
			if err := measureTogether(&t, n); err != nil {
				return err
			}
			continue
		}
		for _, server := range servers {
			figures, err := measureRound(server, n)
			if err != nil {
				return fmt.Errorf("%s with %d sessions: %w", server, n, err)
			}
			t.add(server, figures)
		}
	}
	for _, r := range stay {
		r.end()
	}
	t.print()
	return nil
}

// measureTogether measures all servers at the same time, in one round: it is memory that is
// measured, and what takes time is to wait.
func measureTogether(t *table, n int) error {
	figures, errs := make([][]figure, len(t.servers)), make([]error, len(t.servers))
	var wg sync.WaitGroup
	for i, server := range t.servers {
		wg.Go(func() { figures[i], errs[i] = measureServer(server, n) })
	}
	wg.Wait()
	for i, server := range t.servers {
		if errs[i] != nil {
			return fmt.Errorf("%s with %d sessions: %w", server, n, errs[i])
		}
		t.add(server, figures[i])
	}
	return nil
}

// figure is a measured value. The unit is the heading of its column.
type figure struct {
	unit  string
	value float64
}

// measureServer measures one server once, in a process of its own.
func measureServer(name string, n int) ([]figure, error) {
	if *what == "save" {
		return measureSave(name, n)
	}
	if *what == "million" {
		return measureMillion(name, n)
	}
	server, addr, err := startServer(name, n)
	if err != nil {
		return nil, err
	}
	defer server.end()
	name = strings.TrimPrefix(name, basePrefix)
	switch *what {
	case "idle":
		return measureIdle(server, name, addr, n)
	case "latency":
		return measureLatency(server, name, addr, n)
	case "half-open":
		return measureHalfOpen(server, name, addr, n)
	case "hellos":
		return measureHellos(server, name, addr, n)
	}
	return measureWork(server, name, addr, n)
}

// measureIdle measures the memory of n idle sessions.
func measureIdle(server *process, name, addr string, n int) ([]figure, error) {
	const handshakesFor = 5 * time.Second
	if err := warmUp(addr, handshakesFor); err != nil {
		return nil, err
	}
	var before, after usage
	// Pion's client does not always send its close_notify. The few sessions that are left after a
	// while do not matter.
	const maxLeft = 100
	for end := time.Now().Add(*settle); ; time.Sleep(100 * time.Millisecond) {
		if err := server.request(requestCollect, &before); err != nil {
			return nil, err
		}
		if before.Sessions == 0 || time.Now().After(end) {
			break
		}
	}
	if before.Sessions > maxLeft {
		return nil, fmt.Errorf("%d sessions have not ended", before.Sessions)
	}
	client, err := startClient(name, addr, n)
	if err != nil {
		return nil, err
	}
	defer client.end()
	time.Sleep(*settle)
	if err := server.request(requestCollect, &after); err != nil {
		return nil, err
	}
	if got := after.Sessions - before.Sessions; got != int64(n) {
		return nil, fmt.Errorf("%d sessions were added, want %d", got, n)
	}
	return []figure{
		{"bytes of RSS a session", float64(after.RSS-before.RSS) / float64(n)},
		{"bytes of heap a session", float64(after.Heap-before.Heap) / float64(n)},
		{"bytes of stack a session", float64(after.Stack-before.Stack) / float64(n)},
		{"goroutines a session", float64(after.Goroutines-before.Goroutines) / float64(n)},
	}, nil
}

// warmUp makes handshakes for some time and ends their sessions. The runtime and pools keep
// memory after them, which must not count as memory of idle sessions.
func warmUp(addr string, duration time.Duration) error {
	client, err := startReadyClient("-role", "client", "-suite", *suite, "-what", "handshake",
		"-address", addr, "-sessions", "16", "-seconds", fmt.Sprint(duration.Seconds()))
	if err != nil {
		return err
	}
	defer client.end()
	var done result
	return client.request(requestStart, &done)
}

// measureWork measures a server while its client works.
func measureWork(server *process, name, addr string, n int) ([]figure, error) {
	client, err := startClient(name, addr, n)
	if err != nil {
		return nil, err
	}
	defer client.end()
	var before, after usage
	var done result
	request := requestUsage
	if *what == "attacked" {
		request = requestCollect
	}
	if err := server.request(request, &before); err != nil {
		return nil, err
	}
	if err := client.request(requestStart, &done); err != nil {
		return nil, err
	}
	if err := server.request(request, &after); err != nil {
		return nil, err
	}
	return figuresOf(done, before, after), nil
}

// figuresOf returns the figures of a measurement from the client's result and from the
// server's usage before and after it.
func figuresOf(done result, before, after usage) []figure {
	latency := []figure{{"median µs", done.P50}, {"p99 µs", done.P99}}
	switch *what {
	case "stalled":
		return latency
	case "attacked":
		return append(latency, figure{"KB of heap more", float64(after.Heap-before.Heap) / 1024})
	}
	count := float64(done.Count)
	if *what == "receive" {
		count = float64(after.Received - before.Received) // the kernel drops some of those sent
	}
	figures := []figure{
		{"µs of CPU each", float64(after.CPU-before.CPU) / count / 1000},
		{"each second", count / done.Seconds},
		{"allocations each", float64(after.Mallocs-before.Mallocs) / count},
	}
	if *what == "resume" {
		figures = append(figures, figure{"datagrams each", float64(done.Datagrams) / count})
	}
	if *what == "journal" {
		figures = append(figures, figure{"journal, bytes each second", float64(after.Journal-before.Journal) / done.Seconds})
	}
	return figures
}
