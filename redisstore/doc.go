// SPDX-License-Identifier: MIT

// Package redisstore keeps the entries of a resume.Store in Valkey or Redis. Several
// servers can then resume each other's sessions, and a restart loses no session.
//
// The entries are encrypted and authenticated. A party that can read Redis learns the
// number of sessions and their ids, sizes and times, but not their contents. It also learns
// how many identities resume.Store.RevokeIdentity was called for, and whether a name that it
// guesses is one of them. A party that can write to Redis can remove entries, keep them from
// expiring, and restore an earlier entry of the same id. So it can undo RevokeIdentity.
// Making a new entry requires a [Key]. An entry that cannot be opened is a miss, which costs
// the peer of a session a full handshake; [Stats] counts it.
//
// # Format of a value
//
//	version     1 byte    1
//	key         4 bytes   Key.ID, big endian
//	nonce       12 bytes  random
//	ciphertext            the entry, encrypted with AES-256-GCM
//	tag         16 bytes
//
// Package keyring seals everything after the version, and [Key] is its Key.
//
// The additional data is the version, the key's id and the name in Redis, which is
// Config.Prefix followed by the session id in hexadecimal. A value is therefore valid
// under its own name and version only.
//
// With random nonces, one key may encrypt 2^32 entries in total (NIST SP 800-38D, section
// 8.3), on all servers that use it. At 1000 full handshakes a second the key must be
// changed every 49 days. The README describes how to change it while servers run.
//
// # Failures
//
// After Config.Failures consecutive calls without a reply, a circuit breaker makes calls
// fail at once for the duration Config.Cooldown. Then it lets one call through. An error
// reply of the server is a reply: it does not open the circuit breaker.
package redisstore
