// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"os"
	"strconv"
)

// startServer starts a server, and returns its address too.
func startServer(name string, n int) (*process, string, error) {
	server, err := startServerProcess(name, n)
	if err != nil {
		return nil, "", err
	}
	var addr string
	if err := server.readReply(&addr); err != nil {
		server.end()
		return nil, "", err
	}
	return server, addr, nil
}

// startServerProcess starts a server that is to have n sessions.
func startServerProcess(name string, n int) (*process, error) {
	program, name, profileDir := programOf(name, os.Args[0])
	if name == "floor-c" {
		return startFloorC()
	}
	return startProgram(program, "-role", "server", "-servers", name, "-suite", *suite, "-what", *what,
		"-idle", strconv.Itoa(*idle), "-sessions", strconv.Itoa(n), "-seconds", fmt.Sprint(*seconds), "-slow", *slow, "-profile", profileDir)
}

// startClient starts the client of a measurement and waits until its sessions are
// established.
func startClient(name, addr string, n int) (*process, error) {
	return startReadyClient("-role", "client", "-servers", name, "-suite", *suite, "-what", *what,
		"-address", addr, "-sessions", strconv.Itoa(n), "-seconds", fmt.Sprint(*seconds), "-pace", fmt.Sprint(*pace),
		"-rate", fmt.Sprint(*rate), "-honest", strconv.Itoa(*honest), "-slow", *slow)
}

func startReadyClient(args ...string) (*process, error) {
	client, err := startProgram(os.Args[0], args...)
	if err != nil {
		return nil, err
	}
	var ready result
	if err := client.readReply(&ready); err != nil {
		client.end()
		return nil, err
	}
	return client, nil
}
