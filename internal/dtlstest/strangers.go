// SPDX-License-Identifier: MIT

package dtlstest

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
)

// Strangers send first ClientHellos to a server, each with another random from another
// address, and never complete a handshake. Their fields are set before Run.
type Strangers struct {
	Network *Network
	Server  netip.AddrPort
	Hello   ClientHello // what all hellos have in common: see RecordHello
	Rate    int         // hellos a second
	// OneNetwork has all of them come from 203.0.113.0/24. Otherwise they come from
	// anywhere in 64.0.0.0/2.
	OneNetwork bool
	// ReturnCookies has each of them answer a HelloVerifyRequest with the right second
	// ClientHello. They need Network.SetUnclaimed for this.
	ReturnCookies bool
	// NameSessions has each hello name a made-up session.
	NameSessions bool
	// Repeat has every second datagram be a hello of a second ago, as a client repeats its
	// own: so half of Rate are new ones.
	Repeat bool
	Seed   uint64

	sent, returned atomic.Int64
}

// Sent returns how many first ClientHellos were sent, repeated ones included.
func (s *Strangers) Sent() int { return int(s.sent.Load()) }

// Returned returns how many cookies were returned.
func (s *Strangers) Returned() int { return int(s.returned.Load()) }

// strangersTick is the time between two bursts of hellos if there are many.
const strangersTick = time.Millisecond

// Run sends Rate hellos a second until ctx ends. It leaves no goroutine and no timer.
func (s *Strangers) Run(ctx context.Context) {
	if s.ReturnCookies {
		s.Network.SetUnclaimed(s.answer)
		defer s.Network.SetUnclaimed(nil)
	}
	first := s.firstHello()
	ticker := time.NewTicker(max(strangersTick, time.Second/time.Duration(s.Rate)))
	defer ticker.Stop()
	begin := time.Now()
	for {
		due := int64(time.Since(begin).Seconds()*float64(s.Rate)) + 1
		for number := s.sent.Load(); number < due; number++ {
			s.send(first, number)
			s.sent.Add(1)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// send sends the datagram with a number. buf is a first hello, which it changes.
func (s *Strangers) send(buf []byte, number int64) {
	stranger, sequence := number, byte(0)
	if s.Repeat {
		stranger = number / 2
		if number%2 == 1 {
			if stranger -= int64(s.Rate / 2); stranger < 0 {
				return // the first second
			}
			sequence = 1
		}
	}
	from := s.address(uint64(stranger))
	s.fill(buf, from)
	buf[sequenceEnd-1] = sequence
	s.Network.Inject(from, s.Server, buf)
}

// sequenceEnd is where the sequence number of a record ends.
const sequenceEnd = 11

// address returns the address of the stranger with a number: the same one for the same
// number, and no other has it.
func (s *Strangers) address(number uint64) netip.AddrPort {
	const firstPort, ports = 1024, 60000
	if s.OneNetwork {
		const hosts = 250
		host, port := 1+number%hosts, firstPort+number/hosts%ports
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(host)}), uint16(port))
	}
	// An odd factor permutes the numbers below 1<<30.
	n := uint32(number*0x9e3779b1+s.Seed)&(1<<30-1) | 1<<30
	var host [4]byte
	binary.BigEndian.PutUint32(host[:], n)
	return netip.AddrPortFrom(netip.AddrFrom4(host), uint16(firstPort+mix(number^s.Seed)%ports))
}

// owns reports whether an address can be that of a stranger.
func (s *Strangers) owns(addr netip.AddrPort) bool {
	host := addr.Addr().As4()
	if s.OneNetwork {
		return host[0] == 203 && host[1] == 0 && host[2] == 113
	}
	return host[0]>>6 == 1
}

// The place of the random in a datagram with a ClientHello, and of the session ID.
const (
	randomAt  = record.HeaderSize + record.HandshakeHeaderSize + 2
	sessionAt = randomAt + len(record.Random{}) + 1
)

