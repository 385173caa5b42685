// SPDX-License-Identifier: MIT

package dtlstest

import (
	"context"
	"time"

	"github.com/pion/dtls/v2"
)

// Identity is the PSK identity of the clients of PSKConfig.
const Identity = "device"

// FlightInterval is after how long the configurations of this package repeat a flight.
// It is short because pion's Close waits for it.
const FlightInterval = 50 * time.Millisecond

// PSKConfig returns a configuration for a client or a server with a pre-shared key. It
// has the cipher suite Suite, unless others are given.
func PSKConfig(key string, suites ...dtls.CipherSuiteID) *dtls.Config {
	if len(suites) == 0 {
		suites = []dtls.CipherSuiteID{dtls.CipherSuiteID(Suite)}
	}
	return WithTimeout(&dtls.Config{
		PSK:             func([]byte) ([]byte, error) { return []byte(key), nil },
		PSKIdentityHint: []byte(Identity),
		CipherSuites:    suites,
		FlightInterval:  FlightInterval,
	}, Patience)
}

// WithTimeout bounds the time of the handshake and returns config.
func WithTimeout(config *dtls.Config, limit time.Duration) *dtls.Config {
	config.ConnectContextMaker = func() (context.Context, func()) {
		return context.WithTimeout(context.Background(), limit)
	}
	return config
}
