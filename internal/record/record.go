// SPDX-License-Identifier: MIT

package record

import (
	"encoding/binary"
	"slices"
)

const (
	// HeaderSize is the length of a record's header, in bytes.
	HeaderSize = 13
	// MaxPlaintext bounds the payload of a record, in bytes (RFC 6347 section 4.1).
	MaxPlaintext = 1 << 14
	// maxFragment bounds the fragment of a sealed record, in bytes (RFC 5246 section
	// 6.2.3).
	maxFragment = MaxPlaintext + 2048
	// MaxSequence is the last sequence number of an epoch. Sequence numbers do not
	// wrap (RFC 6347 section 4.1).
	MaxSequence = 1<<sequenceBits - 1

	sequenceBits = 48 // RFC 6347 section 4.1
)

// The versions of DTLS in a ClientHello or a HelloVerifyRequest.
const (
	Version10 uint16 = 0xfeff // DTLS 1.0 (RFC 4347)
	Version12 uint16 = 0xfefd // DTLS 1.2 (RFC 6347)
)

// DTLS 1.2 is version 254.253. The record of a ClientHello may have the version of
// DTLS 1.0, 254.255 (RFC 5246 appendix E.1).
const (
	versionMajor   = 254
	versionMinor   = 253
	versionMinor10 = 255
)

// Type is the content type of a record (RFC 5246 section 6.2.1).
type Type uint8

// The content types.
const (
	TypeChangeCipherSpec Type = 20
	TypeAlert            Type = 21
	TypeHandshake        Type = 22
	TypeApplicationData  Type = 23
	TypeConnectionID     Type = 25 // tls12_cid: the type is sealed with the payload (RFC 9146 section 4)
	TypeRoutabilityCheck Type = 27 // RFC 9853; only as the type in a record of TypeConnectionID
)

// Record is one record of a datagram. It refers to the bytes of the datagram.
type Record struct {
	Type     Type
	Epoch    uint16
	Sequence uint64 // 48 bits
	// ConnectionID is the ID in the header of a record of TypeConnectionID. It is nil for
	// all other records.
	ConnectionID []byte
	Raw          []byte // header and fragment
}

// headerSize returns the length of the record's header, in bytes.
func (r Record) headerSize() int { return HeaderSize + len(r.ConnectionID) }

// Fragment returns the bytes after the header.
func (r Record) Fragment() []byte { return r.Raw[r.headerSize():] }

// Clone returns a copy of r that does not refer to the datagram.
func (r Record) Clone() Record {
	r.Raw = slices.Clone(r.Raw)
	if r.ConnectionID != nil {
		r.ConnectionID = connectionIDOf(r.Raw, len(r.ConnectionID))
	}
	return r
}

// connectionIDOf returns the connection ID in the header of a record. The ID stands before
// the length of the fragment (RFC 9146 section 4).
func connectionIDOf(raw []byte, idLength int) []byte {
	const begin = HeaderSize - 2
	return raw[begin : begin+idLength : begin+idLength]
}

// Fault is the reason why Next rejects a record.
type Fault uint8

// The faults of a record's header. After Truncated the start of the next record is
// unknown; after the other faults the datagram can be read on.
const (
	NoFault    Fault = iota
	Truncated        // the record is longer than the datagram
	BadType          // not a content type of DTLS 1.2
	BadVersion       // not DTLS 1.0 or 1.2
	TooLong          // the fragment is longer than RFC 5246 allows
)

// Next parses the first record of a datagram, which must not be empty. rest is the
// part of the datagram after this record, also if the record has a fault. It is nil
// after Truncated. A record of TypeConnectionID has the fault BadType.
func Next(datagram []byte) (r Record, rest []byte, fault Fault) { return NextWithID(datagram, 0) }

// NextWithID is Next for datagrams in which the header of a record of TypeConnectionID has a
// connection ID of idLength bytes, 1 to 255. The header does not give that length (RFC
// 9146 section 4). If idLength is 0, such a record has the fault BadType.
func NextWithID(datagram []byte, idLength int) (r Record, rest []byte, fault Fault) {
	if len(datagram) < HeaderSize {
		return Record{}, nil, Truncated
	}
	t := Type(datagram[0])
	hasID := t == TypeConnectionID && idLength > 0
	header := HeaderSize
	if hasID {
		header += idLength
	}
	if len(datagram) < header {
		return Record{}, nil, Truncated
	}
	length := int(binary.BigEndian.Uint16(datagram[header-2:]))
	if length > len(datagram)-header {
		return Record{}, nil, Truncated
	}
	end := header + length
	rest = datagram[end:]
	switch {
	case !hasID && (t < TypeChangeCipherSpec || t > TypeApplicationData):
		return Record{}, rest, BadType
	case datagram[1] != versionMajor || datagram[2] != versionMinor && datagram[2] != versionMinor10:
		return Record{}, rest, BadVersion
	case length > maxFragment:
		return Record{}, rest, TooLong
	}
	epochAndSequence := binary.BigEndian.Uint64(datagram[3:])
	r = Record{
		Type:     t,
		Epoch:    uint16(epochAndSequence >> 48),
		Sequence: epochAndSequence & MaxSequence,
		Raw:      datagram[:end:end],
	}
	if hasID {
		r.ConnectionID = connectionIDOf(r.Raw, idLength)
	}
	return r, rest, NoFault
}

// PutHeader writes the header of a DTLS 1.2 record to the first HeaderSize bytes of b.
// length is the length of the record's fragment in bytes.
func PutHeader(b []byte, t Type, epoch uint16, sequence uint64, length int) {
	_ = b[HeaderSize-1]
	binary.BigEndian.PutUint64(b[3:], uint64(epoch)<<48|sequence)
	b[0], b[1], b[2] = byte(t), versionMajor, versionMinor
	binary.BigEndian.PutUint16(b[11:], uint16(length))
}

// AppendHeader appends the header of a DTLS 1.2 record to dst, as PutHeader writes it.
func AppendHeader(dst []byte, t Type, epoch uint16, sequence uint64, length int) []byte {
	begin := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	PutHeader(dst[begin:], t, epoch, sequence, length)
	return dst
}

// PutVersion replaces the version in a record's header.
func PutVersion(header []byte, version uint16) { binary.BigEndian.PutUint16(header[1:], version) }

// AppendVersion appends a version to dst.
func AppendVersion(dst []byte, version uint16) []byte {
	return binary.BigEndian.AppendUint16(dst, version)
}
