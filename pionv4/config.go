// SPDX-License-Identifier: MIT

package pionv4

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v4"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
	"github.com/pion/dtls/v4/pkg/crypto/elliptic"
	"github.com/pion/dtls/v4/pkg/protocol"
	"github.com/pion/logging"
)

// Config is what pion v4's handshakes are made with. Its fields have the names of pion v2's
// dtls.Config, and stand for options of pion v4. A listener copies it. The zero value of a
// field means pion's default, except where a field says more.
//
// The callbacks run in the handshake's goroutine, several at the same time for several
// handshakes. Close of the listener waits for GetCertificate, VerifyPeerCertificate and
// VerifyConnection. PSK is the exception: see dtlsserver.Config.PSK.
type Config struct {
	// Certificates are the server's. Pion chooses one by the server name that a client asks for
	// (SNI), or the first one, whatever kind of key the client can verify. At least a
	// certificate, GetCertificate, PSK or dtlsserver.Config.PSK must be set.
	Certificates []tls.Certificate
	// GetCertificate, if not nil, returns the certificate for a client, or an error, which ends
	// the handshake.
	GetCertificate func(*dtls.ClientHelloInfo) (*tls.Certificate, error)
	// PSK, if not nil, returns the pre-shared key of an identity. dtlsserver.Config.PSK is told
	// more, and may wait; it is an error to set both.
	PSK func(identity []byte) ([]byte, error)

	// CipherSuites are those of DTLS 1.2 that the server supports, the preferred ones first.
	// Suites with a PSK have to be named here, because pion's default has none. With a PSK and no
	// certificate nil means DefaultPSKCipherSuites.
	CipherSuites []ciphersuite.ID
	// EllipticCurves are the curves of ECDHE, the preferred ones first.
	EllipticCurves []elliptic.Curve
	// SignatureSchemes are accepted in the client's signatures, and offered for the server's.
	SignatureSchemes []tls.SignatureScheme
	// InsecureHashes allows SHA-1 in signatures.
	InsecureHashes bool

	// ClientAuth says what is asked of a client's certificates, and ClientCAs who may have issued
	// them.
	ClientAuth dtls.ClientAuthType
	ClientCAs  *x509.CertPool
	// VerifyPeerCertificate, if not nil, is called with a client's certificates after they were
	// verified, and before a session with certificates is resumed or restored. An error ends
	// the handshake, or makes it a full one.
	VerifyPeerCertificate func(rawCerts [][]byte, verifiedChains [][]*x509.Certificate) error
	// VerifyConnection, if not nil, is called at the end of a full handshake, and before a session
	// is resumed or restored.
	VerifyConnection func(*dtls.State) error

	// ExtendedMasterSecret is the policy for RFC 7627.
	ExtendedMasterSecret dtls.ExtendedMasterSecretType
	// SupportedProtocols are those of ALPN (RFC 7301), the preferred ones first.
	SupportedProtocols []string

	// FlightInterval is the time until a flight is repeated for the first time. Each further time
	// is twice as long, up to 60 s. Zero means 1.5 s.
	FlightInterval time.Duration
	// MTU bounds the size of a datagram, in bytes, at least 256. Zero means 1200 for the
	// handshake, and no bound for the session.
	MTU int
	// ReplayProtectionWindow is the size of a session's replay window, in records, at most
	// 65536. Zero means 64.
	ReplayProtectionWindow int

	// KeyLogWriter, if not nil, gets the master secret of each session. It is for debugging:
	// whoever reads the log can read what is sent.
	KeyLogWriter io.Writer
	// LoggerFactory makes pion's logger.
	LoggerFactory logging.LoggerFactory
}

// DefaultPSKCipherSuites are the cipher suites of a Config that has a PSK, no certificate and no
// CipherSuites: AEAD suites with AES-128, among them the one that CoAP requires (RFC 7252 section
// 9.1.3.1), and a suite with forward secrecy (RFC 5489).
var DefaultPSKCipherSuites = []ciphersuite.ID{
	ciphersuite.TLS_PSK_WITH_AES_128_GCM_SHA256, ciphersuite.TLS_PSK_WITH_AES_128_CCM,
	ciphersuite.TLS_PSK_WITH_AES_128_CCM_8, ciphersuite.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256,
}

