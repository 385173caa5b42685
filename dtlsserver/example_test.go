// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
)

// keys are the pre-shared keys of the devices. A server looks them up by the identity
// that a client gives.
func keys(identity []byte) ([]byte, error) {
	if string(identity) != "device" {
		return nil, errors.New("no such device")
	}
	return []byte("secret secret 12"), nil
}

// dtlsConfig is for the server, and in these examples for the clients.
var dtlsConfig = &dtls.Config{
	PSK:             keys,
	PSKIdentityHint: []byte("device"),
	CipherSuites:    []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM_8},
}

// ask connects a client, sends a question and returns the answer.
func ask(server net.Addr, question string, config *dtls.Config) string {
	client, err := dtls.Dial("udp", server.(*net.UDPAddr), config)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte(question)); err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 1500)
	n, err := client.Read(buf)
	if err != nil {
		log.Fatal(err)
	}
	return string(buf[:n])
}

// A goroutine serves each session.
func ExampleListener_Accept() {
	listener, err := pionv2.Listen("udp", "127.0.0.1:0", dtlsConfig, pionv2.Config{Sessions: 1000})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()

	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // it wraps net.ErrClosed: the listener was closed
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 1500)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return // the session has ended
					}
					_, _ = conn.Write(buf[:n])
				}
			}()
		}
	}()

	fmt.Println(ask(listener.Addr(), "hello", dtlsConfig))
	// Output: hello
}

// Sessions need no goroutine. What the server knows of a session is in its Value.
func ExampleListener_Serve() {
	listener, err := pionv2.Listen("udp", "127.0.0.1:0", dtlsConfig, pionv2.Config{
		Sessions: 1000,
		OnEstablished: func(c *dtlsserver.Conn) {
			c.SetValue(string(c.Identity().PSKIdentity))
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()

	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() {
		served <- listener.Serve(ctx, func(c *dtlsserver.Conn, datagram []byte) {
			_, _ = fmt.Fprintf(c, "%s, %s", datagram, c.Value())
		})
	}()

	fmt.Println(ask(listener.Addr(), "hello", dtlsConfig))
	stop()
	fmt.Println(<-served)
	// Output:
	// hello, device
	// context canceled
}

// Clients have a while to end their sessions. Then the sessions are closed.
func ExampleListener_Shutdown() {
	listener, err := pionv2.Listen("udp", "127.0.0.1:0", dtlsConfig, pionv2.Config{})
	if err != nil {
		log.Fatal(err)
	}
	client, err := dtls.Dial("udp", listener.Addr().(*net.UDPAddr), dtlsConfig)
	if err != nil {
		log.Fatal(err)
	}
	conn, err := listener.AcceptConn(context.Background())
	if err != nil {
		log.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println(listener.Shutdown(ctx))
	<-conn.Done()
	fmt.Println("session", conn.EndReason())
	_, err = client.Read(make([]byte, 1500))
	fmt.Println("client:", err)
	_ = client.Close()
	// Output:
	// context deadline exceeded
	// session closed_by_us
	// client: EOF
}

// The sessions of a device whose key was withdrawn are closed.
func ExampleListener_Sessions() {
	listener, err := pionv2.Listen("udp", "127.0.0.1:0", dtlsConfig, pionv2.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	for range 2 {
		client, err := dtls.Dial("udp", listener.Addr().(*net.UDPAddr), dtlsConfig)
		if err != nil {
			log.Fatal(err)
		}
		defer client.Close()
		if _, err := listener.AcceptConn(context.Background()); err != nil {
			log.Fatal(err)
		}
	}

	for c := range listener.Sessions() { // least recently used first
		if string(c.Identity().PSKIdentity) == "device" {
			_ = c.Close()
		}
	}
	stats := listener.Stats()
	fmt.Println(stats.Established, "established,", stats.ClosedByUs, "closed")
	// Output: 0 established, 2 closed
}

// What the server has learned of a client is there again when the client's session is
// resumed.
func ExampleConn_SetSessionData() {
	store, err := resume.New(resume.Config{})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := pionv2.Listen("udp", "127.0.0.1:0", dtlsConfig, pionv2.Config{Resumption: store})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	go func() {
		_ = listener.Serve(context.Background(), func(c *dtlsserver.Conn, datagram []byte) {
			last := c.SessionData()
			if err := c.SetSessionData(datagram); err != nil {
				log.Println(err)
			}
			_, _ = fmt.Fprintf(c, "resumed: %t, last time: %q", c.Resumed(), last)
		})
	}()

	clientConfig := *dtlsConfig
	clientConfig.SessionStore = new(clientStore)
	fmt.Println(ask(listener.Addr(), "first", &clientConfig))
	fmt.Println(ask(listener.Addr(), "second", &clientConfig))
	// Output:
	// resumed: false, last time: ""
	// resumed: true, last time: "first"
}

// clientStore keeps the session of a client.
type clientStore struct{ session dtls.Session }

func (s *clientStore) Set(_ []byte, session dtls.Session) error { s.session = session; return nil }
func (s *clientStore) Get([]byte) (dtls.Session, error)         { return s.session, nil }
func (s *clientStore) Del([]byte) error                         { s.session = dtls.Session{}; return nil }
