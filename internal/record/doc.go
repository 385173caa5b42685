// SPDX-License-Identifier: MIT

// Package record is the DTLS 1.2 record layer (RFC 6347 section 4.1), with connection IDs
// (RFC 9146). It splits datagrams into records, and opens and seals the records of an
// established session. It also parses alerts and the parts of handshake messages that a
// server must know itself, outside of its DTLS library. The package does no I/O, reads no
// clock and starts no goroutine.
package record
