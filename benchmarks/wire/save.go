// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/sealed"
	"github.com/go-dsm/dsm/keyring"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
)

// maxSaved bounds the sessions of a measurement of save.
const maxSaved = 1 << 20

// saveKey seals the snapshots and the journals.
var saveKey = keyring.Key{ID: 1, Secret: [32]byte{1}}

// saved is the reply of a process that has restored and saved sessions. Memory is in bytes.
type saved struct {
	Bytes          int64   // of the file
	RestoreSeconds float64 // of RestoreFile
	SaveSeconds    float64 // of SaveFile
	RestoreCPU     int64   // ns of all cores
	SaveCPU        int64
	Resident       int64 // the listener with its sessions
	RestorePeak    int64 // above that, in RestoreFile
	SavePeak       int64 // above that, in SaveFile
}

// measureSave measures RestoreFile and SaveFile of n sessions, in a process of its own.
func measureSave(name string, n int) ([]figure, error) {
	server, err := startServerProcess(name, n)
	if err != nil {
		return nil, err
	}
	defer server.end()
	var s saved
	if err := server.readReply(&s); err != nil {
		return nil, err
	}
	const mega = 1e6
	return []figure{
		{"bytes a session", float64(s.Bytes) / float64(n)},
		{"s of RestoreFile", s.RestoreSeconds},
		{"s of CPU in RestoreFile", float64(s.RestoreCPU) / 1e9},
		{"s of SaveFile", s.SaveSeconds},
		{"s of CPU in SaveFile", float64(s.SaveCPU) / 1e9},
		{"MB of the sessions", float64(s.Resident) / mega},
		{"MB more in RestoreFile", float64(s.RestorePeak) / mega},
		{"MB more in SaveFile", float64(s.SavePeak) / mega},
	}, nil
}

// runSave restores a snapshot of many sessions, saves them, and replies with its figures.
func runSave(name string) {
	n, err := strconv.Atoi(*sessions)
	check(err)
	if n > maxSaved {
		check(fmt.Errorf("%d sessions: at most %d", n, maxSaved))
	}
	dir, err := os.MkdirTemp("", "dsm-wire")
	check(err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sessions")
	store, err := resume.New(resume.Config{})
	check(err)
	config, clientConfig := dtlsConfig(), dtlsConfig()
	if *suite == "ecdsa" {
		chain, root := newChain()
		config.ClientAuth, config.ClientCAs, clientConfig.Certificates = dtls.RequireAndVerifyClientCert, root, []tls.Certificate{chain}
		log.Printf("the client's certificates take %d and %d bytes", len(chain.Certificate[0]), len(chain.Certificate[1]))
	}
	cfg := pionv2.Config{Sessions: maxSaved}
	if name == "dsm-resumption" {
		cfg.Resumption = store
	}
	oneOf(config, clientConfig, cfg).writeSnapshot(path, n)

	var s saved
	before := resetPeak()
	cfg.Restore = func(l *pionv2.Listener) error {
		begin, used := time.Now(), processCPU()
		stats, err := l.RestoreFile(context.Background(), path, saveKey)
		s.RestoreSeconds, s.RestoreCPU, s.RestorePeak = time.Since(begin).Seconds(), processCPU()-used, peakBytes()
		if err == nil && stats.Restored != n {
			return fmt.Errorf("restored: %+v", stats)
		}
		return err
	}
	puts := store.Stats().Puts
	l, err := pionv2.Listen("udp", "127.0.0.1:0", config, cfg)
	check(err)
	go serveDatagrams(l)
	for cfg.Resumption != nil && store.Stats().Puts < puts+uint64(n) {
		time.Sleep(10 * time.Millisecond)
	}
	resident := resetPeak()
	s.Resident, s.RestorePeak = resident-before, s.RestorePeak-resident

	begin, used := time.Now(), processCPU()
	stats, err := l.SaveFile(context.Background(), path, saveKey)
	check(err)
	s.SaveSeconds, s.SaveCPU = time.Since(begin).Seconds(), processCPU()-used
	s.SavePeak, s.Bytes = peakBytes()-resident, stats.Bytes
	if stats.Sessions != n {
		check(fmt.Errorf("saved: %+v", stats))
	}
	reply(s)
}

// restoredAddress returns the address of the peer of session i of a snapshot. What is sent to it
// stays on this machine.
func restoredAddress(i int) netip.Addr {
	const first = 127<<24 | 64<<16
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(first+i))))
}