// sessionIDSize is the size of pion's session IDs.
const sessionIDSize = 32

// firstHello returns the datagram that all first hellos are copies of.
func (s *Strangers) firstHello() []byte {
	hello := s.Hello
	hello.Sequence, hello.MessageSeq, hello.Cookie, hello.SessionID = 0, 0, nil, nil
	if s.NameSessions {
		hello.SessionID = make([]byte, sessionIDSize)
	}
	return hello.Datagram()
}

// fill gives a first hello the random and the session ID of the stranger at an address.
func (s *Strangers) fill(datagram []byte, from netip.AddrPort) {
	s.draw(datagram[randomAt:][:len(record.Random{})], from, 0)
	if s.NameSessions {
		s.draw(datagram[sessionAt:][:sessionIDSize], from, 1)
	}
}

// draw fills b with bytes that follow from an address, so that a stranger needs no memory.
func (s *Strangers) draw(b []byte, from netip.AddrPort, purpose uint64) {
	host := from.Addr().As4()
	x := s.Seed<<1 ^ purpose ^ uint64(binary.BigEndian.Uint32(host[:]))<<20 ^ uint64(from.Port())<<2
	for ; len(b) > 0; b = b[8:] {
		x += 0x9e3779b97f4a7c15
		binary.BigEndian.PutUint64(b, mix(x))
	}
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// answer returns the cookie of a HelloVerifyRequest.
func (s *Strangers) answer(d Datagram) {
	r, _, fault := record.Next(d.Payload)
	if fault != record.NoFault || r.Type != record.TypeHandshake || r.Epoch != 0 || !s.owns(d.To) {
		return
	}
	m, _, ok := record.NextHandshake(r.Fragment())
	if !ok || m.Type != record.MessageHelloVerifyRequest || len(m.Body) < 3 {
		return
	}
	hello := s.Hello
	hello.Sequence, hello.MessageSeq, hello.Cookie = 1, 1, m.Body[3:]
	s.draw(hello.Random[:], d.To, 0)
	if s.NameSessions {
		hello.SessionID = make([]byte, sessionIDSize)
		s.draw(hello.SessionID, d.To, 1)
	}
	s.returned.Add(1)
	s.Network.Inject(d.To, d.From, hello.Datagram())
}

// RecordHello returns what all first ClientHellos of a client of pion v2 have in common.
func RecordHello(config *dtls.Config) (ClientHello, error) {
	n := NewNetwork(0)
	defer n.Close()
	server := n.Listen(defaultServer)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = dtls.ClientWithContext(ctx, n.Dial(netip.AddrPort{}, defaultServer), config)
	}()
	buf := make([]byte, maxDatagram)
	size, err := server.Read(buf)
	cancel()
	<-done
	if err != nil {
		return ClientHello{}, err
	}
	return parseHelloTemplate(buf[:size])
}

var errNoHello = errors.New("dtlstest: not a ClientHello")

// parseHelloTemplate takes the cipher suites and the extensions from a ClientHello of
// pion.
func parseHelloTemplate(datagram []byte) (ClientHello, error) {
	r, _, fault := record.Next(datagram)
	if fault != record.NoFault {
		return ClientHello{}, errNoHello
	}
	parsed, ok := record.ParseClientHello(r)
	if !ok {
		return ClientHello{}, errNoHello
	}
	hello := ClientHello{Version: parsed.Version}
	b := datagram[randomAt+len(record.Random{}):]
	b = b[1+len(parsed.SessionID)+1+len(parsed.Cookie):]
	size := int(binary.BigEndian.Uint16(b))
	for at := 2; at < 2+size; at += 2 {
		hello.Suites = append(hello.Suites, record.SuiteID(binary.BigEndian.Uint16(b[at:])))
	}
	b = b[2+size:]
	if b = b[1+int(b[0]):]; len(b) >= 2 {
		hello.Extensions = append([]byte(nil), b[2:]...)
	}
	return hello, nil
}
