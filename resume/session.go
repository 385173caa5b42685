// SPDX-License-Identifier: MIT

package resume

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/go-dsm/dsm/internal/logtext"
)

// Session is what a server needs to resume a session. In an abbreviated handshake a
// client proves only that it knows Secret. The other fields record who the client is
// and under which rules the server admitted it.
//
// A Session that is printed or logged, with any verb of package fmt or as JSON, shows
// neither Secret nor Data. Package fmt does not call methods on unexported fields,
// however: a struct that holds a Session or *Session in an unexported field needs a
// String method of its own before it is printed.
type Session struct {
	Secret               []byte `json:"-"` // the master secret, 48 bytes (RFC 5246 section 8.1)
	Suite                uint16 // the number of the cipher suite
	ExtendedMasterSecret bool   // whether RFC 7627 was used
	Protocol             string // the protocol negotiated by ALPN; empty if there was none
	ServerName           string // the name that the client sent by SNI; empty if it sent none
	PSKIdentity          []byte
	Certificates         [][]byte // the client's certificate chain, DER, leaf first
	// Verified is the time at which the chain was verified. The zero time means that
	// it was not verified.
	Verified time.Time
	// Scope names the policy of the listener that made the session. A listener with
	// another policy must not resume the session.
	Scope string
	// Created is the time of the full handshake. From Expires on, the session cannot
	// be resumed. Store.Put fills in both.
	Created, Expires time.Time
	// Data belongs to the application. At most MaxData bytes.
	Data []byte `json:"-"`
}

// String describes the session without its Secret and its Data. Names that the client has
// chosen are cut.
func (s Session) String() string {
	return fmt.Sprintf("session of suite %#04x, extended master secret %t, protocol %s, server name %s, PSK identity %s, %d certificates, "+
		"verified %s, scope %q, created %s, expires %s, %d bytes of data",
		s.Suite, s.ExtendedMasterSecret, logtext.Name(s.Protocol), logtext.Name(s.ServerName), logtext.Name(s.PSKIdentity), len(s.Certificates),
		formatTime(s.Verified), s.Scope, formatTime(s.Created), formatTime(s.Expires), len(s.Data))
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// Format writes the text of String for every verb. Without it, verbs such as %#v and %x
// would print the fields.
func (s Session) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue returns the text of String, for package log/slog.
func (s Session) LogValue() slog.Value { return slog.StringValue(s.String()) }
