// SPDX-License-Identifier: MIT

package main

import (
	"net"

	"golang.org/x/net/ipv4"
)

// listenFloor starts a server that echoes datagrams without decrypting them, with the batches of
// x/net. It depends on no code of the listener, so it is the same for all commits. It drops
// ClientHellos, or answers each by as many bytes as a HelloVerifyRequest has.
func listenFloor(answersHellos bool) net.Addr {
	conn, err := net.ListenUDP("udp4", loopback())
	check(err)
	check(conn.SetReadBuffer(readBuffer))
	go serveFloor(ipv4.NewPacketConn(conn), answersHellos)
	return conn.LocalAddr()
}

func serveFloor(conn *ipv4.PacketConn, answersHellos bool) {
	const batch, size, answer = 32, 2048, 48
	messages, buffers := make([]ipv4.Message, batch), make([][]byte, batch)
	for i := range messages {
		buffers[i] = make([]byte, size)
		messages[i].Buffers = make([][]byte, 1)
	}
	for {
		for i := range messages {
			messages[i].Buffers[0] = buffers[i]
		}
		n, err := conn.ReadBatch(messages, 0)
		check(err)
		received.Add(int64(n))
		if !answersHellos && (!echoes() || *what == "hellos") {
			continue
		}
		for i := range messages[:n] {
			length := messages[i].N
			if answersHellos {
				length = min(answer, length)
			}
			messages[i].Buffers[0] = buffers[i][:length]
		}
		for sent := 0; sent < n; {
			m, err := conn.WriteBatch(messages[sent:n], 0)
			if err != nil {
				m = 1 // the first of the rest cannot be sent
			}
			sent += m
		}
	}
}
