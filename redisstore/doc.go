// SPDX-License-Identifier: MIT

// Package redisstore keeps the entries of a resume.Store in Valkey or Redis, so that
// several servers resume each other's sessions and a restart forgets none.
//
// What it keeps is sealed: who can read the server sees how many sessions there are,
// their ids, sizes and times, and nothing in them. Who can write to it can remove
// entries, keep them from expiring and bring back what once was there under the same
// id; to make one takes a [Key]. An entry that does not open is a miss, for the peer a
// full handshake, and is counted in [Stats].
//
// # The sealed value
//
//	version  1 byte    1
//	key      4 bytes   Key.ID, big endian
//	nonce    12 bytes  random
//	sealed   the entry and a tag of 16 bytes, by AES-256-GCM
//
// The additional data is the version and the key's id, and then the name in Redis:
// Config.Prefix and the session id in hex. So a value opens under no other name, and as
// no other version.
//
// With random nonces a key may seal 2^32 entries in all (NIST SP 800-38D, section 8.3),
// from all servers that have it: at 1000 full handshakes a second change it
// every 49 days. How to do that while servers run is in the README.
//
// # When the server fails
//
// After Config.Failures calls in a row without an answer, calls fail at once for
// Config.Cooldown; then one of them tries. An error that the server answers with is no
// such failure: it took no longer than any answer.
package redisstore
