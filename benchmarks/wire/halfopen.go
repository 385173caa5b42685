// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"log"
	"net"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
)

// measureHalfOpen measures n handshakes whose clients fall silent: before they have returned
// their cookie, and after it, when they have got the server's flight.
func measureHalfOpen(server *process, name, addr string, n int) ([]figure, error) {
	if err := warmUp(addr, time.Second); err != nil {
		return nil, err
	}
	time.Sleep(2 * time.Second) // the sessions have ended
	var before, asked, returned usage
	if err := server.request(requestCollect, &before); err != nil {
		return nil, err
	}
	client, err := startClient(name, addr, n)
	if err != nil {
		return nil, err
	}
	defer client.end()
	if err := server.request(requestCollect, &asked); err != nil {
		return nil, err
	}
	var done result
	if err := client.request(requestStart, &done); err != nil {
		return nil, err
	}
	if err := server.request(requestCollect, &returned); err != nil {
		return nil, err
	}
	if got := returned.HalfOpen - before.HalfOpen; returned.Answered > 0 && got != int64(n) {
		return nil, fmt.Errorf("%d handshakes are in progress, want %d", got, n)
	}
	each := func(before, after int64) float64 { return float64(after-before) / float64(n) }
	return []figure{
		{"bytes after the cookie", each(before.Heap+before.Stack, returned.Heap+returned.Stack)},
		{"of these heap", each(before.Heap, returned.Heap)},
		{"goroutines after the cookie", each(before.Goroutines, returned.Goroutines)},
		{"bytes before the cookie", each(before.Heap+before.Stack, asked.Heap+asked.Stack)},
		{"heap before the cookie", each(before.Heap, asked.Heap)},
		{"goroutines before the cookie", each(before.Goroutines, asked.Goroutines)},
	}, nil
}

// askForCookie sends the first ClientHello of a client, and waits for the answer.
func askForCookie(socket net.Conn) *dtlstest.ScriptedClient {
	config := dtlsConfig()
	if config.PSK == nil {
		log.Fatalf("-what %s: want a suite with a PSK", *what)
	}
	key, err := config.PSK(nil)
	check(err)
	c := dtlstest.NewScriptedClient(socket, string(key), record.SuiteID(config.CipherSuites[0]))
	c.SendHello()
	awaitMessage(c, record.MessageHelloVerifyRequest)
	return c
}

// returnCookie sends the second ClientHello, and waits for the server's flight.
func returnCookie(c *dtlstest.ScriptedClient) {
	c.SendHello()
	awaitMessage(c, record.MessageServerHelloDone)
}

func awaitMessage(c *dtlstest.ScriptedClient, kind uint8) {
	if !c.Await(dtlstest.Patience, func() bool { return c.Heard(kind) }) {
		log.Fatalf("no message %d, and %d alerts", kind, len(c.Server.Alerts))
	}
}
