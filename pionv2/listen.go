// SPDX-License-Identifier: MIT

package pionv2

import (
	"errors"
	"fmt"
	"net"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/pion/dtls/v2"
	"github.com/pion/logging"
)

// Listen opens a UDP socket, and returns the listener of the DTLS sessions on it.
// network is "udp", "udp4" or "udp6". config is pion's, for the handshakes; an error
// names what in it is not supported. Its PSK callback may be in Config.PSK instead, which is
// told more and may wait. Its ConnectContextMaker is not used; see
// Config.HandshakeTimeout. cfg says how many sessions there are and what becomes of
// them.
func Listen(network, address string, config *dtls.Config, cfg Config) (*Listener, error) {
	maker, cfg, err := newHandshaker(config, cfg)
	if err != nil {
		return nil, err
	}
	return dtlsserver.Listen(network, address, maker, cfg)
}

// NewListener is Listen with sockets that exist already, such as inherited ones: one, or
// several that are bound to the same address. The Listener closes them. Config.Sockets,
// ReadBuffer, WriteBuffer and Control must be zero.
//
// WriteTo of a socket should not wait, as that of a UDP socket hardly ever does: the
// goroutine that reads the socket may call it, and Close waits for that goroutine.
// WriteTo must not call a method of the listener or of its Conns.
func NewListener(conns []net.PacketConn, config *dtls.Config, cfg Config) (*Listener, error) {
	maker, cfg, err := newHandshaker(config, cfg)
	if err != nil {
		return nil, err
	}
	return dtlsserver.NewListener(conns, maker, cfg)
}

// newHandshaker also returns cfg with the PSK callback.
func newHandshaker(config *dtls.Config, cfg Config) (*handshaker, Config, error) {
	if config == nil {
		return nil, cfg, errors.New("pionv2: no dtls.Config")
	}
	m := &handshaker{config: *config, resumption: cfg.Resumption != nil}
	m.config.Certificates = handshake.WithLeaves(m.config.Certificates)
	if m.config.LoggerFactory == nil {
		m.config.LoggerFactory = oneLogger{logging.NewDefaultLoggerFactory().NewLogger("dtls")}
	}
	if err := movePSK(&m.config, &cfg); err != nil {
		return nil, cfg, err
	}
	if err := checkConfig(&m.config); err != nil {
		return nil, cfg, err
	}
	return m, cfg, nil
}

// checkConfig returns an error that names what in a dtls.Config is not supported.
func checkConfig(config *dtls.Config) error {
	switch {
	case config.CustomCipherSuites != nil:
		return errors.New("pionv2: dtls.Config.CustomCipherSuites: pion does not export the state of such a session, so it could not be taken over")
	case config.SessionStore != nil:
		return errors.New("pionv2: dtls.Config.SessionStore: pion v2 forgets who a resumed session belongs to, and stores it before the client has proven anything: see Config.Resumption")
	case len(config.SRTPProtectionProfiles) != 0:
		return errors.New("pionv2: dtls.Config.SRTPProtectionProfiles: SRTP's packets share the port, and only DTLS is understood here")
	case config.InsecureSkipVerifyHello:
		return errors.New("pionv2: dtls.Config.InsecureSkipVerifyHello: without the cookie a stranger cannot be told from a client")
	case config.MTU < 0 || config.MTU > 0 && config.MTU < handshake.MinMTU:
		return fmt.Errorf("pionv2: dtls.Config.MTU is %d, less than %d", config.MTU, handshake.MinMTU)
	case config.ReplayProtectionWindow < 0 || config.ReplayProtectionWindow > handshake.MaxReplayWindow:
		return fmt.Errorf("pionv2: dtls.Config.ReplayProtectionWindow is %d: want 0 to %d", config.ReplayProtectionWindow, handshake.MaxReplayWindow)
	case config.PSK == nil && len(config.Certificates) == 0 && config.GetCertificate == nil:
		return errors.New("pionv2: dtls.Config has neither a certificate nor a PSK, and Config.PSK is nil")
	}
	// Pion says what it would refuse in each handshake.
	if _, err := dtls.NewListener(noListener{}, config); err != nil {
		return fmt.Errorf("pionv2: %w", err)
	}
	return nil
}

// oneLogger is a LoggerFactory whose loggers are all the same one. Pion's default factory would
// read the environment and make a logger in each handshake.
type oneLogger struct{ logging.LeveledLogger }

func (l oneLogger) NewLogger(string) logging.LeveledLogger { return l.LeveledLogger }
