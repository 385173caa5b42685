// SPDX-License-Identifier: MIT

package pionv2

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
)

// What Config means where it is zero.
const (
	DefaultSessions         = 1024
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultWorkers          = 64
	DefaultAcceptQueue      = 128
	DefaultQueueDatagrams   = 64
	DefaultQueueBytes       = 64 << 10
	minHandshakes           = 16
	minShare                = 4
)

// Bounds that are not for the user to choose.
const (
	heldRecords = 16       // sealed records held until their handshake is done
	heldBytes   = 16 << 10 // and their bytes
	minMTU      = 256      // bytes: our ServerHello fits, which the takeover must see whole
	maxWindow   = 1 << 16
	maxSockets  = 256         // on one port
	restAfter   = time.Minute // of silence, then a session's ciphers are dropped
)

// Policy says what becomes of a newcomer when there is no room.
type Policy int

const (
	// EvictLeastRecentlyUsed closes the listener's established session whose
	// last use is oldest, and gives its room to the newcomer.
	EvictLeastRecentlyUsed Policy = iota
	// RefuseNewcomer closes the newcomer.
	RefuseNewcomer
	// EvictStale is EvictLeastRecentlyUsed for a session that was idle for
	// longer than StaleAfter, and RefuseNewcomer if it was not. For Listen only.
	EvictStale
)

// Config says how many sessions a Listener has, and what becomes of them. The zero
// Config is usable. It is copied, and may be changed or used again afterwards.
// Negative numbers are errors, but where a field says what they mean.
type Config struct {
	// Sessions is how many sessions can be established at one time. Zero means
	// DefaultSessions, or with a Table what that has beside Handshakes.
	Sessions int
	// Handshakes is how many can be half-open at one time. Zero means an eighth
	// of Sessions (or of the Table's slots), and at least 16. A half-open handshake costs some 37 KB.
	Handshakes int
	// HandshakesPerSource bounds those from one network: an IPv4 /24 or an IPv6
	// /64. Zero means a quarter of Handshakes, and at least 4; negative means no
	// bound but Handshakes.
	HandshakesPerSource int
	// HandshakeTimeout is how long a handshake may take. Zero means
	// DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration
	// IdleTimeout is after how long without use a session ends with
	// close_notify. Zero: never.
	IdleTimeout time.Duration

	// WhenFull says what becomes of a newcomer while Sessions are established.
	// It is never asked before the newcomer has proven that it has the key: a
	// flood of strangers evicts nobody.
	WhenFull Policy
	// StaleAfter is for EvictStale.
	StaleAfter time.Duration
	// MinAvailable is how many of Sessions are kept free, as RIOT's gcoap does
	// (there 1): when fewer have been for MinAvailableAfter (zero means RIOT's 15
	// s), as many of the least recently used sessions as are missing are closed.
	// Zero: none.
	MinAvailable      int
	MinAvailableAfter time.Duration

	// Table, if not nil, is used instead of a new one of Sessions + Handshakes
	// slots, and has at least as many. Several listeners may share a table: each has
	// a sock of its own and evicts none but its own sessions. It should have room for
	// the Sessions and Handshakes of all: while it is full, newcomers are refused
	// (Stats.NoRoom) whatever WhenFull says.
	Table *dsm.Table[*Peer]

	// Resumption, if not nil, keeps sessions for their clients to resume by an
	// abbreviated handshake (RFC 5246 section 7.3), also after they were evicted,
	// expired or closed. Several listeners, and with a Backend several servers, may
	// share it. A session is stored once its full handshake is done. It is resumed by
	// a listener of the same ResumptionScope, ClientAuth, CipherSuites and
	// ExtendedMasterSecret, if the client's certificates verify still (against
	// ClientCAs, and by VerifyPeerCertificate), the PSK callback gives the same key for
	// its identity, and VerifyConnection has nothing against it. Otherwise the
	// handshake is a full one. These are called when a ClientHello names the session,
	// before its sender has shown that it has the keys: whoever has seen the session's
	// id can cause that.
	Resumption *resume.Store
	// ResumptionScope names what else sets listeners apart: those that let in other
	// clients, or let them do other things, must differ in it.
	ResumptionScope string

	// AcceptQueue is how many established sessions can wait for Accept; those
	// beyond are closed. Zero means DefaultAcceptQueue.
	AcceptQueue int
	// QueueDatagrams and QueueBytes bound what has come for a session and was not
	// read yet. What comes when it is full is dropped. Zero means
	// DefaultQueueDatagrams and DefaultQueueBytes.
	QueueDatagrams int
	QueueBytes     int
	// Workers is on how many goroutines Serve runs its handler. Zero means
	// DefaultWorkers.
	Workers int

	// Sockets is how many sockets share the port (SO_REUSEPORT), for more cores;
	// the kernel gives a peer's datagrams to one of them. They share the listener's
	// sock in the table, so that there is one order of use. For Listen only. Zero
	// means 1.
	Sockets int
	// ReadBuffer and WriteBuffer are the kernel's, in bytes. Zero means the
	// system's own choice.
	ReadBuffer  int
	WriteBuffer int

	// OnEstablished, if not nil, is called when a session is established, before
	// Accept or Serve's handler get it; and OnEnd when it is over, once. No lock
	// is held: they may call whatever they like, Conn.Close among it, but not
	// Listener.Close or Shutdown, which would wait for them. They are called from the
	// listener's goroutines, or from who ends the session, and hold those up. After
	// OnEnd Serve's handler can still get what came before the end.
	OnEstablished func(*Conn)
	OnEnd         func(*Conn, Reason)

	// Logger is told of refused and failed handshakes and evicted sessions
	// (Info), and of sessions that begin and end (Debug). Nil: nobody is.
	Logger *slog.Logger
}

