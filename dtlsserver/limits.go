// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"time"

	"github.com/go-dsm/dsm/internal/record"
)

// The values of Config's fields where they are zero.
const (
	DefaultSessions          = 1024
	DefaultHandshakeTimeout  = 10 * time.Second
	DefaultMinAvailableAfter = 15 * time.Second // RIOT's gcoap waits as long
	DefaultWorkers           = 64
	DefaultAcceptQueue       = 128
	DefaultQueueDatagrams    = 64
	DefaultQueueBytes        = 64 << 10
	DefaultQueueTotal        = 64 << 20
)

// The bounds of what a client sends in its handshake where Config's fields are zero. A
// client without bounds could have each handshake in progress hold megabytes.
const (
	DefaultMaxClientHello      = 8 << 10  // bytes: with several post-quantum key shares
	DefaultMaxPSKIdentity      = 1 << 10  // bytes; RFC 4279 section 5.3 asks for 128
	DefaultMaxCertificateChain = 16 << 10 // bytes, of DER
	DefaultMaxCertificates     = 10       // of a chain
)

// Bounds that the user does not choose: what each bounds, and against which attack or
// cost.
const (
	// The defaults of Config.Handshakes and Config.HandshakesPerSource are at least these.
	minHandshakes = 16
	minShare      = 4

	// Age at which another ClientHello may restart a handshake: anybody can send one in the
	// client's name, and the client returns its cookie meanwhile.
	restartAfter = 500 * time.Millisecond
	// Age at which a handshake with a validated address may be displaced: clients that fall
	// silent must not lock others out.
	stallAfter = 2 * time.Second
	// Handshakes that have not ended entirely, displaced ones included, are at most this
	// many times Config.Handshakes, and minHandshakes: each is some 37 KB of pion's.
	runningFactor = 2
	// Protected records, and their bytes, that are held until their handshake is done:
	// anybody can send them.
	heldRecords = 16
	heldBytes   = 16 << 10

	// Silence after which a session's ciphers are released: they are most of its memory.
	releaseAfter = time.Minute
	// Idle sessions that keep ciphers which forged records have built, up to 1.7 KB each: so
	// a run of forged records derives the keys once.
	maxWarm = 64
	// Ended sessions that the sweeper may keep in memory before it sweeps at once.
	manyEnded = 64
	// Sockets on one port: a session keeps the number of its socket in a byte.
	maxSockets = 256
	// Datagrams that are read by one system call: more gain nothing.
	readBatch = 32
	// Datagrams of one session that a worker handles before the next session has its turn.
	workerTurn = 16
	// Time that a goroutine of the listener spends on Config.Resumption for one session:
	// Close waits for it.
	storeTimeout = time.Second

	// Bytes of the longest record (RFC 5246 section 6.2.3).
	maxDatagram = record.HeaderSize + record.MaxPlaintext + 2048
	// Bytes of a socket's buffer: one more, to recognize a longer datagram.
	readBuffer = maxDatagram + 1
	// Bytes of a queued datagram besides those of its room: the struct, and its places in
	// the queue's array, which has up to twice as many as are taken.
	bufferOverhead = 64
	// Bytes of a session's queue above which the queue is in a list of queueTotal, which
	// takes a lock: a few datagrams do not.
	longQueue = 4 << 10
	// Bytes of ChangeCipherSpec and Finished, of any suite.
	flightBuffer = 256
)
