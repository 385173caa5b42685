// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/resume"
)

// Policy says what becomes of a newcomer while Config.Sessions are established.
type Policy int

const (
	// EvictLeastRecentlyUsed closes the listener's established session whose last
	// use is oldest, and gives its room to the newcomer. With Config.StaleAfter only
	// a session that was idle for longer than that is closed; otherwise the newcomer
	// is.
	EvictLeastRecentlyUsed Policy = iota
	// RefuseNewcomer closes the newcomer.
	RefuseNewcomer
)

// AddressChange says what becomes of a session with a connection ID whose peer has another
// address than before (RFC 9146 section 6), for example behind a NAT that has forgotten it.
// What the peer sends is received in each case.
type AddressChange int

const (
	// VerifyAddress moves the session once its peer has shown that it receives at the new
	// address: by a return routability check (RFC 9853) if the client has negotiated that, or
	// by Conn.ConfirmAddress. Until then at most three times as many bytes go to the new
	// address as have come from there. What exceeds that goes to the old address.
	VerifyAddress AddressChange = iota
	// TrustAddress moves the session at once. Whoever is on the path of the peer's records can
	// send one of them from the address of a victim, who then gets all answers.
	TrustAddress
	// RefuseAddress leaves the session where it was established. All answers go there.
	RefuseAddress
)

