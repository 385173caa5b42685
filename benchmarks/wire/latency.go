// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

// whatBeside is -what of a client whose sessions are in flight while another client, a probe of
// -what latency, measures its latencies.
const whatBeside = "beside"

// measureLatency measures the latencies of one client's echoes, beside n sessions that have one
// datagram in flight each and beside sessions whose handlers compute.
func measureLatency(server *process, name, addr string, n int) ([]figure, error) {
	client, err := startClient(name, addr, 1)
	if err != nil {
		return nil, err
	}
	defer client.end()
	beside, err := startReadyClient("-role", "client", "-servers", name, "-suite", *suite, "-what", whatBeside,
		"-address", addr, "-sessions", strconv.Itoa(n), "-slow", *slow, "-seconds", fmt.Sprint(*seconds))
	if err != nil {
		return nil, err
	}
	defer beside.end()
	var before, after usage
	var probed, done result
	err = errors.Join(server.request(requestUsage, &before), client.send(requestStart), beside.request(requestStart, &done),
		client.request(requestStop, &probed), server.request(requestUsage, &after))
	cpu := after.CPU - before.CPU - (after.Computed - before.Computed)
	return append(latencyFigures(probed),
		figure{"µs of CPU each", float64(cpu) / float64(after.Received-before.Received) / 1000},
		figure{"others' echoes each second", float64(done.Count) / done.Seconds}), err
}

func latencyFigures(r result) []figure {
	return []figure{{"median µs", r.P50}, {"p99 µs", r.P99}, {"p99.9 µs", r.P999}, {"max µs", r.Max}, {"samples", float64(r.Count)}}
}

// runProbe measures latencies from each request to start to the next request.
func runProbe(server string) {
	s := connect(server)
	reply(result{})
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		done, latencies := make(chan struct{}), make(chan []time.Duration)
		go func() { latencies <- probe(s, done) }()
		in.Scan()
		close(done)
		reply(percentiles(<-latencies))
	}
}

// runBeside has n sessions echo and further sessions make handlers compute. The result is that of
// the n sessions.
func runBeside(server string, n int, duration time.Duration) {
	slowClients, err := strconv.Atoi(*slow)
	check(err)
	echoing, computing := connectAll(server, n), connectAll(server, slowClients)
	awaitRequest()
	done := make(chan struct{})
	time.AfterFunc(duration, func() { close(done) })
	var wg sync.WaitGroup
	wg.Go(func() { sendSlow(computing, done) })
	r := exchangeDatagrams(echoing, duration)
	<-done
	wg.Wait()
	r.Seconds = duration.Seconds()
	reply(r)
}