// fill returns the Config with what its zero values mean.
func (c Config) fill() (Config, error) {
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"Sessions", int64(c.Sessions)}, {"Handshakes", int64(c.Handshakes)}, {"HandshakeTimeout", int64(c.HandshakeTimeout)},
		{"IdleTimeout", int64(c.IdleTimeout)}, {"StaleAfter", int64(c.StaleAfter)}, {"MinAvailable", int64(c.MinAvailable)},
		{"MinAvailableAfter", int64(c.MinAvailableAfter)}, {"AcceptQueue", int64(c.AcceptQueue)},
		{"QueueDatagrams", int64(c.QueueDatagrams)}, {"QueueBytes", int64(c.QueueBytes)}, {"Workers", int64(c.Workers)},
		{"Sockets", int64(c.Sockets)}, {"ReadBuffer", int64(c.ReadBuffer)}, {"WriteBuffer", int64(c.WriteBuffer)},
	} {
		if field.value < 0 {
			return c, fmt.Errorf("pionv2: Config.%s is negative", field.name)
		}
	}
	if c.Sockets > maxSockets {
		return c, fmt.Errorf("pionv2: Config.Sockets is %d, more than %d", c.Sockets, maxSockets)
	}
	if c.WhenFull < EvictLeastRecentlyUsed || c.WhenFull > EvictStale {
		return c, fmt.Errorf("pionv2: Config.WhenFull is %d, no policy", c.WhenFull)
	}
	if (c.WhenFull == EvictStale) != (c.StaleAfter > 0) {
		return c, errors.New("pionv2: Config.StaleAfter belongs to EvictStale, and EvictStale needs it")
	}
	if c.Sessions == 0 && c.Table == nil {
		c.Sessions = DefaultSessions
	}
	if c.Handshakes == 0 {
		sessions := c.Sessions
		if sessions == 0 {
			sessions = c.Table.MaxSlots()
		}
		c.Handshakes = max(minHandshakes, sessions/8)
	}
	if c.Sessions == 0 {
		if c.Sessions = c.Table.MaxSlots() - c.Handshakes; c.Sessions < 1 {
			return c, fmt.Errorf("pionv2: Config.Table has %d slots, no room for a session beside %d Handshakes", c.Table.MaxSlots(), c.Handshakes)
		}
	}
	if c.Table != nil && c.Sessions+c.Handshakes > c.Table.MaxSlots() {
		return c, fmt.Errorf("pionv2: Config.Table has %d slots, less than %d Sessions and %d Handshakes", c.Table.MaxSlots(), c.Sessions, c.Handshakes)
	}
	if c.Resumption == nil && c.ResumptionScope != "" {
		return c, errors.New("pionv2: Config.ResumptionScope without Resumption")
	}
	if c.MinAvailable > c.Sessions {
		return c, fmt.Errorf("pionv2: Config.MinAvailable is %d, of %d Sessions", c.MinAvailable, c.Sessions)
	}
	switch {
	case c.HandshakesPerSource == 0:
		c.HandshakesPerSource = max(minShare, c.Handshakes/4)
	case c.HandshakesPerSource < 0:
		c.HandshakesPerSource = c.Handshakes
	}
	if c.Table == nil {
		var err error
		if c.Table, err = dsm.New[*Peer](c.Sessions + c.Handshakes); err != nil {
			return c, fmt.Errorf("pionv2: %w", err)
		}
	}
	orDefault(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	orDefault(&c.MinAvailableAfter, 15*time.Second)
	orDefault(&c.AcceptQueue, DefaultAcceptQueue)
	orDefault(&c.QueueDatagrams, DefaultQueueDatagrams)
	orDefault(&c.QueueBytes, DefaultQueueBytes)
	orDefault(&c.Workers, DefaultWorkers)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func orDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// checkDTLS says what in a dtls.Config a Listener cannot do, or cannot do yet.
func checkDTLS(config *dtls.Config) error {
	switch {
	case config == nil:
		return errors.New("pionv2: no dtls.Config")
	case config.CustomCipherSuites != nil:
		return errors.New("pionv2: dtls.Config.CustomCipherSuites: pion does not export the state of such a session, so it could not be taken over")
	case config.SessionStore != nil:
		return errors.New("pionv2: dtls.Config.SessionStore: pion v2 forgets who a resumed session belongs to, and stores it before the client has proven anything: see Config.Resumption")
	case len(config.SRTPProtectionProfiles) != 0:
		return errors.New("pionv2: dtls.Config.SRTPProtectionProfiles: SRTP's packets share the port, and only DTLS is understood here")
	case config.InsecureSkipVerifyHello:
		return errors.New("pionv2: dtls.Config.InsecureSkipVerifyHello: without the cookie a stranger cannot be told from a client")
	case config.MTU < 0 || config.MTU > 0 && config.MTU < minMTU:
		return fmt.Errorf("pionv2: dtls.Config.MTU is %d, less than %d", config.MTU, minMTU)
	case config.ReplayProtectionWindow < 0 || config.ReplayProtectionWindow > maxWindow:
		return fmt.Errorf("pionv2: dtls.Config.ReplayProtectionWindow is %d: want 0 to %d", config.ReplayProtectionWindow, maxWindow)
	case config.PSK == nil && len(config.Certificates) == 0 && config.GetCertificate == nil:
		return errors.New("pionv2: dtls.Config has neither a certificate nor a PSK")
	}
	// Pion says what it would refuse in each handshake.
	if _, err := dtls.NewListener(noListener{}, config); err != nil {
		return fmt.Errorf("pionv2: %w", err)
	}
	return nil
}

// noListener is for pion to check a dtls.Config.
type noListener struct{ net.Listener }
