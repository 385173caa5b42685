// SPDX-License-Identifier: MIT

package main

import (
	"log"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
)

// makeHandshakes makes n handshakes at a time, and ends each session with close_notify.
// If resumed is set, each client resumes its previous session.
func makeHandshakes(n int, duration time.Duration, resumed bool) result {
	var count, datagrams atomic.Int64
	begin := time.Now()
	end := begin.Add(duration)
	var wg sync.WaitGroup
	common := dtlsConfig()
	for range n {
		wg.Go(func() {
			config := *common
			if resumed {
				config.SessionStore = new(dtlstest.ClientStore)
			}
			for time.Now().Before(end) {
				socket := countingSocket{dial(nil), &datagrams}
				c, err := dtls.Client(socket, &config)
				if err != nil {
					log.Fatal("handshake: ", err) // loopback loses no datagram
				}
				count.Add(1)
				_ = c.Close()
				_ = socket.Close()
			}
		})
	}
	wg.Wait()
	closeNotifies := count.Load()
	return result{Count: count.Load(), Datagrams: datagrams.Load() - closeNotifies, Seconds: time.Since(begin).Seconds()}
}

// countingSocket counts datagrams in both directions.
type countingSocket struct {
	*net.UDPConn
	datagrams *atomic.Int64
}

func (s countingSocket) Read(p []byte) (int, error) {
	n, err := s.UDPConn.Read(p)
	if err == nil {
		s.datagrams.Add(1)
	}
	return n, err
}

func (s countingSocket) Write(p []byte) (int, error) {
	s.datagrams.Add(1)
	return s.UDPConn.Write(p)
}

// timeHandshakes makes n handshakes one after the other, and measures the latency of
// each.
func timeHandshakes(n int) result {
	var latencies []time.Duration
	config := dtlsConfig()
	for range n {
		socket := dial(nil)
		begin := time.Now()
		c, err := dtls.Client(socket, config)
		check(err)
		latencies = append(latencies, time.Since(begin))
		_ = c.Close()
		_ = socket.Close()
	}
	return percentiles(latencies)
}

// percentiles sorts latencies, of which there is at least one.
func percentiles(latencies []time.Duration) result {
	slices.Sort(latencies)
	at := func(permille int) float64 {
		return float64(latencies[(len(latencies)-1)*permille/1000].Nanoseconds()) / 1000
	}
	return result{Count: int64(len(latencies)), P50: at(500), P99: at(990), P999: at(999), Max: at(1000)}
}
