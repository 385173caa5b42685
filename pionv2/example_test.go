// SPDX-License-Identifier: MIT

package pionv2_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
)

// dtlsConfig is for the server, and in these examples for the clients.
var dtlsConfig = &dtls.Config{
	PSK: func(identity []byte) ([]byte, error) {
		if string(identity) != "device" {
			return nil, errors.New("no such device")
		}
		return []byte("secret secret 12"), nil
	},
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

// echo is a handler of Listener.Serve.
func echo(c *pionv2.Conn, datagram []byte) { _, _ = c.Write(datagram) }

// A server that accepts sessions and has a goroutine for each.
func ExampleListen() {
	listener, err := pionv2.Listen("udp", "127.0.0.1:0", dtlsConfig, pionv2.Config{
		Sessions:    1000,
		IdleTimeout: time.Hour,
	})
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

// A server without a goroutine for each session.
func ExampleListen_serve() {
	listener, err := pionv2.Listen("udp", "127.0.0.1:0", dtlsConfig, pionv2.Config{Sessions: 1000})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()

	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() {
		served <- listener.Serve(ctx, func(c *pionv2.Conn, datagram []byte) {
			_, _ = fmt.Fprintf(c, "%s, %s", datagram, c.Identity().PSKIdentity)
		})
	}()

	fmt.Println(ask(listener.Addr(), "hello", dtlsConfig))
	stop()
	fmt.Println(<-served)
	// Output:
	// hello, device
	// context canceled
}

// Two tenants of one server have devices of the same identity. The server name that the
// client asks for says whose key is to be used.
func ExampleListen_tenants() {
	keys := map[string]map[string]string{ // by server name and identity
		"a.example": {"device": "secret of tenant a"},
		"b.example": {"device": "secret of tenant b"},
	}
	listener, err := pionv2.Listen("udp", "127.0.0.1:0", &dtls.Config{CipherSuites: dtlsConfig.CipherSuites}, pionv2.Config{
		PSK: func(_ context.Context, r pionv2.PSKRequest) ([]byte, error) {
			return []byte(keys[r.ServerName][string(r.Identity)]), nil // no key: the identity is unknown
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	go func() { _ = listener.Serve(context.Background(), echo) }()

	for _, serverName := range []string{"a.example", "b.example"} {
		client := *dtlsConfig
		client.ServerName = serverName
		client.PSK = func([]byte) ([]byte, error) { return []byte(keys[serverName]["device"]), nil }
		fmt.Println(ask(listener.Addr(), "hello of "+serverName, &client))
	}
	// Output:
	// hello of a.example
	// hello of b.example
}

// A client comes back by an abbreviated handshake, which takes less time and fewer
// bytes. With a resume.Backend, several servers can share the store.
func ExampleListen_resumption() {
	store, err := resume.New(resume.Config{Lifetime: 24 * time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := pionv2.Listen("udp", "127.0.0.1:0", dtlsConfig, pionv2.Config{Resumption: store})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	go func() {
		_ = listener.Serve(context.Background(), func(c *pionv2.Conn, datagram []byte) {
			if !c.Resumed() {
				if err := c.SetSessionData(datagram); err != nil {
					log.Println(err)
				}
			}
			_, _ = fmt.Fprintf(c, "resumed: %t", c.Resumed())
		})
	}()

	clientConfig := *dtlsConfig
	clientConfig.SessionStore = new(clientStore)
	fmt.Println(ask(listener.Addr(), "hello", &clientConfig))
	fmt.Println(ask(listener.Addr(), "hello again", &clientConfig))
	// Output:
	// resumed: false
	// resumed: true
}

// clientStore keeps the session of a client.
type clientStore struct{ session dtls.Session }

func (s *clientStore) Set(_ []byte, session dtls.Session) error { s.session = session; return nil }
func (s *clientStore) Get([]byte) (dtls.Session, error)         { return s.session, nil }
func (s *clientStore) Del([]byte) error                         { s.session = dtls.Session{}; return nil }

// Shutdown admits nobody any more and waits until the clients have ended their sessions.
func ExampleListen_shutdown() {
	listener, err := pionv2.Listen("udp", "127.0.0.1:0", dtlsConfig, pionv2.Config{
		IdleTimeout: time.Second, // a client that has vanished does not hold up Shutdown for longer
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = listener.Serve(context.Background(), echo) }()
	fmt.Println(ask(listener.Addr(), "hello", dtlsConfig))

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fmt.Println(listener.Shutdown(ctx))
	fmt.Println(errors.Is(listener.Close(), net.ErrClosed))
	// Output:
	// hello
	// <nil>
	// true
}

// Two listeners have one table: memory is bounded for both together. Each evicts only
// its own sessions.
func ExampleListen_sharedTable() {
	table, err := dsm.New[*pionv2.Peer](1200)
	if err != nil {
		log.Fatal(err)
	}
	for _, sessions := range []int{900, 100} {
		listener, err := pionv2.Listen("udp", "127.0.0.1:0", dtlsConfig, pionv2.Config{
			Table:      table,
			Sessions:   sessions,
			Handshakes: 100,
		})
		if err != nil {
			log.Fatal(err)
		}
		defer listener.Close()
		go func() { _ = listener.Serve(context.Background(), echo) }()
		fmt.Println(ask(listener.Addr(), "hello", dtlsConfig))
	}
	fmt.Println(table.MaxSlots(), "slots")
	// Output:
	// hello
	// hello
	// 1200 slots
}

// The socket exists already. It could also be inherited: see net.FilePacketConn.
func ExampleNewListener() {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener, err := pionv2.NewListener([]net.PacketConn{socket}, dtlsConfig, pionv2.Config{Sessions: 1000})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close() // closes the socket, too
	go func() { _ = listener.Serve(context.Background(), echo) }()

	fmt.Println(ask(socket.LocalAddr(), "hello", dtlsConfig))
	// Output: hello
}

// A server saves its sessions and closes its listener, and the next one goes on with them: the
// client notices nothing. What a client sends between the two listeners would wait for the
// second one if both had the same socket: see Listener.Files.
func ExampleListener_SaveFile() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sessions")
	key := pionv2.Key{ID: 1}
	_, _ = rand.Read(key.Secret[:]) // a real server keeps its key

	listener, err := pionv2.Listen("udp", "127.0.0.1:0", dtlsConfig, pionv2.Config{})
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = listener.Serve(ctx, echo) }()
	address := listener.Addr()
	client, err := dtls.Dial("udp", address.(*net.UDPAddr), dtlsConfig)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	buf := make([]byte, 1500)
	echoed := func(text string) {
		if _, err := client.Write([]byte(text)); err != nil {
			log.Fatal(err)
		}
		n, err := client.Read(buf)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", buf[:n])
	}
	echoed("before")

	if _, err := listener.SaveFile(ctx, path, key); err != nil {
		log.Fatal(err)
	}
	next, err := pionv2.Listen("udp", address.String(), dtlsConfig, pionv2.Config{
		Restore: func(l *pionv2.Listener) error {
			stats, err := l.RestoreFile(ctx, path, key)
			fmt.Println(stats.Restored, "restored")
			return err
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer next.Close()
	go func() { _ = next.Serve(ctx, echo) }()
	echoed("after")
	// Output:
	// before
	// 1 restored
	// after
}