// defaultCipherSuites are pion's, in its order, without those that internal/record does not support.
var defaultCipherSuites = []ciphersuite.ID{
	ciphersuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, ciphersuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	ciphersuite.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, ciphersuite.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	ciphersuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, ciphersuite.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
}

// hasCertificates reports whether the server can authenticate with a certificate.
func (c *Config) hasCertificates() bool { return len(c.Certificates) > 0 || c.GetCertificate != nil }

// suites returns the cipher suites of a configuration with or without a PSK.
func (c *Config) suites(psk bool) []ciphersuite.ID {
	switch {
	case c.CipherSuites != nil:
		return c.CipherSuites
	case psk && !c.hasCertificates():
		return DefaultPSKCipherSuites
	default:
		return defaultCipherSuites
	}
}

// check returns an error that names what in a configuration is not supported.
func (c *Config) check(psk bool) error {
	for _, id := range c.CipherSuites {
		if !record.SuiteID(id).Supported() {
			return fmt.Errorf("pionv4: Config.CipherSuites: a session with %v could not be taken over", id)
		}
	}
	switch {
	case c.MTU < 0 || c.MTU > 0 && c.MTU < handshake.MinMTU:
		return fmt.Errorf("pionv4: Config.MTU is %d, less than %d", c.MTU, handshake.MinMTU)
	case c.ReplayProtectionWindow < 0 || c.ReplayProtectionWindow > handshake.MaxReplayWindow:
		return fmt.Errorf("pionv4: Config.ReplayProtectionWindow is %d: want 0 to %d", c.ReplayProtectionWindow, handshake.MaxReplayWindow)
	case c.FlightInterval < 0:
		return errors.New("pionv4: Config.FlightInterval is negative")
	case !psk && !c.hasCertificates():
		return errors.New("pionv4: Config has neither a certificate nor a PSK, and dtlsserver.Config.PSK is nil")
	}
	return nil
}

// clone returns a copy that shares no slice with c. Its certificates have their leaves.
func (c Config) clone() Config {
	c.Certificates, c.CipherSuites = handshake.WithLeaves(c.Certificates), slices.Clone(c.CipherSuites)
	c.EllipticCurves, c.SignatureSchemes = slices.Clone(c.EllipticCurves), slices.Clone(c.SignatureSchemes)
	c.SupportedProtocols = slices.Clone(c.SupportedProtocols)
	return c
}

// options returns the options that are the same in each handshake. Each handshake appends its own.
func (c *Config) options() []dtls.ServerOption {
	o := []dtls.ServerOption{
		dtls.WithMinVersion(protocol.Version1_2), dtls.WithMaxVersion(protocol.Version1_2),
		dtls.WithExtendedMasterSecret(c.ExtendedMasterSecret), dtls.WithFlightInterval(flightInterval),
		dtls.WithReceiveBufferSize(receiveBuffer), dtls.WithInsecureHashes(c.InsecureHashes), dtls.WithClientCAs(c.ClientCAs),
		dtls.WithReplayProtectionWindow(c.ReplayProtectionWindow),
	}
	add := func(set bool, option func() dtls.ServerOption) {
		if set {
			o = append(o, option())
		}
	}
	add(len(c.EllipticCurves) > 0, func() dtls.ServerOption { return dtls.WithEllipticCurves(c.EllipticCurves...) })
	add(len(c.SignatureSchemes) > 0, func() dtls.ServerOption { return dtls.WithSignatureSchemes(c.SignatureSchemes...) })
	add(len(c.SupportedProtocols) > 0, func() dtls.ServerOption { return dtls.WithSupportedProtocols(c.SupportedProtocols...) })
	add(c.MTU > 0, func() dtls.ServerOption { return dtls.WithMTU(c.MTU) })
	loggers := c.LoggerFactory
	if loggers == nil {
		loggers = oneLogger{logging.NewDefaultLoggerFactory().NewLogger("dtls")}
	}
	return append(o, dtls.WithLoggerFactory(loggers))
}

// oneLogger is a LoggerFactory whose loggers are all the same one: a logger for each handshake
// would cost memory.
type oneLogger struct{ logging.LeveledLogger }

func (l oneLogger) NewLogger(string) logging.LeveledLogger { return l.LeveledLogger }
