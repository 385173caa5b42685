// SPDX-License-Identifier: MIT

package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// million measures a server with n restored sessions, of which one in a hundred talks, and the
// latencies of one client while the server works.
type million struct {
	n                           int
	server                      *process
	address                     string
	probe, neighbour            *process // one client of the server, and one of its neighbour
	handshakes, staying, talker *process
	figures                     []figure
	err                         error // the first one; no request is made after it
}

// measureMillion measures a server, in a process of its own.
func measureMillion(name string, n int) ([]figure, error) {
	server, err := startServerProcess(name, n)
	if err != nil {
		return nil, err
	}
	m := &million{n: n, server: server}
	defer server.end()
	var r restored
	if err := server.readReply(&r); err != nil {
		return nil, err
	}
	idle := m.usage(requestCollect)
	m.addMemory("idle", r.Empty, idle)

	m.address = r.Address
	m.startProbe()
	m.neighbour = m.start("latency", r.Neighbour, 1)
	m.handshakes = m.start(whatLeave, r.Address, clientsAtOnce)
	m.staying = m.start(whatStay, r.Address, clientsAtOnce)
	m.talker = m.start(whatTalk, r.Address, n)
	defer func() {
		for _, client := range []*process{m.probe, m.neighbour, m.handshakes, m.staying, m.talker} {
			if client != nil {
				client.end()
			}
		}
	}()
	keys, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	m.request(m.talker, string(keys), new(result))

	m.operate(operationNone, "nobody talks")
	m.addWork("handshake", m.handshakes)
	m.talk(r.Empty)
	m.operate(operationNone, "1 % talk")
	for _, operation := range []string{operationGC, operationWalk} {
		m.operate(operation, operation)
	}
	m.request(m.talker, requestStop, new(result))
	if *settle > 0 {
		m.release(r.Empty)
	}
	for added := int64(0); added < roomForNewcomers && m.err == nil; {
		var done result
		m.request(m.staying, requestStart, &done)
		added += done.Count
	}
	m.addWork("eviction", m.staying)
	m.probe, m.neighbour = m.neighbour, m.probe
	for _, operation := range []string{operationSave, operationRestore, operationClose} {
		m.operate(operation, operation)
	}
	return m.figures, m.err
}

// clientsAtOnce is the number of clients that make handshakes.
const clientsAtOnce = 16

// start starts a client.
func (m *million) start(what, address string, n int) *process {
	if m.err != nil {
		return nil
	}
	client, err := startReadyClient("-role", "client", "-suite", *suite, "-what", what, "-address", address,
		"-sessions", strconv.Itoa(n), "-seconds", fmt.Sprint(*seconds))
	m.err = err
	return client
}

func (m *million) request(p *process, line string, v any) {
	if m.err == nil {
		m.err = p.request(line, v)
	}
}

func (m *million) send(p *process, line string) {
	if m.err == nil {
		m.err = p.send(line)
	}
}

func (m *million) usage(request string) (u usage) {
	m.request(m.server, request, &u)
	return u
}

func (m *million) add(about, unit string, value float64) {
	m.figures = append(m.figures, figure{about + ": " + unit, value})
}

func (m *million) addMemory(about string, empty, u usage) {
	m.add(about, "bytes of RSS a session", float64(u.RSS-empty.RSS)/float64(m.n))
	m.add(about, "bytes of heap a session", float64(u.Heap-empty.Heap)/float64(m.n))
}

// addGC adds the figures of the garbage collector between two requests.
func (m *million) addGC(about string, before, after usage) {
	m.add(about, "collections", float64(after.Collections-before.Collections))
	m.add(about, "% of CPU for collections", 100*float64(after.CollectorCPU-before.CollectorCPU)/float64(after.CPU-before.CPU))
	m.addPauses(about, after)
}

// addPauses adds the pauses since the request before that for u.
func (m *million) addPauses(about string, u usage) {
	m.add(about, "median pause µs", u.PauseMedian)
	m.add(about, "max pause µs", u.PauseMax)
}

// addLatencies adds the latencies of the probe while work is done.
func (m *million) addLatencies(about string, work func()) {
	var r result
	m.send(m.probe, requestStart)
	work()
	m.request(m.probe, requestStop, &r)
	m.add(about, "echo, median µs", r.P50)
	m.add(about, "echo, p99 µs", r.P99)
	m.add(about, "echo, max µs", r.Max)
}

// addWork measures the handshakes of a client, and then latencies during further ones.
func (m *million) addWork(about string, client *process) {
	var done result
	before := m.usage(requestUsage)
	m.request(client, requestStart, &done)
	after := m.usage(requestUsage)
	m.add(about, "µs of CPU each", float64(after.CPU-before.CPU)/float64(done.Count)/1000)
	m.add(about, "each second", float64(done.Count)/done.Seconds)
	m.addGC(about, before, after)
	m.startProbe() // the session of the one before may have been evicted
	m.addLatencies(about, func() { m.request(client, requestStart, &done) })
}

// startProbe starts the client of the server whose latencies are measured, in place of the one
// before.
func (m *million) startProbe() {
	if m.probe != nil {
		m.probe.end()
	}
	m.probe = m.start("latency", m.address, 1)
}

// talk has one in a hundred talk from now on.
func (m *million) talk(empty usage) {
	const about = "1 % talk"
	m.send(m.talker, requestStart)
	time.Sleep(2 * talkEvery) // each has talked
	before := m.usage(requestUsage)
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	after := m.usage(requestUsage)
	m.add(about, "µs of CPU each", float64(after.CPU-before.CPU)/float64(after.Received-before.Received)/1000)
	m.add(about, "each second", float64(after.Received-before.Received) / *seconds)
	m.addGC(about, before, after)
	m.addMemory(about, empty, m.usage(requestCollect))
	time.Sleep(talkEvery) // what came during the collection is answered
}

// operate has the server do an operation.
func (m *million) operate(operation, about string) {
	var done operated
	m.usage(requestUsage) // the pauses before this one do not count
	m.addLatencies(about, func() { m.request(m.server, operation, &done) })
	if operation == operationNone {
		return
	}
	m.add(about, "ms", done.Seconds*1000)
	m.add(about, "ms of CPU", float64(done.CPU)/1e6)
	if operation == operationGC {
		m.addPauses(about, m.usage(requestUsage))
	}
}

// release has all sessions talk once, and waits until the sweeper has released their ciphers.
func (m *million) release(empty usage) {
	var all result
	m.request(m.talker, requestAll, &all)
	if m.err == nil && all.Count < int64(m.n)*9/10 {
		m.err = fmt.Errorf("%d sessions have sent a datagram each, and %d echoes have come", m.n, all.Count)
	}
	m.addMemory("all have talked", empty, m.usage(requestCollect))
	m.addLatencies("sweeper releases all", func() { time.Sleep(*settle) })
	m.addMemory("sweeper releases all", empty, m.usage(requestCollect))
}
