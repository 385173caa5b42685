// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"time"
)

// process is a server or a client: this command, or the one of -base, or floor-c. It takes lines on
// stdin and writes one line of JSON for each, after a first one when it is ready. It
// exits when stdin ends.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startProgram(program string, args ...string) (*process, error) {
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &process{cmd, in, bufio.NewScanner(out)}, cmd.Start()
}

// readReply decodes the next line of the process into v.
func (p *process) readReply(v any) error {
	if !p.out.Scan() {
		return errors.Join(io.ErrUnexpectedEOF, p.out.Err())
	}
	return json.Unmarshal(p.out.Bytes(), v)
}

// send sends a line that has no reply.
func (p *process) send(line string) error {
	_, err := fmt.Fprintln(p.in, line)
	return err
}

// request sends a line and decodes the reply into v.
func (p *process) request(line string, v any) error {
	if err := p.send(line); err != nil {
		return err
	}
	return p.readReply(v)
}

// end waits until the process has exited, and kills it after 10 s.
func (p *process) end() {
	_ = p.in.Close()
	timer := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	timer.Stop()
}

// reply writes a line to the process that started this one.
func reply(v any) { check(json.NewEncoder(os.Stdout).Encode(v)) }

// The requests of a server.
const (
	requestUsage   = "usage"
	requestCollect = "collect" // usage after a garbage collection
)

// The requests of a client.
const (
	requestStart = "go"
	requestStop  = "stop" // of a probe only
)

// usage is the reply of a server to a request.
type usage struct {
	CPU        int64 // ns since the start of the process, user and system
	RSS        int64 // bytes
	Heap       int64 // bytes
	Live       int64 // bytes of heap that the last garbage collection has left
	Stack      int64 // bytes
	Received   int64 // datagrams with application data
	Sessions   int64 // established
	Mallocs    int64
	Goroutines int64
	Computed   int64 // ns that handlers have computed: see computeFor
	Journal    int64 // bytes written
	HalfOpen   int64 // handshakes in progress, of dsm's listener
	Answered   int64 // first ClientHellos that dsm's listener has answered
	collectorUsage
}

// result is the reply of a client after its work.
type result struct {
	Count     int64   // echoes, sent datagrams or handshakes
	Datagrams int64   // of all handshakes, in both directions; only for handshake and resume
	Seconds   float64 // not for stalled and attacked

	// µs per echo or handshake; only for latency, stalled and attacked.
	P50, P99, P999, Max float64
}

// check ends the process if there is an error.
func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
