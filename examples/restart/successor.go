// SPDX-License-Identifier: MIT

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// The sockets are passed on as systemd does: their number is in LISTEN_FDS, and they are the
// descriptors from 3 on. LISTEN_PID, the process for which they are meant, cannot be known
// before that process exists. So a server that starts its successor says in LISTEN_PARENT
// that they are meant for the child of a process: itself. A successor has two more
// descriptors after the sockets, the ends of pipes that it closes to say that it is ready,
// and that its predecessor closes, if only by its end, to let it go on.
const (
	firstDescriptor = 3
	listenFDs       = "LISTEN_FDS"
	listenPID       = "LISTEN_PID"
	listenParent    = "LISTEN_PARENT"
)

// handOver starts the successor, saves the sessions for it, and lets it go on. After an
// error there is no successor, and this process serves on.
func (s *server) handOver() error {
	sockets, err := s.listener.Files()
	if err != nil {
		return err
	}
	next, err := startSuccessor(sockets)
	for _, socket := range sockets {
		_ = socket.Close()
	}
	if err != nil {
		return err
	}
	if err := s.save(); err != nil {
		next.kill()
		return err
	}
	s.log.Info("handed over", "successor", next.cmd.Process.Pid)
	return next.goOn.Close()
}

// successor is the process that takes over, as its predecessor sees it.
type successor struct {
	cmd  *exec.Cmd
	goOn *os.File
}

// startSuccessor starts this program anew, and returns when the process has done all that
// it can do without the sessions: the pause that clients could notice begins after that.
func startSuccessor(sockets []*os.File) (*successor, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	program = strings.TrimSuffix(program, " (deleted)") // of Linux, once the program was replaced
	readyHere, readyThere, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyHere.Close()
	defer readyThere.Close()
	goOnThere, goOnHere, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer goOnThere.Close()
	s := &successor{exec.Command(program, os.Args[1:]...), goOnHere}
	s.cmd.Stdout, s.cmd.Stderr = os.Stdout, os.Stderr
	s.cmd.Env = append(os.Environ(), listenFDs+"="+strconv.Itoa(len(sockets)), listenParent+"="+strconv.Itoa(os.Getpid()))
	s.cmd.ExtraFiles = append(append(s.cmd.ExtraFiles, sockets...), readyThere, goOnThere)
	if err := s.cmd.Start(); err != nil {
		_ = goOnHere.Close()
		return nil, err
	}
	_ = readyThere.Close() // the successor has the only one now
	_ = readyHere.SetReadDeadline(time.Now().Add(startTimeout))
	// A byte says that it is ready, and the end of the pipe without one that it has ended.
	if _, err := readyHere.Read(make([]byte, 1)); err != nil {
		s.kill()
		return nil, fmt.Errorf("the successor is not ready: %w", err)
	}
	return s, nil
}

// kill ends a successor that has not gone on yet.
func (s *successor) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = s.goOn.Close() // after the end: this would let it go on
}

// predecessor is the process that this one succeeds. A nil one stands for none.
type predecessor struct{ ready, goOn *os.File }

// inherit returns the sockets and the predecessor that the environment names, if it does.
func inherit() (sockets []net.PacketConn, p *predecessor, err error) {
	descriptors, pid, parent := os.Getenv(listenFDs), os.Getenv(listenPID), os.Getenv(listenParent)
	for _, name := range []string{listenFDs, listenPID, listenParent, "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // no child is to take them for its own
	}
	isSuccessor := parent == strconv.Itoa(os.Getppid())
	if !isSuccessor && pid != strconv.Itoa(os.Getpid()) {
		return nil, nil, nil
	}
	n, err := strconv.Atoi(descriptors)
	if err != nil || n < 1 {
		return nil, nil, fmt.Errorf("%s=%q: want the number of sockets", listenFDs, descriptors)
	}
	for i := range n {
		file := os.NewFile(uintptr(firstDescriptor+i), "socket")
		socket, err := net.FilePacketConn(file) // a duplicate, which is closed on exec
		_ = file.Close()
		if err != nil {
			return nil, nil, fmt.Errorf("descriptor %d: %w", firstDescriptor+i, err)
		}
		sockets = append(sockets, socket)
	}
	if isSuccessor {
		p = &predecessor{os.NewFile(uintptr(firstDescriptor+n), "ready"), os.NewFile(uintptr(firstDescriptor+n+1), "go on")}
	}
	return sockets, p, nil
}

// await tells the predecessor that this process is ready, and waits until it has saved its
// sessions. A predecessor that has died instead has its sessions in the journal.
func (p *predecessor) await() error {
	if p == nil {
		return nil
	}
	defer p.goOn.Close()
	_, err := p.ready.Write([]byte{1})
	_ = p.ready.Close()
	if err != nil {
		return fmt.Errorf("the predecessor has ended: %w", err)
	}
	if _, err := p.goOn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the predecessor: %w", err)
	}
	return nil
}
