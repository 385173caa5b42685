// SPDX-License-Identifier: MIT

package interop

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"math/rand/v2"
	"net"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
)

// keep gives strangers a datagram of a client whose session has begun after a crash. It reports
// false if the server does not know the session any more, and tells its client with the next
// record. That record is to come from the client: whoever sends it is told.
func (s *soak) keep(datagram []byte, began *soakCrash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lastCrash.Load().closes != began.closes {
		return false
	}
	s.keepLocked(bytes.Clone(datagram))
	return true
}

func (s *soak) keepLocked(datagram []byte) {
	if len(s.captured) < keptRecords {
		s.captured = append(s.captured, datagram)
	} else {
		s.captured[rand.IntN(keptRecords)] = datagram
	}
}

// steal is keep for a datagram that has not come to the server. The strangers send it soon, as
// a rule before the client sends another one.
func (s *soak) steal(datagram []byte, began *soakCrash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lastCrash.Load().closes != began.closes {
		return false
	}
	s.stolen = append(s.stolen, bytes.Clone(datagram))
	return true
}

// takeStolen returns a datagram that has not come to the server, or nil.
func (s *soak) takeStolen() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.stolen)
	if n == 0 {
		return nil
	}
	datagram := s.stolen[n-1]
	s.stolen = s.stolen[:n-1]
	s.keepLocked(datagram)
	return datagram
}

// kept returns one of the captured datagrams, or nil.
func (s *soak) kept() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.captured) == 0 {
		return nil
	}
	return s.captured[rand.IntN(len(s.captured))]
}

// forgetCapturedLocked has strangers forget what they have captured.
func (s *soak) forgetCapturedLocked() { s.captured, s.stolen = nil, nil }

// runStrangers sends strangers' datagrams until ctx has ended.
func (s *soak) runStrangers(ctx context.Context) {
	var sockets []*net.UDPConn
	for range 8 {
		socket, err := net.DialUDP("udp", nil, s.server.addr.(*net.UDPAddr))
		s.require(err)
		defer socket.Close()
		sockets = append(sockets, socket)
	}
	ticker := time.NewTicker(time.Second / strangersRate)
	defer ticker.Stop()
	duringRestart := 0
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if s.server.restarts.Load()%2 == 0 {
			duringRestart = 0
		} else if duringRestart++; duringRestart > maxDuringRestart {
			continue
		}
		s.sendStrangers(n, sockets[rand.IntN(len(sockets))])
	}
}

// sendStrangers sends the n-th datagram of strangers. During a crash it waits, so that what it
// sends was captured after the crash.
func (s *soak) sendStrangers(n int, socket *net.UDPConn) {
	s.roaming.RLock()
	defer s.roaming.RUnlock()
	s.done.strangers.Add(1)
	datagram, forged := s.strangersDatagram(n)
	if forged {
		s.roamers[rand.IntN(len(s.roamers))].relay.Forge(datagram)
		return
	}
	_, _ = socket.Write(datagram)
}

// strangersDatagram returns the n-th datagram of strangers, and whether it comes from a
// client's address.
func (s *soak) strangersDatagram(n int) (datagram []byte, forged bool) {
	if b := s.takeStolen(); b != nil {
		return b, false
	}
	hello := dtlstest.ClientHello{Random: randomHello(n), Suites: []record.SuiteID{record.SuiteID(gcm)}, Extensions: []byte{0, 23, 0, 0}}
	switch n % 7 {
	case 0:
		return hello.Datagram(), false
	case 1: // with a made-up cookie
		hello.MessageSeq, hello.Sequence, hello.Cookie = 1, 1, randomBytes(20)
		return hello.Datagram(), false
	case 2: // with a made-up connection ID
		b := dtlstest.Unauthentic(record.TypeConnectionID, uint64(n), 40)
		id := append([]byte("soak"), randomBytes(16)...)
		return append(append(b[:record.HeaderSize-2:record.HeaderSize-2], id...), b[record.HeaderSize-2:]...), false
	case 3: // a captured one, with another end
		if b := bytes.Clone(s.kept()); b != nil {
			b[len(b)-1]++
			return b, false
		}
	case 4: // an alert in a client's name
		return dtlstest.Plaintext(record.TypeAlert, uint64(n), 2, 40), true
	case 5: // a protected record in a client's name
		return dtlstest.Unauthentic(record.TypeApplicationData, uint64(n), 40), true
	}
	if b := s.kept(); b != nil {
		return b, false
	}
	return hello.Datagram(), false
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = crand.Read(b) // which never fails
	return b
}
