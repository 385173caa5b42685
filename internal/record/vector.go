// SPDX-License-Identifier: MIT

package record

import "encoding/binary"

// ReadVector8 removes a vector from the start of b and returns its contents. The length
// in front of it has one byte (RFC 5246 section 4.3). It reports false, and leaves b as
// it is, if b is too short.
func ReadVector8(b *[]byte) ([]byte, bool) {
	if len(*b) < 1 {
		return nil, false
	}
	return readVector(b, 1, int((*b)[0]))
}

// ReadVector16 is ReadVector8 for a length of two bytes.
func ReadVector16(b *[]byte) ([]byte, bool) {
	if len(*b) < 2 {
		return nil, false
	}
	return readVector(b, 2, int(binary.BigEndian.Uint16(*b)))
}

// ReadVector24 is ReadVector8 for a length of three bytes.
func ReadVector24(b *[]byte) ([]byte, bool) {
	if len(*b) < 3 {
		return nil, false
	}
	return readVector(b, 3, uint24(*b))
}

func readVector(b *[]byte, lengthSize, length int) ([]byte, bool) {
	if len(*b)-lengthSize < length {
		return nil, false
	}
	end := lengthSize + length
	v := (*b)[lengthSize:end:end]
	*b = (*b)[end:]
	return v, true
}

// ReadUint16List is ReadVector16 for a vector of 16-bit values. It reports false also if
// there is no value, or half of one at the end.
func ReadUint16List(b *[]byte) ([]byte, bool) {
	list, ok := ReadVector16(b)
	return list, ok && len(list) > 0 && len(list)%2 == 0
}

// ContainsUint16 reports whether a list of 16-bit values contains a value.
func ContainsUint16(list []byte, value uint16) bool {
	for ; len(list) >= 2; list = list[2:] {
		if binary.BigEndian.Uint16(list) == value {
			return true
		}
	}
	return false
}
