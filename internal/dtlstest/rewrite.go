// SPDX-License-Identifier: MIT

package dtlstest

import (
	"net"
	"sync/atomic"

	"github.com/go-dsm/dsm/internal/record"
)

// rewriter is a transport whose Write is another.
type rewriter struct {
	net.Conn
	write func(datagram []byte) error
}

func (c *rewriter) Write(p []byte) (int, error) {
	if err := c.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Rewrite returns a client's transport over conn. For each datagram of the client it
// calls rewrite, which sends what it wants with send: the datagram, others, or
// nothing.
func Rewrite(conn net.Conn, rewrite func(datagram []byte, send func(datagram []byte) error) error) net.Conn {
	send := func(datagram []byte) error {
		_, err := conn.Write(datagram)
		return err
	}
	return &rewriter{conn, func(datagram []byte) error { return rewrite(datagram, send) }}
}

// RewriteRecords returns a client's transport over conn that replaces each record of
// the client by the bytes that rewrite returns. They stay in one datagram; nothing is
// sent if nothing is left.
func RewriteRecords(conn net.Conn, rewrite func(r record.Record) ([]byte, error)) net.Conn {
	return Rewrite(conn, func(datagram []byte, send func([]byte) error) error {
		var out []byte
		for _, r := range Records(datagram) {
			raw, err := rewrite(r)
			if err != nil {
				return err
			}
			out = append(out, raw...)
		}
		if len(out) == 0 {
			return nil
		}
		return send(out)
	})
}

// LastFlightBackwards returns a client's transport over conn that sends the records of
// the client's last flight one by one, the last one first.
func LastFlightBackwards(conn net.Conn) net.Conn {
	return Rewrite(conn, func(datagram []byte, send func([]byte) error) error {
		if !Has(datagram, record.TypeHandshake, true) {
			return send(datagram)
		}
		records := Records(datagram)
		for i := len(records) - 1; i >= 0; i-- {
			if err := send(records[i].Raw); err != nil {
				return err
			}
		}
		return nil
	})
}

// Stall returns a client's transport over conn that sends two datagrams and no more:
// the ClientHello, and the ClientHello with the cookie. The client has then shown its
// address and falls silent.
func Stall(conn net.Conn) net.Conn {
	var sent atomic.Int32
	return Rewrite(conn, func(datagram []byte, send func([]byte) error) error {
		if sent.Add(1) > 2 {
			return nil
		}
		return send(datagram)
	})
}
