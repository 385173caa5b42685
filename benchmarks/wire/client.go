// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"errors"
	"log"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
)

// payload is the length of the application data in a datagram, in bytes.
const payload = 100

// runClient prepares the work that -what names, replies that it is ready, waits for a
// request, works and replies with the result. server is the name of the server.
func runClient(server string) {
	n, err := strconv.Atoi(*sessions)
	check(err)
	duration := time.Duration(*seconds * float64(time.Second))
	server = strings.TrimPrefix(strings.TrimSuffix(server, v4Suffix), basePrefix)
	switch *what {
	case "handshake", "resume":
		awaitRequest()
		reply(makeHandshakes(n, duration, server == "dsm-resumed"))
	case "stalled":
		if server == "dsm-stalled" {
			stallHandshakes()
		}
		awaitRequest()
		reply(timeHandshakes(n))
	case whatTalk:
		runTalkers(n)
	case whatStay:
		runStaying(n, duration)
	case whatLeave:
		reply(result{})
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			reply(makeHandshakes(n, duration, false))
		}
	case "idle":
		forEachClient(n, func(i int) { establishIdle(i, server == "dsm-cid") })
		awaitRequest()
	case "half-open":
		clients := make([]*dtlstest.ScriptedClient, n)
		for i := range clients {
			clients[i] = askForCookie(dial(nil))
		}
		awaitRequest()
		for _, c := range clients {
			returnCookie(c)
		}
		reply(result{})
		bufio.NewScanner(os.Stdin).Scan() // the sockets stay open
	case "hellos":
		f := newFlood(n)
		awaitRequest()
		reply(f.run(!strings.HasPrefix(server, "floor")))
	case "attacked":
		clients := connectAll(server, n)
		awaitRequest()
		reply(timeEchoes(clients[0], duration, server == "dsm-attacked"))
	case "saturated":
		clients := connectTogether(server, n)
		awaitRequest()
		reply(clients.exchange(duration))
	case "latency":
		runProbe(server)
	case whatBeside:
		runBeside(server, n, duration)
	case "journal", "watched":
		clients := connectAll(server, n)
		reply(result{})
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			reply(exchangeDatagrams(clients, duration))
		}
	default:
		clients := connectAll(server, n)
		awaitRequest()
		reply(exchangeDatagrams(clients, duration))
	}
}

// connectAll establishes n sessions.
func connectAll(server string, n int) []*session {
	clients := make([]*session, n)
	forEachClient(n, func(i int) { clients[i] = connect(server) })
	return clients
}

// awaitRequest replies that the client is ready, and waits for the request to start.
func awaitRequest() {
	reply(result{})
	bufio.NewScanner(os.Stdin).Scan()
}

// forEachClient calls connect for the clients 0 to n-1, 16 at a time.
func forEachClient(n int, connect func(i int)) {
	limit := make(chan struct{}, 16)
	var wg sync.WaitGroup
	for i := range n {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			connect(i)
		})
	}
	wg.Wait()
}

// dial opens a socket that is connected to the server. If local is nil, the system
// chooses the port.
func dial(local *net.UDPAddr) *net.UDPConn {
	addr, err := net.ResolveUDPAddr("udp", *address)
	check(err)
	c, err := net.DialUDP("udp", local, addr)
	check(err)
	return c
}

// handshakeSocket is the socket of pion's client for the handshake. The socket stays
// open when pion closes it.
type handshakeSocket struct {
	*net.UDPConn
	muted atomic.Bool // nothing is sent, in particular no close_notify
}

func (s *handshakeSocket) Write(p []byte) (int, error) {
	if s.muted.Load() {
		return len(p), nil
	}
	return s.UDPConn.Write(p)
}

func (s *handshakeSocket) Close() error { return nil }

// establishIdle establishes the session of client i and frees the client's memory and
// socket. The server keeps the session.
func establishIdle(i int, withConnectionID bool) {
	// The system could choose the port of an earlier client again. The clients of other servers
	// run at the same time, so the server's port is part of the address.
	server := netip.MustParseAddrPort(*address).Port()
	local := &net.UDPAddr{IP: net.IPv4(127, byte(server>>8), byte(server), byte(1+i%100)), Port: 20000 + i/100}
	if withConnectionID {
		establishConnectionID(local)
		return
	}
	socket := &handshakeSocket{UDPConn: dial(local)}
	c, err := dtls.Client(socket, dtlsConfig())
	check(err)
	socket.muted.Store(true)
	_ = c.Close()
	_ = socket.UDPConn.Close()
}

// session is an established session of a client. The client seals records itself: a
// client of pion would be slower than the servers, and they would wait for it.
type session struct {
	socket  *net.UDPConn
	records *record.Session
}

// connect establishes a session. The floors need no handshake.
func connect(server string) *session { return connectFrom(server, nil) }

// connectFrom is connect with a local address. If that is nil, the system chooses it.
func connectFrom(server string, local *net.UDPAddr) *session {
	socket := &handshakeSocket{UDPConn: dial(local)}
	if strings.HasPrefix(server, "floor") {
		records, err := record.New(record.Config{Suite: dtlstest.Suite, MasterSecret: make([]byte, 48), IsClient: true, Epoch: 1})
		check(err)
		return &session{socket.UDPConn, records}
	}
	c, err := dtls.Client(socket, dtlsConfig())
	check(err)
	awaitServer(c)
	socket.muted.Store(true)
	const nextSequence = 1 << 16 // far above the sequence numbers that pion has used
	records, err := dtlstest.ClientRecords(c, nextSequence)
	check(err)
	_ = c.Close()
	check(socket.UDPConn.SetDeadline(time.Time{}))
	return &session{socket.UDPConn, records}
}

// awaitServer waits until the server has established the session too, if the server
// echoes.
func awaitServer(c *dtls.Conn) {
	check(c.SetDeadline(time.Now().Add(time.Minute)))
	if !echoes() {
		return
	}
	const text = "ready?"
	_, err := c.Write([]byte(text))
	check(err)
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	check(err)
	if string(buf[:n]) != text {
		log.Fatalf("the echo is %q, want %q", buf[:n], text)
	}
}

// exchangeDatagrams sends datagrams in all sessions. If the server echoes, each
// session has one datagram in flight at a time, and sends one every -pace. Otherwise each
// sends as fast as the socket takes datagrams.
func exchangeDatagrams(clients []*session, duration time.Duration) result {
	var count atomic.Int64
	begin := time.Now()
	end := begin.Add(duration)
	var wg sync.WaitGroup
	for i, s := range clients {
		wg.Go(func() {
			next := begin.Add(*pace * time.Duration(i) / time.Duration(len(clients)))
			out, in, text := make([]byte, 0, 256), make([]byte, 2048), make([]byte, payload)
			for ; time.Now().Before(end); next = next.Add(*pace) {
				time.Sleep(time.Until(next))
				sealed, err := s.records.Seal(out, record.TypeApplicationData, text)
				check(err)
				_, err = s.socket.Write(sealed)
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					log.Fatal(err)
				}
				if !echoes() {
					count.Add(1)
					continue
				}
				check(s.socket.SetReadDeadline(time.Now().Add(time.Second)))
				switch n, err := s.socket.Read(in); {
				case errors.Is(err, os.ErrDeadlineExceeded): // the datagram or its echo was lost
				case err != nil:
					log.Fatal(err)
				case n < payload:
					log.Fatalf("the echo has %d bytes", n)
				default:
					count.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return result{Count: count.Load(), Seconds: time.Since(begin).Seconds()}
}
