// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/pion/dtls/v2"
)

const (
	demoSlots   = 3
	demoClients = 5
	// demoPatience bounds the time of each step.
	demoPatience = 10 * time.Second
	// demoPause is the time between two steps in a terminal, so that people can read
	// them.
	demoPause = 700 * time.Millisecond
)

// demonstration is a server with its clients. It draws the server's table after each
// step.
type demonstration struct {
	out     io.Writer
	live    bool // out is a terminal: each picture is drawn over the last one
	server  *server
	options options
	clients []*dtls.Conn
	names   map[netip.AddrPort]string
	step    int
}

// demo runs the steps. An error says which of them had another outcome than expected.
func demo(ctx context.Context, o options, out io.Writer) error {
	o.listen, o.slots, o.handshakes = "127.0.0.1:0", demoSlots, 1
	s, err := start(o, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	d := &demonstration{out: out, live: isTerminal(out), server: s, options: o, names: map[netip.AddrPort]string{}}
	err = d.run(ctx)
	for _, c := range d.clients {
		_ = c.Close()
	}
	s.close()
	return errors.Join(err, <-served)
}

func (d *demonstration) run(ctx context.Context) error {
	for i := range demoSlots {
		if err := d.connect(i, fmt.Sprintf("client %d connects", i+1)); err != nil {
			return err
		}
		d.pause(ctx)
	}
	if err := d.talk(0); err != nil {
		return err
	}
	d.show("client 1 talks, and is the newest now")
	d.pause(ctx)

	// Each newcomer evicts the least recently used session. That is never the session
	// of client 1, which keeps talking.
	for i, victim := range []int{1, 2} {
		newcomer := demoSlots + i
		text := fmt.Sprintf("client %d connects: no slot is free, so client %d is evicted and gets close_notify", newcomer+1, victim+1)
		if err := d.connect(newcomer, text); err != nil {
			return err
		}
		if err := d.closed(victim); err != nil {
			return err
		}
		d.pause(ctx)
		if err := d.talk(0); err != nil {
			return err
		}
		d.show("client 1 talks")
		d.pause(ctx)
	}

	stats := d.server.listener.Stats()
	if stats.Established != demoSlots || stats.Evicted != demoClients-demoSlots {
		return fmt.Errorf("the table ends with %+v", stats)
	}
	fmt.Fprintf(d.out, "%d clients, %d slots: %d sessions, %d evicted, none of them the one that kept talking.\n",
		demoClients, demoSlots, stats.Established, stats.Evicted)
	return nil
}

func (d *demonstration) connect(i int, text string) error {
	udp, err := net.DialUDP("udp", nil, d.server.listener.Addr().(*net.UDPAddr))
	if err != nil {
		return err
	}
	peer, _ := dsm.PeerOf(udp.LocalAddr())
	d.names[peer] = fmt.Sprintf("client %d", i+1)
	client, err := dtls.Client(udp, dtlsConfig(d.options))
	if err != nil {
		_ = udp.Close()
		return fmt.Errorf("%s: %w", text, err)
	}
	d.clients = append(d.clients, client)
	if err := d.talk(i); err != nil { // after an echo the session is in the table
		return err
	}
	d.show(text)
	return nil
}

// talk sends a line and waits for its echo.
func (d *demonstration) talk(i int) error {
	line := fmt.Sprintf("hello from client %d", i+1)
	c := d.clients[i]
	_ = c.SetDeadline(time.Now().Add(demoPatience))
	if _, err := c.Write([]byte(line)); err != nil {
		return fmt.Errorf("client %d: %w", i+1, err)
	}
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	if err != nil {
		return fmt.Errorf("client %d waits for its echo: %w", i+1, err)
	}
	if string(buf[:n]) != line {
		return fmt.Errorf("client %d sent %q and got %q", i+1, line, buf[:n])
	}
	return nil
}

// closed waits until the server has closed a client's session.
func (d *demonstration) closed(i int) error {
	c := d.clients[i]
	_ = c.SetDeadline(time.Now().Add(time.Second))
	n, err := c.Read(make([]byte, 100))
	switch {
	case errors.Is(err, io.EOF):
		fmt.Fprintf(d.out, "client %d: closed by the server\n\n", i+1)
	default:
		return fmt.Errorf("client %d was not closed: read %d bytes, %v", i+1, n, err)
	}
	return nil
}

// show draws the table below a text.
func (d *demonstration) show(text string) {
	table := d.server.table
	rows := make([]string, table.MaxSlots())
	for i := range rows {
		rows[i] = fmt.Sprintf("%d\t-\t-\t-\t", i)
	}
	age, held := 0, table.MaxSlots()-table.AvailableSlots()
	for session, state := range table.All() {
		age++
		last := fmt.Sprintf("%d of %d", age, held)
		switch age {
		case held:
			last += ", newest"
		case 1:
			last += ", oldest"
		}
		slot := session.Value.Slot()
		rows[slot] = fmt.Sprintf("%d\t%s %v\t%v\t%s\t", slot, d.names[session.Peer], session.Peer, state, last)
	}

	d.step++
	if d.live {
		fmt.Fprint(d.out, "\x1b[H\x1b[2J") // home, clear
	}
	fmt.Fprintf(d.out, "%d. %s\n", d.step, text)
	w := tabwriter.NewWriter(d.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "slot\tpeer\tstate\tlast use\t")
	fmt.Fprintln(w, strings.Join(rows, "\n"))
	_ = w.Flush()
	fmt.Fprintf(d.out, "%d of %d slots free, one of them for the next handshake\n\n", table.AvailableSlots(), table.MaxSlots())
}

func (d *demonstration) pause(ctx context.Context) {
	if !d.live {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(demoPause):
	}
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
