// SPDX-License-Identifier: MIT

package pionv2_test

import (
	"context"
	"fmt"
	"net"

	"github.com/go-dsm/dsm/pionv2"
	"github.com/pion/dtls/v2"
)

func psk() *dtls.Config {
	return &dtls.Config{
		PSK:             func([]byte) ([]byte, error) { return []byte("secret secret 12"), nil },
		PSKIdentityHint: []byte("device"),
		CipherSuites:    []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM_8},
	}
}

// A server without a goroutine for each session.
func ExampleListener_Serve() {
	listener, err := pionv2.Listen("udp", "127.0.0.1:0", psk(), pionv2.Config{Sessions: 1000})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	served := make(chan error, 1)
	go func() {
		served <- listener.Serve(ctx, func(c *pionv2.Conn, datagram []byte) {
			_, _ = c.Write(datagram)
		})
	}()

	client, err := dtls.Dial("udp", listener.Addr().(*net.UDPAddr), psk())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	if _, err := client.Write([]byte("hello")); err != nil {
		fmt.Println(err)
	}
	buf := make([]byte, 100)
	n, err := client.Read(buf)
	fmt.Println(string(buf[:n]), err)
	stop()
	fmt.Println(<-served)
	// Output:
	// hello <nil>
	// context canceled
}
