// SPDX-License-Identifier: MIT

package sealed

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/go-dsm/dsm/keyring"
)

var errClosed = errors.New("sealed: the stream is closed")

// Writer writes a stream. It is not safe for concurrent use.
type Writer struct {
	w      io.Writer
	ring   *keyring.Ring
	header Header
	number uint64 // of the next chunk
	bytes  int64
	err    error  // of the first call that failed
	buf    []byte // for reuse
}

// NewWriter begins a stream: it writes the header to w. It draws h.ID if that is zero. The
// header and each chunk is one call of w.Write and one use of the ring's first key.
func NewWriter(w io.Writer, ring *keyring.Ring, h Header) (*Writer, error) {
	if h.Kind != Snapshot && h.Kind != Journal {
		return nil, fmt.Errorf("sealed: no kind of stream: %v", h.Kind)
	}
	if h.ID == [16]byte{} {
		_, _ = rand.Read(h.ID[:]) // never fails
	}
	secret := binary.BigEndian.AppendUint64(make([]byte, 0, secretHeaderSize), h.Generation)
	secret = append(append(secret, h.ID[:]...), h.Previous[:]...)
	s := &Writer{w: w, ring: ring, header: h}
	s.buf = ring.Seal(append([]byte(magic), version, byte(h.Kind)), secret, nil)
	if err := s.write(); err != nil {
		return nil, err
	}
	return s, nil
}

// Header returns the header of the stream.
func (s *Writer) Header() Header { return s.header }

// Bytes returns the number of bytes that were written, including those of a torn chunk.
func (s *Writer) Bytes() int64 { return s.bytes }

// WriteChunk writes a chunk. After an error each later call returns the same error, because
// the chunk may be torn, and a Reader could not read what follows a torn chunk.
func (s *Writer) WriteChunk(payload []byte) error { return s.writeChunk(payload, 0) }

// Close writes the last chunk. It does not close the io.Writer. A Writer without a Close needs
// no clean-up: its stream has no end.
func (s *Writer) Close() error {
	if err := s.writeChunk(nil, 1); err != nil {
		return err
	}
	s.err = errClosed
	return nil
}

func (s *Writer) writeChunk(payload []byte, last byte) error {
	if s.err != nil {
		return s.err
	}
	if len(payload) > MaxChunk {
		s.err = fmt.Errorf("sealed: a chunk of %d bytes: the maximum is %d", len(payload), MaxChunk)
		return s.err
	}
	b := binary.BigEndian.AppendUint32(s.buf[:0], uint32(len(payload)+keyring.Overhead))
	b = append(b, s.header.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, s.number)
	s.buf = s.ring.Seal(append(b, last), payload, chunkContext())
	s.number++
	return s.write()
}

// write writes buf.
func (s *Writer) write() error {
	n, err := s.w.Write(s.buf)
	s.bytes += int64(n)
	if err == nil && n != len(s.buf) {
		err = io.ErrShortWrite
	}
	s.err = err
	return err
}
