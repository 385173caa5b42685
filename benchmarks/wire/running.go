// SPDX-License-Identifier: MIT

package main

import (
	"errors"
	"time"

	"github.com/go-dsm/dsm/pionv2"
)

// staysRunning reports whether each server stays for all rounds.
func staysRunning() bool { return *what == "journal" || *what == "watched" }

// running is a server with its client, whose sessions are used in each round.
type running struct{ server, client *process }

// measureRunning measures a server in one round. The first round starts it. The difference
// that a journal or a viewer makes is so small that rounds are to follow one another at once: while one
// server is measured the others are idle.
func measureRunning(servers map[string]running, name string, n int) ([]figure, error) {
	r, ok := servers[name]
	if !ok {
		var addr string
		var err error
		if r.server, addr, err = startServer(name, n); err != nil {
			return nil, err
		}
		if r.client, err = startClient(name, addr, n); err != nil {
			r.server.end()
			return nil, err
		}
		servers[name] = r
		time.Sleep(2 * pionv2.DefaultJournalInterval) // the new sessions are written
	}
	var before, after usage
	var done result
	err := r.server.request(requestUsage, &before)
	if err == nil {
		err = r.client.request(requestStart, &done)
	}
	time.Sleep(2 * pionv2.DefaultJournalInterval) // their last use is written
	if err = errors.Join(err, r.server.request(requestUsage, &after)); err != nil {
		return nil, err
	}
	return figuresOf(done, before, after), nil
}

func (r running) end() {
	r.client.end()
	r.server.end()
}
