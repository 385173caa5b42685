// SPDX-License-Identifier: MIT

// Package handshake is the contract between package dtlsserver and the adapters of
// pion/dtls, one adapter for each major version of pion. An adapter runs the server's
// side of handshakes, and hands over what the server needs to go on with the session by
// itself. It knows no session table, no admission and no Conn.
//
// The contract was settled with two adapters in mind: that of v2, which exists, and a
// trial of one for v4.0.1, whose handshake does no I/O (dtls.DetachedServer). What the
// calls mean for each:
//
//   - Handshaker.New. Both: makes the Gate, and no pion yet, which takes some 40 KB in
//     either version.
//   - Handshake.HandleRecord. Both: the Gate's. It queues messages for pion: for Read of
//     v2's net.Conn, and for HandleDatagram of v4, which blocks while pion computes and
//     while it calls the application's callbacks, and so must not be called by the reader
//     of a socket. The decision is the Gate's, never pion's.
//   - Handshake.Hello. Both: the Gate's.
//   - Handshake.AddressValidated. Both: the cookie of the HelloVerifyRequest that was seen
//     going out has come back, or a record was opened with the session's keys. v4 sends a
//     cookie also in an abbreviated handshake.
//   - Handshake.Run. v2: dtls.ServerWithContext, which blocks to the end, with three or
//     four goroutines of pion's. v4: Start, then a loop that calls HandleDatagram for what
//     is queued and NextEvent until there is none, and waits for the next record or the
//     end of ctx. Neither repeats a flight: the Gate does. The
//     goroutine that waits in Run takes some 4 KB beside pion's 40. Its session is for
//     pion's SessionStore in both, together with a configuration of that session's suite
//     alone.
//   - Handshake.Abort. Both: the Gate drops what pion writes.
//   - Handshake.Close. v2: dtls.Conn.Close, which can wait for a flight interval, and the
//     net.Conn. v4: DetachedConn.Close, which waits for a callback of the application's.
//   - Result. Both: the Gate's, with the client's identity from pion's State.
package handshake

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
)

// Handshaker makes the handshakes of one listener: one major version of pion with
// one configuration. It is safe for concurrent use.
type Handshaker interface {
	// New returns the server's side of a handshake. It starts nothing: the caller passes
	// the client's records to HandleRecord, waits for Hello, and calls Run.
	New(p Parameters) Handshake

	// MaxDatagram returns the largest datagram for the path to a client, in bytes.
	// Zero: only the record layer limits it.
	MaxDatagram() int

	// StatelessCookie reports whether a handshake can begin with the ClientHello that has
	// returned a cookie: see Parameters.Cookie. Otherwise pion draws the cookie.
	StatelessCookie() bool
	// ConnectionIDs reports whether handshakes negotiate connection IDs (RFC 9146).
	ConnectionIDs() bool

	// PolicyID names what must be equal for a session to be resumed: whom the
	// listener admits and how it protects records, as far as that can be named.
	PolicyID() string
	// CheckResumable reports what in the configuration is against resuming a
	// session for the client that sent hello: the cipher suite, the client's
	// certificates, the application's own check. It updates session.Verified when
	// it has verified the certificates. The caller compares PolicyID and the pre-shared key.
	CheckResumable(session *resume.Session, hello record.ClientHello) error
}

// Parameters are what a handshake gets from its server.
type Parameters struct {
	// Send is called with each datagram for the client, from any goroutine, with no lock
	// held. It does not keep the datagram.
	Send func(datagram []byte)
	// PSK returns the pre-shared key of an identity, which it does not keep. It waits at
	// most until ctx ends. The error wraps ErrNoKey if nobody has that identity.
	PSK func(ctx context.Context, serverName string, identity []byte) ([]byte, error)
	// Count is called with the verdict on a protected record that HandleRecord has accepted
	// before there were keys to open it. Locks are held.
	Count func(Verdict)
	// Cookie, if not nil, is the cookie that the server has drawn and verified. The
	// handshake begins with the client's second ClientHello (message_seq 1), which has it,
	// and the client's address is validated. For a Handshaker with StatelessCookie.
	Cookie []byte
	// ConnectionID is the connection ID that the client gets for its records, if it offers
	// the extension (RFC 9146 section 3). Nil: the extension is not answered. For a
	// Handshaker with ConnectionIDs.
	ConnectionID []byte
	// Limits bound what the client sends.
	Limits Limits
}

// ErrNoKey says that nobody has a PSK identity.
var ErrNoKey = errors.New("no key for the PSK identity")

// Handshake is one handshake. Its methods are safe for concurrent use.
type Handshake interface {
	// HandleRecord takes a record of the client's address and decides what it is.
	// It never blocks, sends nothing from within the call, and does not keep r.Raw.
	HandleRecord(r record.Record) Verdict

	// Hello waits for the client's first ClientHello, and returns it.
	Hello(ctx context.Context) (record.ClientHello, error)

	// Cookie returns the cookie that the client was asked for (RFC 6347 section 4.2.1), or
	// nil. It never blocks, and other locks may be held.
	Cookie() []byte

	// AddressValidated reports whether the client has shown that it receives what
	// is sent to its address: it returned the cookie (RFC 6347 section 4.2.1), or
	// sealed a record with the keys of the session that it resumes.
	AddressValidated() bool

	// Run does the handshake, an abbreviated one if session is not nil and the
	// configuration allows it, and returns when it is done, has failed, or ctx has
	// ended. It is called once. In a full handshake the server's last flight is left to
	// the caller: see Result.Flight. After Run has returned the handshake uses no sequence
	// number any more, so that those of Result are the next ones. A datagram that was made
	// before can still be on its way to Send.
	Run(ctx context.Context, session *resume.Session) (*Result, error)

	// Abort makes the handshake send nothing new from now on. It never blocks, and other
	// locks may be held. Run returns when its context ends, which is the caller's to
	// cancel.
	Abort()

	// Close releases what Run has left, and may wait for pion. It is called once, after
	// Run, also if that has failed, with no lock held.
	Close()
}