// oneSession is a session after its first datagram.
type oneSession struct {
	state, sessionID []byte        // the ID is empty if there is none
	keys             record.Config // of the client
	port             uint16        // of the client
}

// writeSnapshot writes a snapshot of n sessions, which differ from s in their peers' addresses and
// in their session IDs only.
func (s oneSession) writeSnapshot(path string, n int) {
	const (
		idAt, addressAt = 1, 1 + 16 + 1 // in a marshalled SessionState
		chunkSize       = 64 << 10
	)
	state := s.state
	clear(state[idAt : idAt+16])
	idsAt := bytes.Index(state, s.sessionID)
	file, err := os.Create(path)
	check(err)
	ring, err := keyring.New(saveKey)
	check(err)
	buffered := bufio.NewWriterSize(file, chunkSize)
	out, err := sealed.NewWriter(buffered, ring, sealed.Header{Kind: sealed.Snapshot, Generation: 1})
	check(err)
	var chunk []byte
	for i := range n {
		address := restoredAddress(i)
		copy(state[addressAt:], address.AsSlice())
		if len(s.sessionID) > 0 {
			binary.BigEndian.PutUint32(state[idsAt:], uint32(i))
		}
		if i == 0 {
			var first pionv2.SessionState
			check(first.UnmarshalBinary(state))
			if first.Peer() != netip.AddrPortFrom(address, s.port) {
				check(fmt.Errorf("the format has changed: the peer is %s, want %s", first.Peer(), address))
			}
		}
		chunk = binary.BigEndian.AppendUint32(chunk, uint32(len(state)))
		chunk = append(chunk, state...)
		if len(chunk) >= chunkSize || i == n-1 {
			check(out.WriteChunk(chunk))
			chunk = chunk[:0]
		}
	}
	check(out.Close())
	check(buffered.Flush())
	check(file.Sync())
	check(file.Close())
}

// oneOf returns a session of a listener.
func oneOf(config, clientConfig *dtls.Config, cfg pionv2.Config) oneSession {
	cfg.Sessions = 1
	l, err := pionv2.Listen("udp", "127.0.0.1:0", config, cfg)
	check(err)
	defer l.Close()
	*address = l.Addr().String()
	store := new(dtlstest.ClientStore)
	if cfg.Resumption != nil {
		clientConfig.SessionStore = store
	}
	socket := &handshakeSocket{UDPConn: dial(nil)}
	client, err := dtls.Client(socket, clientConfig)
	check(err)
	_, err = client.Write([]byte("first"))
	check(err)
	c, err := l.AcceptConn(context.Background())
	check(err)
	_, err = c.Read(make([]byte, 100))
	check(err)
	socket.muted.Store(true)
	detached, err := c.Detach()
	check(err)
	state, err := detached.MarshalBinary()
	check(err)
	records, err := dtlstest.ClientRecords(client, 0)
	check(err)
	_ = client.Close()
	_ = socket.UDPConn.Close()
	return oneSession{state, store.Session().ID, records.Config(), socket.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
}

// resetPeak collects garbage and sets the peak of resident memory to its present value,
// which it returns.
func resetPeak() int64 {
	debug.FreeOSMemory()
	check(os.WriteFile("/proc/self/clear_refs", []byte("5"), 0))
	return residentBytes()
}

// peakBytes returns the peak of resident memory since resetPeak.
func peakBytes() int64 {
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	if !ok {
		check(fmt.Errorf("no VmHWM in /proc/self/status"))
	}
	var kilobytes int64
	_, err = fmt.Sscan(rest, &kilobytes)
	check(err)
	return kilobytes << 10
}
