// SPDX-License-Identifier: MIT

// Package sealed writes and reads streams of encrypted chunks, for files of session secrets. A
// stream authenticates the content and the order of its chunks. A snapshot ends with a last
// chunk. A journal is appended to, so it may end anywhere.
//
// A stream is a header, chunks, and the last chunk, which has no payload. Numbers are big
// endian.
//
//	header  magic "dsmseal", version (1 byte), kind (1), sealed(generation (8), id (16), previous (16))
//	chunk   length of what is sealed (4), id of the stream (16), number from 0 (8), last (1), sealed(payload)
//
// Package keyring seals, which adds keyring.Overhead bytes. The fields before what is sealed
// are in the clear and are authenticated. The additional data of a chunk is the magic and the
// version, so no value that the same keys have sealed for another purpose is a chunk.
//
// A reader cannot detect that a stream was replaced by an earlier stream, nor distinguish a
// stream that was cut off from one whose writer has died. A length that was changed can look
// like the end of the stream.
package sealed

import (
	"errors"
	"fmt"

	"github.com/go-dsm/dsm/keyring"
)

// Kind is the purpose of a stream.
type Kind uint8

// The kinds.
const (
	Snapshot Kind = 1
	Journal  Kind = 2
)

// String returns the name of the kind.
func (k Kind) String() string {
	switch k {
	case Snapshot:
		return "snapshot"
	case Journal:
		return "journal"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Header describes a stream.
type Header struct {
	Kind       Kind
	Generation uint64
	ID         [16]byte // random; no other stream has it
	Previous   [16]byte // ID of the stream that this stream continues, or zero
}

// MaxChunk is the maximum length of the payload of a chunk, in bytes. It bounds the memory of a
// Reader.
const MaxChunk = 1 << 20

// The errors of Reader, together with *keyring.UnknownKeyError and those of the io.Reader.
var (
	ErrNotSealed = errors.New("sealed: not a sealed stream")
	ErrVersion   = errors.New("sealed: unknown version of the format")
	ErrKind      = errors.New("sealed: wrong kind of stream")
	ErrTampered  = errors.New("sealed: not authentic: modified, or its key had another secret")
	ErrTruncated = errors.New("sealed: the stream ends before its last chunk")
	ErrOrder     = errors.New("sealed: chunk out of order")
	ErrForeign   = errors.New("sealed: chunk of another stream")
	ErrTrailing  = errors.New("sealed: data after the last chunk")
)

// HeaderSize is the length of a stream's header, in bytes.
const HeaderSize = headerSize

const (
	magic   = "dsmseal"
	version = 1

	clearHeaderSize  = len(magic) + 1 + 1
	secretHeaderSize = 8 + 16 + 16
	headerSize       = clearHeaderSize + secretHeaderSize + keyring.Overhead

	chunkHeaderSize = 4 + 16 + 8 + 1
)

// chunkContext returns the additional data of all chunks.
func chunkContext() []byte { return append([]byte(magic), version) }
