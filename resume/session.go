// SPDX-License-Identifier: MIT

package resume

import (
	"encoding/asn1"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"
)

const (
	// MaxData bounds Session.Data, in bytes.
	MaxData = 1024
	// MaxEncoded bounds an encoded Session, in bytes: certificate chains are a few
	// thousand, and what one client can make a server keep has to end somewhere.
	MaxEncoded = 64 << 10

	secretLen     = 48 // a master secret's, RFC 5246 section 8.1
	formatVersion = 1
)

// Session is what a server keeps of a session to resume it. That a client knows
// the Secret is all that an abbreviated handshake proves, so the rest says who the
// client is, and under which rules it was let in.
//
// Printing or logging a Session, by any verb or as JSON, shows neither Secret nor
// Data. But package fmt calls no methods of unexported fields: a struct with a Session
// in one, by pointer even, needs a String method of its own before it is printed.
type Session struct {
	Secret               []byte `json:"-"` // the master secret, 48 bytes
	Suite                uint16 // the cipher suite's number
	ExtendedMasterSecret bool   // RFC 7627
	Protocol             string // by ALPN; empty: none
	ServerName           string // by SNI; empty: none
	PSKIdentity          []byte
	Certificates         [][]byte // the client's, DER, leaf first
	// Verified is when the chain was verified. Zero: it was not.
	Verified time.Time
	// Scope names the policy of the listener that made the session: one with
	// another policy must not resume it.
	Scope string
	// Created is when the full handshake was done, Expires from when on the
	// session cannot be resumed any more. Store.Put fills them in.
	Created, Expires time.Time
	// Data is the application's, at most MaxData bytes.
	Data []byte `json:"-"`
}

// encoded is a Session as ASN.1: a SEQUENCE of these, in DER. ALPN and SNI are
// bytes, for nobody has checked that they are text. Times are Unix milliseconds;
// the zero time has a number like any other.
type encoded struct {
	Version              int
	Secret               []byte
	Suite                int
	ExtendedMasterSecret bool
	Protocol             []byte
	ServerName           []byte
	PSKIdentity          []byte
	Certificates         [][]byte
	Verified             int64
	Scope                []byte
	Created              int64
	Expires              int64
	Data                 []byte
	// More is never there: without it asn1 would pass over what follows.
	More asn1.RawValue `asn1:"optional"`
}

// Marshal encodes the Session, for Unmarshal. The same Session gives the same bytes.
// Of times less than a millisecond is dropped, and the time zone; a slice that is
// empty comes back nil. It is an error if the Secret is not 48 bytes long, there are
// more than MaxData bytes of Data, or more than MaxEncoded in all.
//
// The bytes hold the Secret as it is.
func (s *Session) Marshal() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	data, err := asn1.Marshal(encoded{
		Version:              formatVersion,
		Secret:               s.Secret,
		Suite:                int(s.Suite),
		ExtendedMasterSecret: s.ExtendedMasterSecret,
		Protocol:             []byte(s.Protocol),
		ServerName:           []byte(s.ServerName),
		PSKIdentity:          s.PSKIdentity,
		Certificates:         s.Certificates,
		Verified:             s.Verified.UnixMilli(),
		Scope:                []byte(s.Scope),
		Created:              s.Created.UnixMilli(),
		Expires:              s.Expires.UnixMilli(),
		Data:                 s.Data,
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("resume: a session: %w", err)
	case len(data) > MaxEncoded:
		return nil, tooLarge(len(data))
	}
	return data, nil
}

// Unmarshal decodes what Marshal has encoded, and nothing else. The Session shares no
// memory with data.
func Unmarshal(data []byte) (*Session, error) {
	if len(data) > MaxEncoded {
		return nil, tooLarge(len(data))
	}
	var e encoded
	rest, err := asn1.Unmarshal(data, &e)
	switch {
	case err != nil:
		return nil, fmt.Errorf("resume: not a session: %w", err)
	case e.Version != formatVersion:
		return nil, fmt.Errorf("resume: a session of version %d: want %d", e.Version, formatVersion)
	case len(rest) != 0 || len(e.More.FullBytes) != 0:
		return nil, fmt.Errorf("resume: more than a session")
	case e.Suite < 0 || e.Suite > math.MaxUint16:
		return nil, fmt.Errorf("resume: a session with cipher suite %d", e.Suite)
	}
	s := &Session{
		Secret:               e.Secret,
		Suite:                uint16(e.Suite),
		ExtendedMasterSecret: e.ExtendedMasterSecret,
		Protocol:             string(e.Protocol),
		ServerName:           string(e.ServerName),
		PSKIdentity:          orNil(e.PSKIdentity),
		Certificates:         orNil(e.Certificates),
		Verified:             time.UnixMilli(e.Verified).UTC(),
		Scope:                string(e.Scope),
		Created:              time.UnixMilli(e.Created).UTC(),
		Expires:              time.UnixMilli(e.Expires).UTC(),
		Data:                 orNil(e.Data),
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Session) check() error {
	switch {
	case len(s.Secret) != secretLen:
		return fmt.Errorf("resume: a session with a secret of %d bytes: want %d", len(s.Secret), secretLen)
	case len(s.Data) > MaxData:
		return fmt.Errorf("resume: a session with %d bytes of data: want at most %d", len(s.Data), MaxData)
	}
	return nil
}

func tooLarge(n int) error {
	return fmt.Errorf("resume: a session of %d bytes: want at most %d", n, MaxEncoded)
}

func orNil[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

// String tells what the session is, but for its Secret and its Data.
func (s Session) String() string {
	return fmt.Sprintf("session of suite %#04x, extended master secret %t, protocol %q, server name %q, PSK identity %q, %d certificates, "+
		"verified %s, scope %q, created %s, expires %s, %d bytes of data",
		s.Suite, s.ExtendedMasterSecret, s.Protocol, s.ServerName, s.PSKIdentity, len(s.Certificates),
		when(s.Verified), s.Scope, when(s.Created), when(s.Expires), len(s.Data))
}

func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// Format writes String's text, whatever the verb: %#v and %x would show the fields.
func (s Session) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue is String's text, for package log/slog.
func (s Session) LogValue() slog.Value { return slog.StringValue(s.String()) }