// Config says how many sessions a Listener has, and what becomes of them. The zero
// Config is usable. A listener copies it: it may be changed and used again. Negative
// numbers are errors, except where a field says what they mean.
type Config struct {
	// Sessions is how many sessions can be established at one time. Zero means
	// DefaultSessions, or with a Table all of its slots that are not for Handshakes.
	Sessions int
	// Handshakes is how many handshakes can be in progress at one time. With pion v2 each
	// takes some 35 KB. Zero means DefaultHandshakes, or with a Table at most half of its
	// slots. What becomes of clients while all are taken is in the package's documentation,
	// under Admission.
	Handshakes int
	// HandshakesPerSource is how many of them one network, an IPv4 /24 or an IPv6 /64, can
	// have while they are scarce: see Admission. Zero means a quarter of Handshakes, and at
	// least 1. Negative means as many as Handshakes.
	HandshakesPerSource int
	// HandshakeTimeout is how long a handshake may take. Zero means
	// DefaultHandshakeTimeout.
	//
	// While others find no room a handshake keeps its place for half of this time at most: see
	// Admission.
	HandshakeTimeout time.Duration
	// MaxClientHello, MaxPSKIdentity and MaxCertificateChain bound what a client may send
	// in its handshake, in bytes, and MaxCertificates how many certificates: each handshake
	// in progress can be made to hold as much. MaxCertificateChain includes the three bytes
	// of length in front of each certificate. What is longer is dropped (Stats.Malformed),
	// and its handshake times out. Certificates are accepted only if the configuration
	// requests them. Zero means DefaultMaxClientHello, DefaultMaxPSKIdentity,
	// DefaultMaxCertificateChain and DefaultMaxCertificates.
	MaxClientHello      int
	MaxPSKIdentity      int
	MaxCertificateChain int
	MaxCertificates     int
	// IdleTimeout is the time without use after which a session ends with
	// close_notify. Zero means never.
	IdleTimeout time.Duration

	// WhenFull says what becomes of a newcomer while Sessions are established. A session
	// is evicted only once the newcomer has completed its handshake, so a flood of
	// strangers evicts nobody. RefuseNewcomer answers no ClientHello meanwhile, except of
	// a peer that has a session.
	WhenFull Policy
	// StaleAfter restricts EvictLeastRecentlyUsed to sessions that were idle for
	// longer than this. Zero means no restriction.
	StaleAfter time.Duration
	// MinAvailable is how many of Sessions are kept free, as RIOT's gcoap does with
	// one. When fewer have been free for MinAvailableAfter, as many of the least
	// recently used sessions are closed as are missing. Zero means none, and zero
	// MinAvailableAfter means DefaultMinAvailableAfter.
	MinAvailable      int
	MinAvailableAfter time.Duration

	// SessionsPerIdentity is how many sessions one identity can have. Zero means no limit. It is
	// applied once a handshake is done, so a stranger in the name of an identity ends no session
	// of it. A session that would exceed it takes the room of another session of the identity,
	// and no other identity loses one. A session that the peer has from the same address, with
	// the same identity, is the one that ends (Replaced).
	SessionsPerIdentity int
	// IdentityKey, if not nil, returns the key of a peer: sessions with the same key are those of
	// one identity. For example, it can return the tenant in a PSK identity of "tenant/device". No
	// limit applies to a session with an empty key. Nil means DefaultIdentityKey. It must
	// return the same key for the same Identity each time. It may be called at any time, from
	// several goroutines, with no lock held, and should not wait. It gets a copy. It is called
	// without SessionsPerIdentity, too: for EndIdentity.
	IdentityKey func(Identity) string
	// WhenIdentityFull says what becomes of a newcomer while its identity has
	// SessionsPerIdentity. EvictLeastRecentlyUsed ends the identity's session whose last use is
	// oldest (IdentityReplaced), whatever StaleAfter says. RefuseNewcomer ends the newcomer's
	// (IdentityRefused).
	WhenIdentityFull Policy

	// Table, if not nil, is used instead of a new table of Sessions + Handshakes
	// slots, and has at least as many slots. Several listeners may share a table.
	// Each has its own Sock in it and evicts only its own sessions. The table should
	// have room for the Sessions and Handshakes of all: while it is full newcomers are
	// refused (Stats.NoRoom), whatever WhenFull says. Only its listeners may store
	// and remove sessions.
	Table *dsm.Table[*Peer]

	// NoConnectionIDs says that the listener gives no connection IDs. Otherwise it gives one to
	// each client that offers the extension (RFC 9146 section 3), if the adapter has connection
	// IDs: pion v2 has none. A client with an ID is known wherever its records come from.
	NoConnectionIDs bool
	// ServerID is at the beginning of each connection ID, in the clear, for a load balancer to
	// route by. It has at most 16 bytes and is copied. A connection ID has 16 more bytes.
	ServerID []byte
	// AddressChange says what becomes of a session with a connection ID whose peer has a new
	// address. Zero means VerifyAddress.
	AddressChange AddressChange

	// Resumption, if not nil, keeps sessions so that their clients can resume them by
	// an abbreviated handshake (RFC 5246 section 7.3), also after they were evicted,
	// expired or closed. Several listeners, and with a resume.Backend several servers,
	// may share it. A session is stored before the client of its full handshake is told
	// that the handshake is done, so the client can resume it at once. The handshake waits
	// for that, at most for resume.Config.LookupTimeout or a second, and goes on if it fails.
	// A session is resumed by a listener with the same ResumptionScope, client
	// authentication, cipher suites and extended master secret policy, if the client's
	// certificates are still valid, the pre-shared key of its identity is still the same, and the
	// configuration's own checks have no objection. Otherwise the handshake is a full
	// one. All of this is checked when a ClientHello names the session, before its
	// sender has shown that it has the keys: anybody who has seen the session's ID can
	// cause that.
	Resumption *resume.Store
	// ResumptionScope names what else distinguishes listeners: those that admit other
	// clients, or allow them other things, must differ in it. It counts for sessions that are
	// attached or restored, too, also without Resumption.
	ResumptionScope string

	// PSK, if not nil, returns the pre-shared key of a client (RFC 4279), at least one byte.
	// With pionv2.Listen it takes the place of dtls.Config.PSK, which must be nil then. An
	// empty key without an error is ErrUnknownPSKIdentity. After this error or another one
	// the client cannot connect, and a session of its cannot be resumed.
	//
	// It is called in each full handshake with a PSK cipher suite, and by Resumption before
	// a session with one is resumed, from a goroutine of its own, at the same time as
	// itself. It may wait, as for a database: ctx ends when the handshake ends, which takes
	// HandshakeTimeout at most, or is displaced, or the listener is closed. Other
	// handshakes and Close do not wait for it, even if it ignores ctx. While as many calls
	// as Handshakes have not returned there is no other call, and the handshakes that need
	// one fail. What PSK returns is copied.
	PSK func(ctx context.Context, r PSKRequest) ([]byte, error)

	// Authorize, if not nil, has the word on each session once its peer is authentic: in a full
	// and in an abbreviated handshake, and before a session is taken over by Listener.Attach,
	// Listener.Restore or from Journal. It is called before the session is stored in Resumption,
	// and before another one is evicted for it. What it returns without an error is the Conn's
	// Value from the beginning: in OnEstablished and OnRestored, in Serve's handler and after
	// Accept. A session can still come to nothing after that, for lack of room, say. Then the value
	// is dropped, and OnEnd is not called.
	//
	// After an error there is no session. The client gets a fatal access_denied alert (RFC 5246
	// section 7.2.2), and again if it repeats its last flight of a full handshake; the result is
	// Stats.Denied. A session that was to be resumed is removed from Resumption, as after any fatal
	// alert. One that was to be taken over ends with ErrStateDenied.
	//
	// It is called like PSK, from a goroutine of its own and at the same time as itself, and may
	// wait: ctx ends after AuthorizeTimeout, and when the handshake ends, is displaced, or the
	// listener is closed. It may call any method of the listener. Other handshakes and Close do
	// not wait for it, even if it ignores ctx. Its own handshake keeps its place meanwhile, by
	// the rules of Admission, and what its client sends is held: at most 16 records and 16 KiB
	// (Stats.QueueFull). While as many calls as Handshakes have not returned there is no other
	// call. The client of a call that was not made, or has not returned when ctx ends, gets a
	// fatal internal_error alert (Stats.AuthorizeTimedOut). After runtime.Goexit in it the session
	// is refused, and a panic in it ends the program.
	Authorize func(ctx context.Context, r *AuthRequest) (value any, err error)
	// AuthorizeTimeout is how long a session waits for Authorize, within HandshakeTimeout. Zero
	// means DefaultAuthorizeTimeout.
	AuthorizeTimeout time.Duration

	// AcceptQueue is how many established sessions can wait for Accept. Further ones
	// are closed. Zero means DefaultAcceptQueue.
	AcceptQueue int
	// QueueDatagrams and QueueBytes bound what was received for a session and not
	// read yet. What arrives while the queue is full is dropped. A datagram counts in
	// QueueBytes as the memory that it occupies: 64 bytes, and the length of its sealed
	// record, rounded up to 64, 128, 256, 512, 1024, 1536 or 2048 bytes, or as the
	// allocator rounds it. Zero means DefaultQueueDatagrams and DefaultQueueBytes.
	QueueDatagrams int
	QueueBytes     int
	// QueueTotal bounds what all sessions of the listener together have queued, counted
	// in bytes as for QueueBytes. When it is exceeded one of the sessions with the
	// longest queues, those within a factor of two of the longest, loses its newest
	// datagram. That may be the datagram that has just arrived. What Read can still
	// return after the end of a session does not count; what Serve's handler is still to
	// get does. Zero means DefaultQueueTotal.
	QueueTotal int
	// Workers is the number of goroutines on which Serve runs its handler. Zero means
	// DefaultWorkers.
	Workers int

	// Sockets is how many sockets share the port (SO_REUSEPORT), to use more cores.
	// The kernel gives all datagrams of a peer to one of them. They share one Sock of
	// the table, so there is one order of use. At most 256; zero means 1. For Listen
	// only.
	Sockets int
	// ReadBuffer and WriteBuffer are the sizes of the kernel's buffers, in bytes. Zero
	// means the system's default. For Listen only.
	ReadBuffer  int
	WriteBuffer int
	// Control, if not nil, is called for each socket before it is bound, to set
	// socket options, as by net.ListenConfig. For Listen only.
	Control func(network, address string, c syscall.RawConn) error

	// Restore, if not nil, is called with the listener before the first datagram is read, to
	// bring back the sessions of an earlier listener: by Listener.RestoreFile or
	// Listener.Restore, which are called here only. An error makes Listen or NewListener fail,
	// with the error wrapped; a function that returns nil all the same begins without these
	// sessions. It must not close the listener.
	Restore func(*Listener) error

	// Journal, if not nil, is for the case that the process or the machine crashes: the next
	// listener knows the sessions. It is copied.
	Journal *Journal

	// OnEstablished, if not nil, is called when a session is established, before
	// Accept returns it or Serve's handler gets a datagram of it. OnEnd, if not nil,
	// is called once when a session that OnEstablished or OnRestored was called for has
	// ended.
	// Serve's handler can get datagrams after OnEnd, which were received before the
	// end.
	//
	// No lock is held: the hooks may call every method of the Conn and of the Listener
	// except Close, Shutdown, Save and SaveFile of the Listener, which would wait for
	// them. They are called from the listener's goroutines or from the goroutine that
	// ends the session or attaches it, which wait for them.
	OnEstablished func(*Conn)
	OnEnd         func(*Conn, Reason)
	// OnRestored, if not nil, is called in place of OnEstablished for a session that is
	// taken over: by Listener.Attach or Listener.Restore, or from Config.Journal.
	OnRestored func(*Conn)

	// Logger is told of refused ClientHellos, failed handshakes, and evicted and refused sessions
	// (Info), of sessions that begin and end, and of dropped records (Debug). What has a reason
	// has the word of Stats.Counts as the attribute "reason"; a session that is not resumed, whose
	// full handshake goes on, has not_resumed (Info). Of each reason and network, an IPv4
	// /24 or an IPv6 /64, at most five lines are written in ten seconds. The attribute "left_out"
	// of a later line says how many were not. At most 64 networks are told apart for a reason
	// at a time. Nil means no log. The logger's handler is called with no lock held, and may call
	// the listener, except for Close, Shutdown, Save and SaveFile. A Handler that waits holds up
	// handshakes, but no session. What it takes at level Debug is asked for once a second.
	Logger *slog.Logger

	disk     durable.FS    // nil: durable.OS; tests set another one
	distance func() uint64 // nil: randomDistance; tests set another one
}

