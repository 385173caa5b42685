// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/gob"
	"errors"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
)

// load is the client: it connects, says so, waits for a line, works and says how
// much it has done. Sessions are set up by pion and then sealed by hand, as pion's
// own client would leave the server waiting.
func load() {
	n, err := strconv.Atoi(*sessions)
	check(err)
	duration := time.Duration(*seconds * float64(time.Second))
	switch *what {
	case "handshake", "resume":
		answer(result{})
		bufio.NewScanner(os.Stdin).Scan()
		answer(handshakes(n, duration))
		return
	case "stalled":
		if *only == "dsm-stalled" {
			stall()
		}
		answer(result{})
		bufio.NewScanner(os.Stdin).Scan()
		answer(oneByOne(n))
		return
	}
	clients := make([]*session, n)
	limit := make(chan struct{}, 16)
	var wg sync.WaitGroup
	for i := range clients {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			clients[i] = connect(i)
		})
	}
	wg.Wait()
	answer(result{})
	bufio.NewScanner(os.Stdin).Scan()
	switch *what {
	case "idle":
	case "attacked":
		answer(attacked(clients[0], duration, *only == "dsm-attacked"))
	default:
		answer(work(clients, duration))
	}
}

// session is a client's.
type session struct {
	udp     *net.UDPConn
	records *record.Session
}

// quiet keeps pion's client from closing the socket, and from saying goodbye.
type quiet struct {
	*net.UDPConn
	mute atomic.Bool
}

func (q *quiet) Write(p []byte) (int, error) {
	if q.mute.Load() {
		return len(p), nil
	}
	return q.UDPConn.Write(p)
}

func (q *quiet) Close() error { return nil }

func dial(local *net.UDPAddr) *net.UDPConn {
	addr, err := net.ResolveUDPAddr("udp", *address)
	check(err)
	c, err := net.DialUDP("udp", local, addr)
	check(err)
	return c
}

func connect(i int) *session {
	var local *net.UDPAddr
	if *what == "idle" { // no two with one address, though sockets are not kept
		local = &net.UDPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%100)), Port: 20000 + i/100}
	}
	q := &quiet{UDPConn: dial(local)}
	if *only == "floor" {
		records, err := record.New(record.Config{Suite: 0xa8, MasterSecret: make([]byte, 48), IsClient: true, Epoch: 1})
		check(err)
		return &session{q.UDPConn, records}
	}
	c, err := dtls.Client(q, config())
	check(err)
	if *what == "idle" {
		q.mute.Store(true)
		_ = c.Close()
		_ = q.UDPConn.Close()
		return nil
	}
	// The echo of one line says that the server is ready.
	check(c.SetDeadline(time.Now().Add(time.Minute)))
	buf := make([]byte, 100)
	if answers() {
		_, err = c.Write([]byte("ready?"))
		check(err)
		m, err := c.Read(buf)
		check(err)
		if string(buf[:m]) != "ready?" {
			log.Fatalf("echo %q", buf[:m])
		}
	}
	q.mute.Store(true)
	state := c.ConnectionState()
	_ = c.Close()
	check(q.UDPConn.SetDeadline(time.Time{}))
	raw, err := state.MarshalBinary()
	check(err)
	var s struct {
		LocalEpoch                uint16
		LocalRandom, RemoteRandom [32]byte
		CipherSuiteID             uint16
		MasterSecret              []byte
		SequenceNumber            uint64
	}
	check(gob.NewDecoder(bytes.NewReader(raw)).Decode(&s))
	records, err := record.New(record.Config{
		Suite: record.SuiteID(s.CipherSuiteID), MasterSecret: s.MasterSecret, IsClient: true, Epoch: s.LocalEpoch,
		ClientRandom: s.LocalRandom, ServerRandom: s.RemoteRandom, NextSequence: s.SequenceNumber + 10,
	})
	check(err)
	return &session{q.UDPConn, records}
}

const payload = 100 // bytes

