// SPDX-License-Identifier: MIT

// Command wire measures DTLS servers over loopback. The server runs on one core and
// its clients on another. The results are the CPU time of the server's process per
// datagram or handshake, its memory per idle session, and latencies. In each round,
// every server is measured once:
//
//	go run ./wire -what echo -sessions 1,16,256,4096 -rounds 5
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
	what        = flag.String("what", "echo", "what to measure: echo, receive, handshake, resume, idle, half-open, hellos, stalled, attacked, sockets, watched, save or journal")
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