// Verdict is what HandleRecord decided about a record.
type Verdict uint8

// The verdicts.
const (
	// Accepted: the record belongs to the handshake.
	Accepted Verdict = iota
	// Unexpected: not a record that the client may send now. It was dropped.
	Unexpected
	// Malformed: a handshake message that breaks its syntax or exceeds a bound. It was
	// dropped.
	Malformed
	// NewClientHello: the ClientHello with which another handshake begins, or a fragment of
	// it. The record was not taken.
	NewClientHello
	// AnotherHello: a second ClientHello with the cookie of this handshake, and not with the
	// parameters of its first ClientHello. Only the client knows the cookie. It has taken the
	// answer to a ClientHello that somebody else has sent in its name for the answer to its
	// own. It has to begin anew.
	AnotherHello
	// ForeignCookie: a second ClientHello with the parameters of the first one, and with
	// another cookie than that of this handshake. Only the client knows the parameters. It has
	// to begin anew, for the same cause.
	ForeignCookie
	// NoSpace: the caller had no room to hold a record that is ForSession. It was dropped.
	// HandleRecord does not return it.
	NoSpace
	// ForSession: a protected record that belongs to the session to come. The
	// caller holds it until Run has returned.
	ForSession
	// WrongEpoch, Replayed, NotAuthentic: a protected record that was dropped because it
	// is of another epoch, was received before, or is not sealed with the keys.
	WrongEpoch
	Replayed
	NotAuthentic
	// WrongKey: the record is in the place of the client's Finished, and is not sealed with
	// the session's keys. WrongFinished: its verify_data is wrong.
	WrongKey
	WrongFinished
	// FatalAlert: an authentic fatal alert of the client, in an abbreviated handshake.
	FatalAlert
)

// Better returns one of the verdicts of two handshakes of the same client on a record: that
// of the handshake that has taken the record, or else that of the one that has come further
// in its checks.
func Better(a, b Verdict) Verdict {
	if quality[b] > quality[a] {
		return b
	}
	return a
}

var quality = [...]int8{
	NewClientHello: 0, Unexpected: 1, WrongEpoch: 2, Malformed: 3, AnotherHello: 4, ForeignCookie: 5,
	NotAuthentic: 6, WrongKey: 7, Replayed: 8, WrongFinished: 9, NoSpace: 10, Accepted: 11, ForSession: 12, FatalAlert: 13,
}

// VerdictOf translates an error of a session's record layer.
func VerdictOf(err error) Verdict {
	switch {
	case err == nil:
		return Accepted
	case errors.Is(err, record.ErrReplay):
		return Replayed
	case errors.Is(err, record.ErrEpoch):
		return WrongEpoch
	default:
		return NotAuthentic
	}
}

// Result is what a completed handshake leaves.
type Result struct {
	// Records is the session's record layer. Its next sequence number follows all
	// that the handshake has used.
	Records *record.Session
	// Flight is the server's last flight in a full handshake. It was not sent: the caller
	// sends it, and sends it again when the client repeats its own. Until then the client
	// does not know that the handshake is done. Nil if the client's flight was the last
	// one (an abbreviated handshake).
	Flight *Flight
	// Identity is who the client is. In an abbreviated handshake it is that of the
	// session which was resumed.
	Identity Identity
	// ClientCertificates reports whether the client has sent certificates in a full handshake.
	// The adapter adds them to Identity. The gate does not keep them.
	ClientCertificates bool
	// Resumed reports whether the handshake was an abbreviated one.
	Resumed bool
	// ServerHello is the server's: the session ID, the suite, the extensions.
	ServerHello record.ServerHello
	// PSK is the key that authenticated the client in a full handshake, if the suite has one.
	PSK []byte
}

// Flight is ChangeCipherSpec and Finished (RFC 5246 section 7.3).
type Flight struct {
	// NextPlaintext is the next sequence number of epoch 0.
	NextPlaintext uint64
	// Finished is the handshake message with its header.
	Finished []byte
}

// Identity is who the client has proven to be.
type Identity struct {
	PSKIdentity  []byte   // the identity of its pre-shared key, if it has one
	Certificates [][]byte // DER, leaf first, if it gave any
	// Verified is when the certificates were verified. Zero: they were not.
	Verified time.Time
	// Protocol is what ALPN chose (RFC 7301), or empty.
	Protocol string
	// ServerName is what the client asked for by SNI (RFC 6066 section 3), or empty. The
	// caller of Run sets it.
	ServerName string
}

// Clone returns a copy that shares no memory with i.
func (i Identity) Clone() Identity {
	i.PSKIdentity = bytes.Clone(i.PSKIdentity)
	certificates := i.Certificates
	i.Certificates = nil
	for _, der := range certificates {
		i.Certificates = append(i.Certificates, bytes.Clone(der))
	}
	return i
}

// State is what is known of an established session.
type State struct {
	Secrets   record.Config
	Identity  Identity
	SessionID string // empty: the session cannot be resumed
}
