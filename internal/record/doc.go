// SPDX-License-Identifier: MIT

// Package record is the DTLS 1.2 record layer (RFC 6347 section 4.1): it splits
// datagrams into records, and opens and seals the records of an established
// session. It is pure: bytes in, bytes out. It knows no socket, no timer and no
// handshake but the few header fields that a demultiplexer must see.
package record