// withDefaults returns the Config with its zero values replaced, or the error that
// names the wrong field.
func (c Config) withDefaults() (Config, error) {
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"Sessions", int64(c.Sessions)}, {"Handshakes", int64(c.Handshakes)}, {"HandshakeTimeout", int64(c.HandshakeTimeout)},
		{"AuthorizeTimeout", int64(c.AuthorizeTimeout)},
		{"MaxClientHello", int64(c.MaxClientHello)}, {"MaxPSKIdentity", int64(c.MaxPSKIdentity)},
		{"MaxCertificateChain", int64(c.MaxCertificateChain)}, {"MaxCertificates", int64(c.MaxCertificates)},
		{"IdleTimeout", int64(c.IdleTimeout)}, {"StaleAfter", int64(c.StaleAfter)}, {"MinAvailable", int64(c.MinAvailable)},
		{"MinAvailableAfter", int64(c.MinAvailableAfter)}, {"AcceptQueue", int64(c.AcceptQueue)},
		{"QueueDatagrams", int64(c.QueueDatagrams)}, {"QueueBytes", int64(c.QueueBytes)},
		{"QueueTotal", int64(c.QueueTotal)}, {"Workers", int64(c.Workers)},
		{"Sockets", int64(c.Sockets)}, {"ReadBuffer", int64(c.ReadBuffer)}, {"WriteBuffer", int64(c.WriteBuffer)},
		{"SessionsPerIdentity", int64(c.SessionsPerIdentity)},
	} {
		if field.value < 0 {
			return c, fmt.Errorf("dsm: Config.%s is negative", field.name)
		}
	}
	switch {
	case c.Sockets > maxSockets:
		return c, fmt.Errorf("dsm: Config.Sockets is %d, more than %d", c.Sockets, maxSockets)
	case c.WhenFull != EvictLeastRecentlyUsed && c.WhenFull != RefuseNewcomer:
		return c, fmt.Errorf("dsm: Config.WhenFull is %d, which is no Policy", c.WhenFull)
	case c.WhenIdentityFull != EvictLeastRecentlyUsed && c.WhenIdentityFull != RefuseNewcomer:
		return c, fmt.Errorf("dsm: Config.WhenIdentityFull is %d, which is no Policy", c.WhenIdentityFull)
	case c.AddressChange < VerifyAddress || c.AddressChange > RefuseAddress:
		return c, fmt.Errorf("dsm: Config.AddressChange is %d, which is no AddressChange", c.AddressChange)
	case len(c.ServerID) > maxServerID:
		return c, fmt.Errorf("dsm: Config.ServerID has %d bytes, more than %d", len(c.ServerID), maxServerID)
	case c.WhenFull == RefuseNewcomer && c.StaleAfter > 0:
		return c, errors.New("dsm: Config.StaleAfter has no meaning with RefuseNewcomer, which evicts no session")
	}
	if err := c.sizes(); err != nil {
		return c, err
	}
	if c.Journal != nil {
		j := *c.Journal
		switch {
		case j.Dir == "":
			return c, errors.New("dsm: Config.Journal.Dir is empty")
		case j.AfterCrash != CloseSessions && j.AfterCrash != ContinueSessions:
			return c, fmt.Errorf("dsm: Config.Journal.AfterCrash is %d, which is no AfterCrash", j.AfterCrash)
		case j.Interval < 0 || j.BytesPerSecond < 0:
			return c, errors.New("dsm: Config.Journal.Interval or BytesPerSecond is negative")
		}
		setDefault(&j.Interval, DefaultJournalInterval)
		setDefault(&j.BytesPerSecond, DefaultJournalRate)
		c.Journal = &j
	}
	c.ServerID = bytes.Clone(c.ServerID)
	setDefault(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	setDefault(&c.AuthorizeTimeout, DefaultAuthorizeTimeout)
	setDefault(&c.MaxClientHello, DefaultMaxClientHello)
	setDefault(&c.MaxPSKIdentity, DefaultMaxPSKIdentity)
	setDefault(&c.MaxCertificateChain, DefaultMaxCertificateChain)
	setDefault(&c.MaxCertificates, DefaultMaxCertificates)
	setDefault(&c.MinAvailableAfter, DefaultMinAvailableAfter)
	setDefault(&c.AcceptQueue, DefaultAcceptQueue)
	setDefault(&c.QueueDatagrams, DefaultQueueDatagrams)
	setDefault(&c.QueueBytes, DefaultQueueBytes)
	setDefault(&c.QueueTotal, DefaultQueueTotal)
	setDefault(&c.Workers, DefaultWorkers)
	if c.IdentityKey == nil {
		c.IdentityKey = DefaultIdentityKey
	}
	if c.disk == nil {
		c.disk = durable.OS
	}
	if c.distance == nil {
		c.distance = randomDistance
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// sizes sets the numbers of sessions, handshakes and slots, which depend on each
// other.
func (c *Config) sizes() error {
	if c.Table == nil {
		setDefault(&c.Sessions, DefaultSessions)
	}
	if c.Handshakes == 0 {
		c.Handshakes = DefaultHandshakes
		if c.Table != nil && c.Sessions == 0 {
			c.Handshakes = max(1, min(c.Handshakes, c.Table.MaxSlots()/2))
		} else if c.Table != nil {
			c.Handshakes = max(1, min(c.Handshakes, c.Table.MaxSlots()-c.Sessions))
		}
	}
	if c.Sessions == 0 {
		if c.Sessions = c.Table.MaxSlots() - c.Handshakes; c.Sessions < 1 {
			return fmt.Errorf("dsm: Config.Table has %d slots, no room for a session besides %d Handshakes", c.Table.MaxSlots(), c.Handshakes)
		}
	}
	if c.MinAvailable > c.Sessions {
		return fmt.Errorf("dsm: Config.MinAvailable is %d, more than %d Sessions", c.MinAvailable, c.Sessions)
	}
	switch {
	case c.HandshakesPerSource == 0:
		c.HandshakesPerSource = max(1, c.Handshakes/4)
	case c.HandshakesPerSource < 0:
		c.HandshakesPerSource = c.Handshakes
	}
	if c.Table == nil {
		var err error
		c.Table, err = dsm.New[*Peer](c.Sessions + c.Handshakes)
		return err
	}
	if slots := c.Table.MaxSlots(); c.Sessions+c.Handshakes > slots {
		return fmt.Errorf("dsm: Config.Table has %d slots, less than %d Sessions and %d Handshakes", slots, c.Sessions, c.Handshakes)
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
