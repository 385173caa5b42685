// SPDX-License-Identifier: MIT

package dtlsserver

// MaxHeldRecords is how many protected records are held for a handshake.
const MaxHeldRecords = heldRecords
