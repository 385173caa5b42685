// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/pionv2"
)

// roomForNewcomers is the number of sessions that a server has room for, in addition to the
// restored ones.
const roomForNewcomers = 1024

// restored is the first reply of a server that has restored sessions.
type restored struct {
	Address   string
	Neighbour string        // a listener without other sessions in the same process
	Keys      record.Config // of the clients of all restored sessions
	Port      uint16        // of these clients
	Empty     usage         // before the listener was there
}

// operated is the reply of a server to the request for an operation, which it repeats for as long
// as a measurement lasts.
type operated struct {
	Seconds float64 // each
	CPU     int64   // ns, each; of the whole process
}

// runMillion restores sessions and serves them, as runServer does.
func runMillion(name string) {
	n, err := strconv.Atoi(*sessions)
	check(err)
	kind, onV4 := strings.CutSuffix(name, v4Suffix)
	if kind != "dsm-serve" {
		check(errUnknownServer(name))
	}
	runtime.GC()
	debug.FreeOSMemory()
	r := restored{Empty: currentUsage()}
	var one oneSession
	m := &millionServer{config: pionv2.Config{
		Restore: restoreSessions(n, &one), Sessions: n + roomForNewcomers,
		Handshakes: maxHandshakes, HandshakesPerSource: -1, ReadBuffer: readBuffer,
		IdleTimeout: 24 * time.Hour, // so the sweeper runs each second
	}, onV4: onV4}
	m.dir, err = os.MkdirTemp("", "dsm-wire")
	check(err)
	m.listen()
	neighbour, err := listenAdapter(onV4, pionv2.Config{Sessions: 16, ReadBuffer: readBuffer})
	check(err)
	go serveDatagrams(neighbour)
	r.Address, r.Neighbour, r.Keys, r.Port = m.listener.Addr().String(), neighbour.Addr().String(), one.keys, one.port
	reply(r)
	writeProfile := startProfile(name)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case requestUsage:
			reply(currentUsage())
		case requestCollect:
			runtime.GC()
			debug.FreeOSMemory()
			reply(currentUsage())
		default:
			reply(m.operate(in.Text()))
		}
	}
	writeProfile()
	_ = os.RemoveAll(m.dir)
	os.Exit(0)
}

// The operations of a server.
const (
	operationNone    = "nothing"
	operationGC      = "forced GC"
	operationWalk    = "walk of Sessions"
	operationSave    = "SaveFile" // after this one there is no listener
	operationRestore = "RestoreFile"
	operationClose   = "Close"
)

type millionServer struct {
	config   pionv2.Config
	onV4     bool
	listener *pionv2.Listener
	dir      string // of the snapshot
}

// listen opens the listener, with the restored sessions.
func (m *millionServer) listen() {
	var err error
	m.listener, err = listenAdapter(m.onV4, m.config)
	check(err)
	go serveDatagrams(m.listener)
}

// operationPause is the time between two operations.
const operationPause = 20 * time.Millisecond

// operate does an operation for as long as a measurement lasts: once, if it ends the listener or
// begins one.
func (m *millionServer) operate(operation string) (o operated) {
	duration := time.Duration(*seconds * float64(time.Second))
	times := 0
	for until := time.Now().Add(duration); times == 0 || !endsOrBegins(operation) && time.Now().Before(until); times++ {
		begin, cpu := time.Now(), processCPU()
		switch operation {
		case operationNone:
			time.Sleep(duration)
		case operationGC:
			runtime.GC()
		case operationWalk:
			for range m.listener.Sessions() {
			}
		default:
			m.replaceListener(operation)
		}
		o.Seconds += time.Since(begin).Seconds()
		o.CPU += processCPU() - cpu
		time.Sleep(operationPause)
	}
	return operated{o.Seconds / float64(times), o.CPU / int64(times)}
}

// endsOrBegins reports whether an operation ends the listener or begins one.
func endsOrBegins(operation string) bool {
	return operation == operationSave || operation == operationRestore || operation == operationClose
}

// replaceListener does the operations that end the listener or begin one.
func (m *millionServer) replaceListener(operation string) {
	path := filepath.Join(m.dir, "sessions")
	switch operation {
	case operationSave:
		_, err := m.listener.SaveFile(context.Background(), path, saveKey)
		check(err)
	case operationRestore:
		m.config.Restore = func(l *pionv2.Listener) error {
			_, err := l.RestoreFile(context.Background(), path, saveKey)
			return err
		}
		m.listen()
	case operationClose:
		check(m.listener.Close())
	default:
		check(fmt.Errorf("unknown operation %q", operation))
	}
}
