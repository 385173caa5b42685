// SPDX-License-Identifier: MIT

package pionv4

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"

	"github.com/go-dsm/dsm/dtlsserver"
)

// Listen opens a UDP socket, and returns the listener of the DTLS sessions on it. network is
// "udp", "udp4" or "udp6". config is for the handshakes; an error names what in it is not
// supported. cfg says how many sessions there are and what becomes of them.
func Listen(network, address string, config Config, cfg dtlsserver.Config) (*dtlsserver.Listener, error) {
	maker, cfg, err := newHandshaker(config, cfg)
	if err != nil {
		return nil, err
	}
	return dtlsserver.Listen(network, address, maker, cfg)
}

// NewListener is Listen with sockets that exist already, such as inherited ones: one, or
// several that are bound to the same address. The Listener closes them.
// dtlsserver.Config.Sockets, ReadBuffer, WriteBuffer and Control must be zero.
//
// WriteTo of a socket should not wait, as that of a UDP socket hardly ever does: the
// goroutine that reads the socket may call it, and Close waits for that goroutine.
// WriteTo must not call a method of the listener or of its Conns.
func NewListener(conns []net.PacketConn, config Config, cfg dtlsserver.Config) (*dtlsserver.Listener, error) {
	maker, cfg, err := newHandshaker(config, cfg)
	if err != nil {
		return nil, err
	}
	return dtlsserver.NewListener(conns, maker, cfg)
}

// newHandshaker returns the handshaker of a checked Config, and cfg with the PSK callback of
// either.
func newHandshaker(config Config, cfg dtlsserver.Config) (*handshaker, dtlsserver.Config, error) {
	config = config.clone()
	switch psk := config.PSK; {
	case psk != nil && cfg.PSK != nil:
		return nil, cfg, errors.New("pionv4: both Config.PSK and dtlsserver.Config.PSK are set: want one of them")
	case psk != nil:
		cfg.PSK = func(_ context.Context, r dtlsserver.PSKRequest) ([]byte, error) { return psk(r.Identity) }
	}
	m := &handshaker{config: config, psk: cfg.PSK != nil, resumption: cfg.Resumption != nil, verifyAddress: cfg.AddressChange == dtlsserver.VerifyAddress}
	if err := config.check(m.psk); err != nil {
		return nil, cfg, err
	}
	m.base = slices.Clip(m.config.options())
	if err := m.probe(); err != nil {
		return nil, cfg, err
	}
	warnNoCookie(cfg.Logger, m.statelessCookie)
	return m, cfg, nil
}

// warnNoCookie logs a warning if pion does not take the server's cookie: the listener then has
// only its bounds against a flood of ClientHellos. A nil log means the default Logger.
func warnNoCookie(log *slog.Logger, statelessCookie bool) {
	if statelessCookie {
		return
	}
	if log == nil {
		log = slog.Default()
	}
	log.Warn("this version of pion/dtls does not take the server's cookie: each first ClientHello takes a place of Config.Handshakes")
}
