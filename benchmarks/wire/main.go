// SPDX-License-Identifier: MIT

// Command wire measures DTLS servers over loopback. The server runs on one core and
// its clients on another. The results are the CPU time of the server's process per
// datagram or handshake, its memory per idle session, and latencies. In each round,
// every server is measured once:
//
//	go run ./wire -what echo -sessions 1,16,256,4096 -rounds 5
//	go run ./wire -what saturated    # echoes, with a client that is faster than every server
//	go run ./wire -what receive -sessions 256
//	go run ./wire -what handshake
//	go run ./wire -what idle -sessions 20000
//	go run ./wire -what half-open    # handshakes whose clients fall silent, before and after their cookie
//	go run ./wire -what hellos       # a flood of first ClientHellos, and honest clients
//	go run ./wire -what resume       # full and resumed handshakes
//	go run ./wire -what stalled      # handshakes while others have stalled
//	go run ./wire -what attacked     # echoes among forged plaintext records
//	go run ./wire -what sockets      # a server of two cores, with one socket and with two
//	go run ./wire -what save         # SaveFile and RestoreFile of a million sessions, with all cores
//	go run ./wire -what watched      # echoes without and with a page of dsmdebug and its viewer
//	go run ./wire -what watched -idle 1000000 # the same beside a million idle sessions
//	go run ./wire -what journal -pace 1s -seconds 5 # echoes without and with Config.Journal
//	go run ./wire -what latency -seconds 5 # echo latencies of one client, alone and beside others
//	go run ./wire -what million -rounds 1  # a million sessions of which 1 % talk, and what the server does with all
//
// The server floor does no more than the system calls, with the batches of x/net, and floor-c does
// the same in C. For latency, -slow is the number of further sessions whose handlers compute for 1 ms of
// each 20 ms. On a machine that does other work, latencies need a higher priority: nice -n -15 …
//
// For million, sessions are restored from a snapshot. Their peers are at 127.64.0.0 and above, and
// one socket of a client stands for all of them. With -settle 0 the sessions do not all talk, nor
// does the sweeper release them all. SaveFile, RestoreFile and Close end or begin the listener: the
// client whose latencies are measured meanwhile is one of a second listener in the process.
//
// With -base, the servers of another commit take part in the same rounds: base-dsm-serve and so
// on. They are run by this command as built with the listener of that commit, so the command
// uses nothing that is new in the listener:
//
//	git worktree add --detach /tmp/base COMMIT
//	rm -r /tmp/base/benchmarks/wire && cp -r benchmarks/wire /tmp/base/benchmarks/wire
//	cd /tmp/base/benchmarks && go build -o /tmp/wire-base ./wire
//	go run ./wire -what echo -base /tmp/wire-base # in the directory benchmarks of the other one
//
// With -profile the servers write CPU, mutex and block profiles of each measurement, from its begin
// to the end of the process. Those of the last round stay. The profiles of -base are in a directory
// of their own, named base.
//
// With -adapter v2,v4 the servers of both adapters and the listeners of both pion majors take
// turns.
//
// The command starts itself as the server and as the client of each round, and ends
// both; for journal and watched they stay for all rounds.
package main

import (
	"flag"
	"log"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

var (
	what        = flag.String("what", "echo", "what to measure: see the documentation of the command")
	base        = flag.String("base", "", "`path` of this command as built with the listener of another commit, whose servers take part as "+basePrefix+"dsm-serve and so on")
	profile     = flag.String("profile", "", "`directory` for CPU, mutex and block profiles of the servers")
	slow        = flag.String("slow", "0,1,8", "comma-separated `numbers` of sessions whose handlers compute, for latency")
	adapters    = flag.String("adapter", "v2", "majors of pion: v2, v4 or v2,v4; the names of the servers on v4 end with "+v4Suffix)
	sessions    = flag.String("sessions", "", "comma-separated `numbers` of sessions (default depends on -what)")
	rounds      = flag.Int("rounds", 5, "`number` of rounds")
	pace        = flag.Duration("pace", 0, "time between two datagrams of a session, for echo and journal (default none: as fast as the server echoes)")
	rate        = flag.Float64("rate", 0, "hellos a second, for hellos (default as many as the client's core can send)")
	honest      = flag.Int("honest", 50, "`number` of honest clients during a flood, for hellos")
	idle        = flag.Int("idle", 0, "`number` of restored sessions that are idle meanwhile, for watched")
	seconds     = flag.Float64("seconds", 2, "duration of each measurement")
	serverNames = flag.String("servers", "", "comma-separated `names` of servers (default all of -what)")
	suite       = flag.String("suite", "gcm", "cipher suite: gcm or ccm8 with a PSK; ecdsa, for handshakes only")
	role        = flag.String("role", "", "server or client; set by the command itself")
	settle      = flag.Duration("settle", 100*time.Second, "wait before idle sessions are measured, and at most for those of the warm-up to end; dsm releases ciphers after a minute")
	address     = flag.String("address", "", "address of the server; set by the command itself")
)

const (
	serverCore = 0
	clientCore = 1
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	// A server or client gets one name with -servers.
	switch *role {
	case "server":
		if *what == "save" {
			runSave(*serverNames)
			return
		}
		if *what != "sockets" {
			runOnCore(serverCore)
		}
		if *what == "million" {
			runMillion(*serverNames)
			return
		}
		runServer(*serverNames)
	case "client":
		runOnCore(clientCore)
		runClient(*serverNames)
	default:
		if err := measure(); err != nil {
			log.Fatal(err)
		}
	}
}

// runOnCore binds the process to one core.
func runOnCore(core int) {
	runtime.GOMAXPROCS(1)
	var set unix.CPUSet
	set.Set(core % runtime.NumCPU())
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		log.Print("cannot choose the core: ", err)
	}
}
