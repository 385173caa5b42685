// SPDX-License-Identifier: MIT

package sealed

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/go-dsm/dsm/keyring"
)

// Reader reads a stream. It is not safe for concurrent use, and needs no closing.
type Reader struct {
	r          *bufio.Reader
	ring       *keyring.Ring
	header     Header
	number     uint64 // of the next chunk
	err        error  // of the first call that failed, or io.EOF
	atBoundary bool   // the stream ends before the last chunk, and after a whole chunk

	sealed, payload []byte // for reuse
}

// NewReader reads the header of a stream. It returns ErrKind if the stream is of another kind.
// The Reader reads r to its end, ahead of the chunks.
func NewReader(r io.Reader, ring *keyring.Ring, kind Kind) (*Reader, error) {
	s := &Reader{r: bufio.NewReaderSize(r, 64<<10), ring: ring}
	b := make([]byte, headerSize)
	n, readErr := io.ReadFull(s.r, b)
	if readErr != nil && !isEnd(readErr) {
		return nil, fmt.Errorf("sealed: header: %w", readErr)
	}
	if m := min(n, len(magic)); string(b[:m]) != magic[:m] {
		return nil, ErrNotSealed
	}
	if n > len(magic) && b[len(magic)] != version {
		return nil, fmt.Errorf("%w: %d, want %d", ErrVersion, b[len(magic)], version)
	}
	if readErr != nil {
		return nil, fmt.Errorf("%w: within its header", ErrTruncated)
	}
	secret, err := ring.Open(nil, b[:clearHeaderSize], b[clearHeaderSize:], nil)
	if err != nil {
		return nil, openError(err, "header")
	}
	s.header = Header{
		Kind:       Kind(b[clearHeaderSize-1]),
		Generation: binary.BigEndian.Uint64(secret),
		ID:         [16]byte(secret[8:]),
		Previous:   [16]byte(secret[24:]),
	}
	if s.header.Kind != kind {
		return nil, fmt.Errorf("%w: a %v, want a %v", ErrKind, s.header.Kind, kind)
	}
	return s, nil
}

// Header returns the header of the stream, which is authentic.
func (s *Reader) Header() Header { return s.header }

// AtBoundary reports whether Next has returned ErrTruncated for a stream that ends after its
// header or after a whole chunk. This is the end of a journal that is not torn.
func (s *Reader) AtBoundary() bool { return s.atBoundary }

// Next returns the payload of the next chunk. The payload is valid until the next call. The
// error is io.EOF after the last chunk, if nothing follows it. After an error each later call
// returns the same error.
func (s *Reader) Next() ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	payload, err := s.next()
	if err != nil {
		s.err = err
		return nil, err
	}
	s.number++
	return payload, nil
}

func (s *Reader) next() ([]byte, error) {
	var header [chunkHeaderSize]byte
	if _, err := io.ReadFull(s.r, header[:]); err != nil {
		s.atBoundary = err == io.EOF
		return nil, s.readError(err)
	}
	length, id := binary.BigEndian.Uint32(header[:]), [16]byte(header[4:])
	number, last := binary.BigEndian.Uint64(header[20:]), header[28] != 0
	if length < keyring.Overhead || length > keyring.Overhead+MaxChunk {
		return nil, fmt.Errorf("%w: chunk %d: length %d", ErrTampered, s.number, length)
	}
	if cap(s.sealed) < int(length) {
		s.sealed = make([]byte, length)
	}
	s.sealed = s.sealed[:length]
	if n, err := io.ReadFull(s.r, s.sealed); err != nil {
		if n == 0 && err == io.EOF {
			err = io.ErrUnexpectedEOF // within the chunk
		}
		return nil, s.readError(err)
	}
	payload, err := s.ring.Open(s.payload[:0], header[:], s.sealed, chunkContext())
	if err != nil {
		return nil, openError(err, fmt.Sprintf("chunk %d", s.number))
	}
	s.payload = payload
	// The chunk is authentic, so its id and its number say where it comes from.
	if id != s.header.ID {
		return nil, fmt.Errorf("%w: in the place of chunk %d", ErrForeign, s.number)
	}
	if number != s.number {
		return nil, fmt.Errorf("%w: chunk %d in the place of chunk %d", ErrOrder, number, s.number)
	}
	if !last {
		return payload, nil
	}
	if _, err := s.r.ReadByte(); err == nil {
		return nil, ErrTrailing
	} else if err != io.EOF {
		return nil, s.readError(err)
	}
	return nil, io.EOF
}

// readError returns the error of Next for an error of io.ReadFull.
func (s *Reader) readError(err error) error {
	switch {
	case err == io.EOF:
		return fmt.Errorf("%w: chunk %d is missing", ErrTruncated, s.number)
	case isEnd(err):
		return fmt.Errorf("%w: within chunk %d", ErrTruncated, s.number)
	}
	return fmt.Errorf("sealed: chunk %d: %w", s.number, err)
}

// isEnd reports whether an error of io.ReadFull is the end of the stream.
func isEnd(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

// openError returns the error of Reader for an error of Ring.Open, where place says what was
// opened.
func openError(err error, place string) error {
	if errors.Is(err, keyring.ErrForged) {
		return fmt.Errorf("%w: %s", ErrTampered, place)
	}
	return fmt.Errorf("sealed: %s: %w", place, err)
}
