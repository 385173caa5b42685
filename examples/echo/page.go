// SPDX-License-Identifier: MIT

package main

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/go-dsm/dsm/dsmdebug"
	"github.com/go-dsm/dsm/pionv2"
)

// servePage serves the page that shows a listener, on a mux of its own, until stop is called.
//
// The page shows the addresses and identities of clients. It belongs behind authentication and TLS:
// see the example of package dsmdebug. Here whoever reaches the address sees it.
func servePage(listener *pionv2.Listener, address string, log *slog.Logger) (stop func(), err error) {
	socket, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	page := dsmdebug.New(listener)
	mux := http.NewServeMux()
	mux.Handle("/", onlyByAddress(page))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(socket) // until stop
	}()
	log.Info("page", "url", "http://"+socket.Addr().String()+"/")
	return func() {
		page.Close()
		_ = server.Close()
		<-served
	}, nil
}

// onlyByAddress refuses requests for another host than localhost or an IP address. Otherwise a web
// site could have its own name lead here, and read the page in the browser of whoever visits it.
func onlyByAddress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if len(host) > 1 && host[0] == '[' { // an IPv6 address without a port
			host = host[1 : len(host)-1]
		}
		if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
			http.Error(w, "enter the IP address of this server instead of a name", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
