// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-dsm/dsm/dsmdebug"
	"github.com/go-dsm/dsm/pionv2"
)

// scrapeEvery is the interval at which the counts are read, as by Prometheus.
const scrapeEvery = 5 * time.Second

// watch serves a page of a listener, and has a viewer look at it: the viewer reads the stream,
// and gets the picture of the slots each time that there is a new one. It is in the server's
// process, so what the viewer takes counts as the server's.
func watch(l *pionv2.Listener) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	url := fmt.Sprintf("http://%s/", socket.Addr())
	go func() { check(http.Serve(socket, dsmdebug.New(l))) }()
	go view(url)
	go func() {
		for range time.Tick(scrapeEvery) {
			l.Stats()
		}
	}()
}

// restoreSessions returns a hook that restores n sessions, as if a server had saved them. They
// are like the one that it sets.
func restoreSessions(n int, one *oneSession) func(*pionv2.Listener) error {
	return func(l *pionv2.Listener) error {
		dir, err := os.MkdirTemp("", "dsm-wire")
		check(err)
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "sessions")
		*one = oneOf(dtlsConfig(), dtlsConfig(), pionv2.Config{})
		one.writeSnapshot(path, n)
		stats, err := l.RestoreFile(context.Background(), path, saveKey)
		if err == nil && stats.Restored != n {
			err = fmt.Errorf("restored: %+v", stats)
		}
		return err
	}
}

func view(url string) {
	fetch(url)
	fetch(url + "page.js")
	fetch(url + "style.css")
	stream, err := http.Get(url + "events")
	check(err)
	in := bufio.NewScanner(stream.Body)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		if strings.Contains(in.Text(), `"field":`) {
			fetch(url + "field-light.png")
		}
	}
	check(in.Err())
}

func fetch(url string) {
	response, err := http.Get(url)
	check(err)
	_, err = io.Copy(io.Discard, response.Body)
	check(err)
	check(response.Body.Close())
}
