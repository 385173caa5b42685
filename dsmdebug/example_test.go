// SPDX-License-Identifier: MIT

package dsmdebug_test

import (
	"crypto/sha256"
	"crypto/subtle"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/go-dsm/dsm/dsmdebug"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/pion/dtls/v2"
)

// authenticated asks for a user and a password. The hashes have one length, so that the time of the
// comparison says nothing of the password's length.
func authenticated(user, password string, next http.Handler) http.Handler {
	wantUser, wantPassword := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(password))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		gotUser, gotPassword := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(password))
		if subtle.ConstantTimeCompare(gotUser[:], wantUser[:])&subtle.ConstantTimeCompare(gotPassword[:], wantPassword[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="dsm", charset="UTF-8"`)
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// The page of a listener, over TLS and with a password.
func Example() {
	listener, err := pionv2.Listen("udp", "127.0.0.1:5684", &dtls.Config{
		PSK:          func([]byte) ([]byte, error) { return []byte("a key of sixteen"), nil },
		CipherSuites: []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256},
	}, pionv2.Config{Sessions: 10_000})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()

	page := dsmdebug.New(listener)
	defer page.Close()
	mux := http.NewServeMux()
	mux.Handle("/debug/dsm/", authenticated("operator", os.Getenv("DSM_PAGE_PASSWORD"), page))
	server := &http.Server{
		Addr: "127.0.0.1:8443", Handler: mux,
		ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
	}
	log.Print(server.ListenAndServeTLS("cert.pem", "key.pem"))
}