// work has one datagram of each session on its way at any time, or, where nothing
// comes back, as many as the socket takes.
func work(clients []*session, duration time.Duration) result {
	var done atomic.Int64
	begin := time.Now()
	end := begin.Add(duration)
	var wg sync.WaitGroup
	for _, s := range clients {
		wg.Go(func() {
			out, in, text := make([]byte, 0, 256), make([]byte, 2048), make([]byte, payload)
			for time.Now().Before(end) {
				sealed, err := s.records.Seal(out, record.TypeApplicationData, text)
				check(err)
				_, err = s.udp.Write(sealed)
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					log.Fatal(err)
				}
				if !answers() {
					done.Add(1)
					continue
				}
				check(s.udp.SetReadDeadline(time.Now().Add(time.Second)))
				switch n, err := s.udp.Read(in); {
				case errors.Is(err, os.ErrDeadlineExceeded): // lost
				case err != nil:
					log.Fatal(err)
				case n < payload:
					log.Fatalf("%d bytes came back", n)
				default:
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return result{Done: done.Load(), Seconds: time.Since(begin).Seconds()}
}

// handshakes runs n at a time, each with close_notify after it; and from one to the
// next a client keeps its session, if it is to resume it.
func handshakes(n int, duration time.Duration) result {
	var done, sent atomic.Int64
	begin := time.Now()
	end := begin.Add(duration)
	var wg sync.WaitGroup
	c := config()
	for range n {
		wg.Go(func() {
			config := *c
			if *only == "dsm-resumed" {
				config.SessionStore = new(oneSession)
			}
			for time.Now().Before(end) {
				udp := counted{dial(nil), &sent}
				conn, err := dtls.Client(udp, &config)
				if err != nil {
					log.Fatal("handshake: ", err) // nothing is lost on this way
				}
				done.Add(1)
				_ = conn.Close()
				_ = udp.Close()
			}
		})
	}
	wg.Wait()
	return result{Done: done.Load(), Sent: sent.Load() - done.Load(), Seconds: time.Since(begin).Seconds()} // without close_notify
}

// oneSession is the session of one client, which does one thing at a time.
type oneSession struct{ dtls.Session }

func (s *oneSession) Set(_ []byte, session dtls.Session) error {
	s.Session = dtls.Session{ID: bytes.Clone(session.ID), Secret: bytes.Clone(session.Secret)}
	return nil
}
func (s *oneSession) Get([]byte) (dtls.Session, error) { return s.Session, nil }
func (s *oneSession) Del([]byte) error                 { s.Session = dtls.Session{}; return nil }

// counted counts datagrams.
type counted struct {
	*net.UDPConn
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.UDPConn.Read(p)
	if err == nil {
		c.n.Add(1)
	}
	return n, err
}

func (c counted) Write(p []byte) (int, error) {
	c.n.Add(1)
	return c.UDPConn.Write(p)
}

// clientHello is one that a stranger sends: whole, and with nothing to follow.
func clientHello() []byte {
	body := append([]byte{254, 253}, make([]byte, 32)...)
	_, err := rand.Read(body[2:])
	check(err)
	body = append(body, 0, 0, 0, 2, 0, 0xa8, 1, 0)
	return plaintext(record.TypeHandshake, handshakeMessage(record.MessageClientHello, 0, len(body), body)...)
}

// handshakeMessage is the first fragment of a handshake message.
func handshakeMessage(kind byte, seq uint16, length int, body []byte) []byte {
	n := len(body)
	return append([]byte{kind, byte(length >> 16), byte(length >> 8), byte(length), byte(seq >> 8), byte(seq), 0, 0, 0,
		byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

func plaintext(kind record.Type, fragment ...byte) []byte {
	b := make([]byte, record.HeaderSize, record.HeaderSize+len(fragment))
	record.PutHeader(b, kind, 0, 7, len(fragment))
	return append(b, fragment...)
}

// stall sends junk, and begins a thousand handshakes that go no further.
func stall() {
	for i := range 1000 {
		udp := dial(&net.UDPAddr{IP: net.IPv4(127, 0, byte(2+i/200), byte(1+i%200))}) // no two from one
		if i < 200 {
			_, err := udp.Write(plaintext(record.TypeHandshake, 1)) // 14 bytes
			check(err)
		}
		_, err := udp.Write(clientHello())
		check(err)
		check(udp.SetReadDeadline(time.Now().Add(10 * time.Second)))
		_, err = udp.Read(make([]byte, 1000)) // it has begun
		check(err)
		_ = udp.Close()
	}
}

// oneByOne runs n handshakes and says how long they took.
func oneByOne(n int) result {
	var took []time.Duration
	c := config()
	for range n {
		udp := dial(nil)
		begin := time.Now()
		conn, err := dtls.Client(udp, c)
		check(err)
		took = append(took, time.Since(begin))
		_ = conn.Close()
		_ = udp.Close()
	}
	return percentiles(took)
}

// attacked measures echoes one by one, while somebody forges plaintext records of the
// client's, if it is to.
func attacked(s *session, duration time.Duration, attack bool) result {
	done := make(chan struct{})
	var wg sync.WaitGroup
	if attack {
		wg.Go(func() {
			every := time.NewTicker(attackEvery)
			defer every.Stop()
			fragments := int(3000 * attackEvery / duration)
			for seq := uint16(0); ; {
				datagrams := [][]byte{
					plaintext(record.TypeAlert, record.LevelWarning, record.CloseNotify),                          // 15 bytes
					plaintext(record.TypeApplicationData, 'x'),                                                    // 14 bytes
					plaintext(record.TypeHandshake, handshakeMessage(record.MessageFinished, 1, 1, []byte{0})...), // 26 bytes
				}
				for range fragments {
					seq++
					datagrams = append(datagrams, plaintext(record.TypeHandshake, handshakeMessage(record.MessageClientHello, seq, 4096, make([]byte, 1088))...))
				}
				for _, d := range datagrams {
					_, err := s.udp.Write(d)
					check(err)
				}
				select {
				case <-every.C:
				case <-done:
					return
				}
			}
		})
	}
	var took []time.Duration
	out, in, text := make([]byte, 0, 256), make([]byte, 2048), make([]byte, payload)
	for end := time.Now().Add(duration); time.Now().Before(end); {
		sealed, err := s.records.Seal(out, record.TypeApplicationData, text)
		check(err)
		check(s.udp.SetReadDeadline(time.Now().Add(time.Second)))
		begin := time.Now()
		_, err = s.udp.Write(sealed)
		check(err)
		n, err := s.udp.Read(in)
		check(err)
		if n < payload {
			log.Fatalf("%d bytes came back", n)
		}
		took = append(took, time.Since(begin))
	}
	close(done)
	wg.Wait()
	return percentiles(took)
}

const attackEvery = 10 * time.Millisecond

func percentiles(took []time.Duration) result {
	slices.Sort(took)
	at := func(p int) float64 { return float64(took[(len(took)-1)*p/100].Nanoseconds()) / 1000 }
	return result{Done: int64(len(took)), P50: at(50), P99: at(99)}
}
