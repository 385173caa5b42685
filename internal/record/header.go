// SPDX-License-Identifier: MIT

package record

import "encoding/binary"

const (
	// HeaderSize is what precedes the fragment of a record, in bytes.
	HeaderSize = 13
	// MaxPlaintext bounds what a record carries, in bytes (RFC 6347 section 4.1).
	MaxPlaintext = 1 << 14
	// maxFragment bounds it sealed (RFC 5246 section 6.2.3).
	maxFragment = MaxPlaintext + 2048
	// MaxSequence is the last sequence number of an epoch; there is no next one
	// (RFC 6347 section 4.1.0).
	MaxSequence = 1<<48 - 1
)

// Type is the content type of a record (RFC 5246 section 6.2.1).
type Type uint8

// The content types of DTLS 1.2.
const (
	TypeChangeCipherSpec Type = 20
	TypeAlert            Type = 21
	TypeHandshake        Type = 22
	TypeApplicationData  Type = 23
)

// Record is one record of a datagram. It refers to the datagram's bytes.
type Record struct {
	Type     Type
	Epoch    uint16
	Sequence uint64 // 48 bits
	Raw      []byte // header and fragment
}

// Fragment is what follows the header.
func (r Record) Fragment() []byte { return r.Raw[HeaderSize:] }

// Fault says why a record was not taken.
type Fault uint8

// The faults of a record's header. Only Truncated leaves nothing to go on with:
// where the next record would begin is not known.
const (
	NoFault    Fault = iota
	Truncated        // the datagram ends before the record does
	BadType          // no content type of DTLS 1.2
	BadVersion       // not a version of DTLS before 1.3
	TooLong          // longer than any record may be
)

// Next takes the first record from a datagram that is not empty. What is left
// comes back as rest, also after a fault, if the next record's beginning is known.
func Next(datagram []byte) (r Record, rest []byte, fault Fault) {
	if len(datagram) < HeaderSize {
		return Record{}, nil, Truncated
	}
	length := int(binary.BigEndian.Uint16(datagram[11:]))
	if length > len(datagram)-HeaderSize {
		return Record{}, nil, Truncated
	}
	end := HeaderSize + length
	rest = datagram[end:]
	t := Type(datagram[0])
	switch {
	case t < TypeChangeCipherSpec || t > TypeApplicationData:
		return Record{}, rest, BadType
	case datagram[1] != versionMajor || datagram[2] != versionMinor && datagram[2] != versionMinor10:
		return Record{}, rest, BadVersion
	case length > maxFragment:
		return Record{}, rest, TooLong
	}
	seq := binary.BigEndian.Uint64(datagram[3:])
	return Record{
		Type:     t,
		Epoch:    uint16(seq >> 48),
		Sequence: seq & MaxSequence,
		Raw:      datagram[:end:end],
	}, rest, NoFault
}

// DTLS 1.2 is 254.253. A client's first ClientHello may bear 1.0's number, 254.255
// (RFC 6347 section 4.2.1).
const (
	versionMajor   = 254
	versionMinor   = 253
	versionMinor10 = 255
)

// PutHeader writes the header of a record of DTLS 1.2 to b, whose fragment is to
// have that length.
func PutHeader(b []byte, t Type, epoch uint16, sequence uint64, length int) {
	_ = b[HeaderSize-1]
	binary.BigEndian.PutUint64(b[3:], uint64(epoch)<<48|sequence)
	b[0], b[1], b[2] = byte(t), versionMajor, versionMinor
	binary.BigEndian.PutUint16(b[11:], uint16(length))
}
