// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"time"

	"github.com/go-dsm/dsm/internal/record"
)

// The values of Config's and Journal's fields where they are zero.
const (
	DefaultSessions          = 1024
	DefaultHandshakes        = 1000             // by memory: each has pion's
	DefaultAuthorizeTimeout  = 10 * time.Second // as long as a user waits
	DefaultHandshakeTimeout  = time.Minute      // a client with a round trip of 10 s that loses two datagrams gets in
	DefaultMinAvailableAfter = 15 * time.Second // RIOT's gcoap waits as long
	DefaultWorkers           = 64
	DefaultAcceptQueue       = 128
	DefaultQueueDatagrams    = 64
	DefaultQueueBytes        = 64 << 10
	DefaultQueueTotal        = 64 << 20
	DefaultJournalInterval   = time.Second
	DefaultJournalRate       = 8 << 20 // bytes per second
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
	// Of Config.Handshakes, one in reservedPart is kept for returning clients. One in
	// patientPart keeps its place for the longer time also in a crowd. A network has no more
	// than its share when newcomers have all but one in pressurePart of their places.
	reservedPart = 8
	patientPart  = 8
	pressurePart = 4
	// Handshakes that have not ended entirely, displaced ones included, exceed
	// Config.Handshakes by at most one in endingPart, and minEnding. Each has pion's memory.
	endingPart = 4
	minEnding  = 16

	// How long a handshake that waits for its cookie keeps its place while others need
	// places: in a crowd at least, in a crowd while no client has got in yet, and otherwise. A
	// stranger's ClientHello occupies its place for as long. RFC 7925 section 11 has devices
	// with a first timer of 9 s.
	minPatience   = 500 * time.Millisecond
	firstPatience = 3 * time.Second
	longPatience  = 15 * time.Second
	// How long a handshake whose client has validated its address keeps its place, in a crowd
	// at least: the client computes meanwhile, or repeats a flight after 1 s.
	minCompletion = 2 * time.Second
	// What a round trip is taken for while no client has got in yet.
	firstRoundTrip = 1400 * time.Millisecond
	// As many handshakes of a kind, or more, are displaced one after the other and not
	// together.
	paceFrom = 16
	// The displacements that were possible in one part in so many of a patience, and did not
	// come, may come later.
	paceCredit = 16
	// Time after the start of a listener in which no client is expected to have got in: two
	// round trips of the slowest, and a repetition.
	settlingTime = 30 * time.Second
	// A faster client lowers the learned time by one part in so many of the difference.
	patienceDecay = 16

	// Handshakes in progress that count as those of a returning client, of all that name the
	// same session.
	maxNamed = 4
	// Handshakes of one address that wait for its validation: anybody can send one
	// ClientHello after the other in the client's name.
	maxUnvalidated = 2
	// Handshakes of one address that have validated it: the client has given up all but the
	// last.
	maxValidated = 2
	// Age at which a handshake that waits for its cookie ends for another ClientHello of its
	// address: for one that is repeated, and for any.
	restartAfter   = 500 * time.Millisecond
	restartUnasked = 15 * time.Second
	// First flights that are remembered to see whether they are repeated.
	rememberedHellos = 1 << 12

	// First flights that wait for room: so many for each of Config.Handshakes, and their
	// bytes. What a flight costs besides its datagram.
	backlogFactor  = 16
	backlogBytes   = 8 << 20
	flightOverhead = 320
	// As many as one in so many of Config.Handshakes are a crowd, for which the patience is
	// shortened.
	crowdPart = 4
	// Flights whose networks have their shares that are tried before the others have to wait.
	shareTries = 16
	// Age at which a flight that waits is dropped. A client that is still there repeats its
	// flight every 60 s at least (RFC 6347 section 4.2.4.1).
	maxFlightAge = 90 * time.Second

	// Time for which the server's own cookie is valid: a client repeats its second ClientHello
	// every 60 s at least. Whoever has received at an address, or has seen its cookie, can
	// begin handshakes in its name for as long. Time after which the key of new cookies changes.
	cookieLifetime  = 2 * time.Minute
	cookieKeyPeriod = time.Minute
	// Bytes that go to an address which the peer may have moved to, for each byte of its records
	// from there (RFC 9146 section 6, RFC 9853): so nobody gets more from a server than was sent
	// in its name.
	addressFactor = 3
	// The path_challenge messages to such an address, and the time between two of a session: a
	// few may be lost.
	maxChallenges     = 5
	challengeInterval = time.Second
	// Bytes of Config.ServerID: a connection ID is in each record of a client.
	maxServerID = 16

	// Cookies that are remembered when their handshake has ended: 8 bytes each.
	rememberedCookies = 1 << 15
	// Time after the start of a listener in which any cookie of a stranger is taken for one
	// of the listener before it.
	staleCookieTime = time.Minute
	// Clients in a second that are told to begin anew, and as many others whose cookie is not
	// known: 15 bytes each, in the first minute to any address that a stranger claims.
	maxRestarts = 100
	// An address whose cookie is not known is told at most maxTold times in tellAgainAfter.
	// Clients for which is remembered that they were told.
	maxTold        = 2
	tellAgainAfter = 30 * time.Second
	rememberedTold = 1 << 12
	// What is added to the ClientHello's sequence number for that of the alert. No client gets
	// as many HelloVerifyRequests.
	restartSequence = 32
	// What is added to the sequence number of a client's last flight for that of the alert. The
	// server's flight before it has up to some hundred records, each repetition included.
	lastFlightSequence = 1 << 10

	// Protected records, and their bytes, that are held until their handshake is done:
	// anybody can send them.
	heldRecords = 16
	heldBytes   = 16 << 10

	// Of the events of a word and a network, those that are told in an interval; the networks
	// that each word has an interval of its own for; what Listener.Refusals returns at most.
	eventInterval = 10 * time.Second
	eventBurst    = 5
	eventNetworks = 64
	maxRefusals   = 100
	// Events that wait for the log, 150 bytes each: the log's handler can hang. Time between two
	// times that they are written.
	maxWaiting   = 1 << 12
	tellInterval = time.Second

	// Silence after which a session's ciphers are released: they are most of its memory.
	releaseAfter = time.Minute
	// Idle sessions that keep ciphers which forged records have built, up to 1.7 KB each: so
	// a run of forged records derives the keys once.
	maxWarm = 64
	// Time in which the sweeper looks at each session once. Sessions that it looks at together,
	// which takes some ten microseconds, and the pause after that: so it does not hold up others
	// on a machine with one core.
	sweepInterval = releaseAfter / 2
	sweepPart     = 256
	sweepPause    = time.Millisecond
	// Sessions that each end has the sweeper look at, and sessions of the sweeper of which any
	// number may have ended.
	sweptByEnd = 4
	manySwept  = 64
	// Elements of a queue that are allocated together.
	fifoChunk = 128
	// Sockets on one port: a session keeps the number of its socket in a byte.
	maxSockets = 256
	// Datagrams that are read by one system call: more gain nothing.
	readBatch = 32
	// Datagrams that leave by one system call. Time that the first one waits for the others, while
	// a processor is free and apart from the granularity of timers. Bytes of a buffer for a
	// datagram that waits, which is kept for the next one.
	maxCollected = 64
	maxHold      = 500 * time.Microsecond
	maxKept      = 2 << 10
	// System calls by which a goroutine sends what others write meanwhile.
	maxSends = 2
	// When more than one hold of an outbox in lateCost has lasted for maxHold, a few beyond that
	// suspend them, for so many batches that are read.
	lateCost       = 64
	maxLateness    = 16 * lateCost
	suspendedHolds = 1 << 8
	// Time that a handler takes at most before the answers of others do not wait for it any more.
	slowHandler = maxHold / 2
	// Datagrams of one session that a worker handles before the next session has its turn.
	workerTurn = 16
	// Time that a goroutine of the listener spends on Config.Resumption for one session:
	// Close waits for it.
	storeTimeout = time.Second

	// What was received for a session and not read goes with its state: bytes and datagrams at
	// most, so that one session fits into a chunk of a snapshot.
	maxUnread          = 512 << 10
	maxUnreadDatagrams = 4096
	// States that were attached, by their ids, of which another Attach in this process is
	// refused.
	rememberedStates = 1 << 16
	// Earlier sessions that are checked at the same time: Config.PSK may wait for each.
	restoreChecks = 64
	// Bytes of a chunk of a snapshot.
	snapshotChunk = 64 << 10

	// Sequence numbers that a session reserves in the journal at least, half of which are left
	// when it reserves anew: so it does that hardly ever, and a slow disk has time.
	reservation = 1 << 24
	// Sequence numbers above its ceiling, at most, at which a session goes on after a crash.
	maxDistance = 1 << 40
	// Bytes that the journal's file may grow by, besides twice its first size, before a new
	// one is begun; time until a broken journal is tried again; entries that may wait,
	// besides two for each session, before the journal is broken.
	journalMinGrowth  = 1 << 20
	maxJournalBackoff = time.Minute
	journalSlack      = 1 << 10
	// Bytes of a journal's update: the replay window's end, and the time of the last use.
	updateSize = 8 + 8
	// Sessions of a journal that are checked together.
	recoverPart = 1 << 10

	// Identities that Listener.EndIdentity has ended, 40 bytes each, that are remembered for the
	// handshakes in progress, and for how many times Config.HandshakeTimeout. Beyond that number
	// the sessions of all handshakes that began before end with Withdrawn.
	maxWithdrawals   = 1 << 12
	withdrawalFactor = 2

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
