// SPDX-License-Identifier: MIT

// Command wire measures DTLS servers over loopback: a server on one core, its
// clients on another, and the server's own CPU time for each datagram, handshake or
// idle session. Servers take turns, round by round:
//
//	go run ./wire -what echo -sessions 1,16,256,4096 -rounds 5
//	go run ./wire -what receive -sessions 256
//	go run ./wire -what handshake
//	go run ./wire -what idle -sessions 20000
//	go run ./wire -what resume       # full handshakes beside resumed ones
//	go run ./wire -what stalled      # handshakes beside strangers that stall theirs
//	go run ./wire -what attacked     # echoes beside forged plaintext records
//	go run ./wire -what sockets      # a server of two cores, with one socket and with two
//
// It starts itself again as server and as client. All of it ends by itself.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	what     = flag.String("what", "echo", "echo, receive, handshake, resume, idle, stalled, attacked or sockets")
	sessions = flag.String("sessions", "", "how many, comma-separated")
	rounds   = flag.Int("rounds", 5, "of each server, in turns")
	seconds  = flag.Float64("seconds", 2, "of each measurement")
	only     = flag.String("servers", "", "comma-separated; all that can do it")
	suite    = flag.String("suite", "gcm", "gcm or ccm8; or ecdsa, for handshakes")
	role     = flag.String("role", "", "server or client: not for users")
	settle   = flag.Duration("settle", 100*time.Second, "before idle sessions are measured: dsm drops their ciphers after a minute")
	address  = flag.String("address", "", "of the server, for the client")
)

// cores that the server and the client run on.
const (
	serverCore = 0
	clientCore = 1
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	switch *role {
	case "server":
		if *what != "sockets" {
			onCore(serverCore)
		}
		serve(*only)
	case "client":
		onCore(clientCore)
		load()
	default:
		if err := measure(); err != nil {
			log.Fatal(err)
		}
	}
}

func onCore(core int) {
	runtime.GOMAXPROCS(1)
	var set unix.CPUSet
	set.Set(core % runtime.NumCPU())
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		log.Print("the core cannot be chosen: ", err)
	}
}

// child is this program in a role: a line in, a line out.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func start(args ...string) (*child, error) {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &child{cmd, in, bufio.NewScanner(out)}, cmd.Start()
}

func (c *child) read(v any) error {
	if !c.out.Scan() {
		return errors.Join(io.ErrUnexpectedEOF, c.out.Err())
	}
	return json.Unmarshal(c.out.Bytes(), v)
}

func (c *child) ask(line string, v any) error {
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		return err
	}
	return c.read(v)
}

func (c *child) end() {
	_ = c.in.Close() // it exits
	timer := time.AfterFunc(10*time.Second, func() { _ = c.cmd.Process.Kill() })
	_ = c.cmd.Wait()
	timer.Stop()
}

// usage is what a server says of itself.
type usage struct {
	CPU      int64 // nanoseconds, user and system
	RSS      int64 // bytes, after a forced collection if it was asked for
	Heap     int64 // bytes in use, likewise
	Received int64 // datagrams
	Sessions int64
	Mallocs  int64
	Routines int64
}

// result is what a client has done.
type result struct {
	Done     int64 // echoes, datagrams or handshakes
	Sent     int64 // datagrams that they took, both ways, where that is what is measured
	Seconds  float64
	P50, P99 float64 // microseconds that one took, where that is what is measured
}

func measure() error {
	counts := *sessions
	if counts == "" {
		counts = map[string]string{"echo": "1,16,256,4096", "receive": "256", "handshake": "16", "idle": "20000",
			"resume": "16", "stalled": "100", "attacked": "1", "sockets": "256"}[*what]
	}
	servers := []string{"floor", "dsm-serve", "dsm-accept", "pion", "pion-batch"}
	switch *what {
	case "handshake":
		servers = []string{"dsm-serve", "pion-parallel"}
	case "idle":
		servers = []string{"dsm-serve", "pion-parallel"}
	case "resume":
		servers = []string{"dsm-full", "dsm-resumed"}
	case "stalled":
		servers = []string{"dsm-undisturbed", "dsm-stalled"}
	case "attacked":
		servers = []string{"dsm-undisturbed", "dsm-attacked"}
	case "sockets":
		servers = []string{"dsm-serve", "dsm-sockets"}
	case "echo", "receive":
	default:
		return fmt.Errorf("-what %s: want echo, receive, handshake, resume, idle, stalled, attacked or sockets", *what)
	}
	if *only != "" {
		servers = strings.Split(*only, ",")
	}
	for _, count := range strings.Split(counts, ",") {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 {
			return fmt.Errorf("-sessions %q: want numbers", counts)
		}
		values := map[string]map[string][]float64{}
		var units []string
		for range *rounds {
			for _, server := range servers {
				figures, err := round(server, n)
				if err != nil {
					return fmt.Errorf("%s, %d: %w", server, n, err)
				}
				if values[server] == nil {
					values[server] = map[string][]float64{}
				}
				units = units[:0]
				for _, f := range figures {
					units = append(units, f.unit)
					values[server][f.unit] = append(values[server][f.unit], f.value)
				}
			}
		}
		print(n, servers, units, values)
	}
	return nil
}

