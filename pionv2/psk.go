// SPDX-License-Identifier: MIT

package pionv2

import (
	"context"
	"errors"
	"slices"

	"github.com/pion/dtls/v2"
)

// errOwnPSK is an error that no handshake gets: each has a PSK callback of its own.
var errOwnPSK = errors.New("pionv2: no handshake asks this PSK callback")

// movePSK moves the PSK callback of a dtls.Config to cfg, where dtlsserver calls it. What
// is left in config has pion enable its PSK suites. Both are the caller's copies.
func movePSK(config *dtls.Config, cfg *Config) error {
	switch psk := config.PSK; {
	case psk != nil && cfg.PSK != nil:
		return errors.New("pionv2: both dtls.Config.PSK and Config.PSK are set: want one of them")
	case psk != nil:
		cfg.PSK = func(_ context.Context, r PSKRequest) ([]byte, error) { return psk(r.Identity) }
	case cfg.PSK == nil:
		return nil
	}
	config.PSK = func([]byte) ([]byte, error) { return nil, errOwnPSK }
	if config.PSKIdentityHint == nil && slices.Contains(config.CipherSuites, dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256) {
		// In a ServerKeyExchange without a hint pion leaves out the hint's length too,
		// which ECDHE_PSK needs (RFC 5489 section 2). With an empty hint pion sends a
		// ServerKeyExchange for the plain PSK suites as well, which RFC 4279 section 5.2
		// has clients ignore. Without such a suite a nil hint stays: then that message is
		// omitted (RFC 4279 section 2).
		config.PSKIdentityHint = []byte{}
	}
	return nil
}
