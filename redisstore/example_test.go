// SPDX-License-Identifier: MIT

package redisstore_test

import (
	"crypto/tls"
	"encoding/hex"
	"log"
	"os"

	"github.com/go-dsm/dsm/redisstore"
	"github.com/go-dsm/dsm/resume"
	"github.com/redis/go-redis/v9"
)

// All servers with the same key and the same Redis resume each other's sessions.
func Example() {
	options := redisstore.Options("redis.example.org:6379")
	options.Password = os.Getenv("REDIS_PASSWORD")
	options.TLSConfig = &tls.Config{}
	client := redis.NewUniversalClient(options)
	defer func() { _ = client.Close() }() // after the last handshake of the listener

	key := redisstore.Key{ID: 1}
	if n, err := hex.Decode(key.Secret[:], []byte(os.Getenv("RESUME_KEY"))); err != nil || n != len(key.Secret) {
		log.Fatal("RESUME_KEY is not 64 hex digits")
	}
	backend, err := redisstore.New(redisstore.Config{Client: client, Keys: []redisstore.Key{key}})
	if err != nil {
		log.Fatal(err)
	}
	store, err := resume.New(resume.Config{Backend: backend})
	if err != nil {
		log.Fatal(err)
	}
	_ = store // set it as Resumption in the listener's Config
}