type figure struct {
	unit  string
	value float64
}

// round measures one server once.
func round(name string, n int) ([]figure, error) {
	server, err := start("-role", "server", "-servers", name, "-suite", *suite, "-what", *what)
	if err != nil {
		return nil, err
	}
	defer server.end()
	var addr string
	if err := server.read(&addr); err != nil {
		return nil, err
	}
	var empty usage
	if *what == "idle" {
		// A server that has had as many handshakes, and whose sessions are over: what
		// the runtime and its pools keep of them is no session's.
		warm, err := start("-role", "client", "-suite", *suite, "-what", "handshake", "-address", addr, "-sessions", "16", "-seconds", "5")
		if err != nil {
			return nil, err
		}
		defer warm.end()
		var done result
		if err := warm.read(&done); err != nil {
			return nil, err
		}
		if err := warm.ask("go", &done); err != nil {
			return nil, err
		}
		time.Sleep(*settle)
		if err := server.ask("collect", &empty); err != nil {
			return nil, err
		}
		// Pion's client now and then loses its close_notify.
		if empty.Sessions > 100 {
			return nil, fmt.Errorf("%d sessions are not over", empty.Sessions)
		}
	}
	client, err := start("-role", "client", "-servers", name, "-suite", *suite, "-what", *what,
		"-address", addr, "-sessions", strconv.Itoa(n), "-seconds", fmt.Sprint(*seconds))
	if err != nil {
		return nil, err
	}
	defer client.end()
	var ready result
	if err := client.read(&ready); err != nil {
		return nil, err
	}
	if *what == "idle" {
		time.Sleep(*settle)
		var full usage
		if err := server.ask("collect", &full); err != nil {
			return nil, err
		}
		if full.Sessions-empty.Sessions != int64(n) {
			return nil, fmt.Errorf("%d sessions more", full.Sessions-empty.Sessions)
		}
		return []figure{
			{"bytes of RSS a session", float64(full.RSS-empty.RSS) / float64(n)},
			{"bytes of heap a session", float64(full.Heap-empty.Heap) / float64(n)},
			{"goroutines a session", float64(full.Routines-empty.Routines) / float64(n)},
		}, nil
	}
	var before, after usage
	var done result
	how := "usage"
	if *what == "attacked" {
		how = "collect"
	}
	if err := server.ask(how, &before); err != nil {
		return nil, err
	}
	if err := client.ask("go", &done); err != nil {
		return nil, err
	}
	if err := server.ask(how, &after); err != nil {
		return nil, err
	}
	latency := []figure{{"median µs", done.P50}, {"p99 µs", done.P99}}
	switch *what {
	case "stalled":
		return latency, nil
	case "attacked":
		return append(latency, figure{"KB of heap more", float64(after.Heap-before.Heap) / 1024}), nil
	}
	count := float64(done.Done)
	if *what == "receive" {
		count = float64(after.Received - before.Received)
	}
	figures := []figure{
		{"µs of CPU each", float64(after.CPU-before.CPU) / count / 1000},
		{"each second", count / done.Seconds},
		{"allocations each", float64(after.Mallocs-before.Mallocs) / count},
	}
	if *what == "resume" {
		figures = append(figures, figure{"datagrams each", float64(done.Sent) / count})
	}
	return figures, nil
}

// print prints medians, and ranges in brackets. A ratio is that of one round, whose
// servers had the machine in much the same state; of these, the median.
func print(n int, servers, units []string, values map[string]map[string][]float64) {
	beside := slices.DeleteFunc([]string{"floor", "pion", "pion-parallel", "dsm-full", "dsm-undisturbed"}, func(name string) bool {
		return !slices.Contains(servers, name) || name == "floor" && *what == "idle"
	})
	fmt.Printf("\n%s, %d sessions, %s, medians of %d:\n\n| server |", *what, n, *suite, *rounds)
	for i, unit := range units {
		fmt.Printf(" %s |", unit)
		for _, other := range beside {
			if i == 0 {
				fmt.Printf(" of %s's |", other)
			}
		}
	}
	fmt.Print("\n|---|", strings.Repeat("---|", len(units)+len(beside)), "\n")
	for _, server := range servers {
		fmt.Printf("| %s |", server)
		for i, unit := range units {
			v := values[server][unit]
			fmt.Printf(" %.4g (%.4g to %.4g) |", median(v), slices.Min(v), slices.Max(v))
			for _, other := range beside {
				if i == 0 {
					ratios := make([]float64, len(v))
					for round := range v {
						ratios[round] = v[round] / values[other][unit][round]
					}
					fmt.Printf(" %.2f |", median(ratios))
				}
			}
		}
		fmt.Println()
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
