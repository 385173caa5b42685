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

// The sessions of all servers that have this key and this Redis.
func Example() {
	options := redisstore.Options("redis.example.org:6379")
	options.Password = os.Getenv("REDIS_PASSWORD")
	options.TLSConfig = &tls.Config{}
	client := redis.NewUniversalClient(options)
	defer func() { _ = client.Close() }() // after the listener's last handshake

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
	_ = store // it is for the listener
}
