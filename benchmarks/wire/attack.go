// SPDX-License-Identifier: MIT

package main

import (
	"log"
	"net"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
)

// forgedSequence is the sequence number of every forged record. It is above those of
// the plaintext records that the client sends in its handshake.
const forgedSequence = 7

// stallHandshakes begins 1000 handshakes that do not go on after the cookie, each from an address
// of its own. The first 200 addresses also send a malformed record before.
func stallHandshakes() {
	for i := range 1000 {
		socket := dial(&net.UDPAddr{IP: net.IPv4(127, 0, byte(2+i/200), byte(1+i%200))})
		if i < 200 {
			_, err := socket.Write(dtlstest.Plaintext(record.TypeHandshake, forgedSequence, 1))
			check(err)
		}
		c := askForCookie(socket)
		returnCookie(c)
		_ = c.Close()
	}
}

// timeEchoes exchanges one datagram at a time and measures the latency of each echo. If
// attack is set, forged records are sent from the client's address meanwhile.
func timeEchoes(s *session, duration time.Duration, attack bool) result {
	done := make(chan struct{})
	var wg sync.WaitGroup
	if attack {
		wg.Go(func() { forgeRecords(s.socket, duration, done) })
	}
	var latencies []time.Duration
	out, in, text := make([]byte, 0, 256), make([]byte, 2048), make([]byte, payload)
	for end := time.Now().Add(duration); time.Now().Before(end); {
		sealed, err := s.records.Seal(out, record.TypeApplicationData, text)
		check(err)
		check(s.socket.SetReadDeadline(time.Now().Add(time.Second)))
		begin := time.Now()
		_, err = s.socket.Write(sealed)
		check(err)
		n, err := s.socket.Read(in)
		check(err)
		if n < payload {
			log.Fatalf("the echo has %d bytes", n)
		}
		latencies = append(latencies, time.Since(begin))
	}
	close(done)
	wg.Wait()
	return percentiles(latencies)
}

// forgeRecords sends forged plaintext records every 10 ms until done is closed: an
// alert, application data, a Finished, and fragments of ClientHellos that are never
// complete. Over the duration there are 3000 such fragments, each of another message.
func forgeRecords(socket *net.UDPConn, duration time.Duration, done <-chan struct{}) {
	const interval = 10 * time.Millisecond
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	fragments := int(3000 * interval / duration)
	for messageSeq := uint16(0); ; {
		datagrams := [][]byte{
			dtlstest.Plaintext(record.TypeAlert, forgedSequence, record.LevelWarning, record.CloseNotify),
			dtlstest.Plaintext(record.TypeApplicationData, forgedSequence, 'x'),
			dtlstest.Plaintext(record.TypeHandshake, forgedSequence, dtlstest.Message(record.MessageFinished, 1, 0)...),
		}
		for range fragments {
			messageSeq++
			datagrams = append(datagrams, clientHelloFragment(messageSeq))
		}
		for _, d := range datagrams {
			_, err := socket.Write(d)
			check(err)
		}
		select {
		case <-ticker.C:
		case <-done:
			return
		}
	}
}

// clientHelloFragment returns the first 1088 bytes of a ClientHello of 4096 bytes.
func clientHelloFragment(messageSeq uint16) []byte {
	const length, size = 4096, 1088
	header := dtlstest.FragmentHeader(record.MessageClientHello, messageSeq, length, 0, size)
	return dtlstest.Plaintext(record.TypeHandshake, forgedSequence, append(header, make([]byte, size)...)...)
}
