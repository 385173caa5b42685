// SPDX-License-Identifier: MIT

package resume

import (
	"encoding/asn1"
	"fmt"
	"math"
	"time"
)

const (
	// MaxData is the largest length of Session.Data, in bytes.
	MaxData = 1024
	// MaxEncoded is the largest length of an encoded Session, in bytes. Chains of
	// client certificates take a few thousand bytes. The bound limits what one client
	// can make a server store.
	MaxEncoded = 64 << 10

	secretLen     = 48 // bytes of a master secret, RFC 5246 section 8.1
	formatVersion = 1
)

// encodedSession is the ASN.1 form of a Session: a DER SEQUENCE of the fields below.
// Protocol and ServerName are octet strings, because nothing guarantees that they are
// valid text. Times are Unix milliseconds. The zero time needs no special case, because
// it has a millisecond number too.
type encodedSession struct {
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
	// Trailing is absent from a valid encoding. Package asn1 ignores elements at the
	// end of a SEQUENCE that have no field; this field makes them visible.
	Trailing asn1.RawValue `asn1:"optional"`
}

// Marshal encodes the Session for Unmarshal. Equal Sessions have equal encodings. Times
// lose their time zone and any fraction of a millisecond, and an empty slice is decoded
// as nil.
//
// Marshal returns an error if Secret is not 48 bytes long, if Data is longer than
// MaxData, or if the encoding is longer than MaxEncoded.
//
// The encoding contains the Secret in the clear.
func (s *Session) Marshal() ([]byte, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	data, err := asn1.Marshal(encodedSession{
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
		return nil, tooLargeError(len(data))
	}
	return data, nil
}

// Unmarshal decodes the output of Marshal. It returns an error for any other input. The
// Session shares no memory with data.
func Unmarshal(data []byte) (*Session, error) {
	if len(data) > MaxEncoded {
		return nil, tooLargeError(len(data))
	}
	var e encodedSession
	rest, err := asn1.Unmarshal(data, &e)
	switch {
	case err != nil:
		return nil, fmt.Errorf("resume: not a session: %w", err)
	case e.Version != formatVersion:
		return nil, fmt.Errorf("resume: a session of version %d: want %d", e.Version, formatVersion)
	case len(rest) != 0 || len(e.Trailing.FullBytes) != 0:
		return nil, fmt.Errorf("resume: trailing data after a session")
	case e.Suite < 0 || e.Suite > math.MaxUint16:
		return nil, fmt.Errorf("resume: a session with cipher suite %d", e.Suite)
	}
	s := &Session{
		Secret:               e.Secret,
		Suite:                uint16(e.Suite),
		ExtendedMasterSecret: e.ExtendedMasterSecret,
		Protocol:             string(e.Protocol),
		ServerName:           string(e.ServerName),
		PSKIdentity:          nilIfEmpty(e.PSKIdentity),
		Certificates:         nilIfEmpty(e.Certificates),
		Verified:             time.UnixMilli(e.Verified).UTC(),
		Scope:                string(e.Scope),
		Created:              time.UnixMilli(e.Created).UTC(),
		Expires:              time.UnixMilli(e.Expires).UTC(),
		Data:                 nilIfEmpty(e.Data),
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// validate checks the lengths that Marshal and Unmarshal both require.
func (s *Session) validate() error {
	switch {
	case len(s.Secret) != secretLen:
		return fmt.Errorf("resume: a session with a secret of %d bytes: want %d", len(s.Secret), secretLen)
	case len(s.Data) > MaxData:
		return fmt.Errorf("resume: a session with %d bytes of data: want at most %d", len(s.Data), MaxData)
	}
	return nil
}

func tooLargeError(length int) error {
	return fmt.Errorf("resume: a session of %d bytes: want at most %d", length, MaxEncoded)
}

func nilIfEmpty[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}
