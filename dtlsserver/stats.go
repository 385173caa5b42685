// SPDX-License-Identifier: MIT

package dtlsserver

// Stats are a Listener's counts. Established, HalfOpen and Backlog are of this moment; all
// others only grow.
type Stats struct {
	Established int // sessions
	HalfOpen    int // handshakes in progress, those beside an established session included
	Backlog     int // first ClientHellos that wait for room; with pionv4 those with a cookie

	// Handshakes. Started = HalfOpen + Completed + Failed + TimedOut + Displaced.
	Started   uint64
	Completed uint64
	Failed    uint64 // the client or pion gave up, or the session could not be taken over
	TimedOut  uint64 // Config.HandshakeTimeout
	Displaced uint64 // ended for another handshake: a later one under pressure, or the same client's next one; or the session beside it has moved away
	Resumed   uint64 // of Completed, the abbreviated handshakes

	// Restored counts the sessions that were taken over: by Listener.Attach and
	// Listener.Restore, and from Config.Journal.
	Restored uint64

	// Sessions by the Reason of their end. Completed + Restored = Established + the sum of
	// these.
	ClosedByUs   uint64
	ClosedByPeer uint64
	Evicted      uint64
	Expired      uint64
	Replaced     uint64
	Refused      uint64
	Exhausted    uint64
	Detached     uint64
	Interrupted  uint64

	// UnknownPSKIdentity counts, of Failed, the handshakes in which Config.PSK gave no
	// key: an error or an empty key.
	UnknownPSKIdentity uint64

	// NotResumed counts ClientHellos that named a session of Config.Resumption and
	// were answered with a full handshake: the policy, the suite, the key or the
	// certificates were against it.
	NotResumed uint64

	// First ClientHellos that started no handshake when they were received; with pionv4 those
	// with a cookie, and for SessionsFull both. Those of NoRoom and SourceShare wait for room:
	// see Backlog.
	NoRoom       uint64 // no slot was free, or Config.Handshakes was reached and no handshake could be displaced
	SourceShare  uint64 // Config.HandshakesPerSource was reached
	AddressShare uint64 // other handshakes of the same address and port wait for their cookie
	SessionsFull uint64 // Config.WhenFull is RefuseNewcomer

	// HelloVerifyRequests counts the first ClientHellos that were answered by the server's own
	// HelloVerifyRequest, with nothing kept: with pionv4. They are not in Started, which counts
	// the clients that have returned their cookie. ForeignCookies counts how often a client has
	// returned the cookie for a ClientHello that a stranger had sent in its name, and was to be
	// told to begin anew.
	HelloVerifyRequests uint64
	ForeignCookies      uint64

	// ToldToRestart counts the clients that were told to begin their handshake anew, by a
	// fatal alert: they had returned the cookie of a handshake that nobody knows any more,
	// or of another ClientHello, or went on with a handshake that had ended.
	ToldToRestart uint64
	// Stray counts datagrams of unknown peers that are not a client's first flight: a
	// ClientHello, or fragments of it. Those with a connection ID that leads to no session are
	// among them. With pionv4 so are first ClientHellos whose first fragment ends before the
	// extensions.
	Stray uint64

	// Sessions with a connection ID (RFC 9146). AddressChanges counts how often one has moved to
	// a new address of its peer. AddressChangesRefused counts how often one could not move:
	// another peer of the listener had the address, or Config.AddressChange is RefuseAddress and
	// an authentic record that is newer than all before came from there. AddressLimited counts
	// the datagrams that went to the last verified address, because with them a new one would
	// have got more than three times what had come from there. RoutabilityChecks counts the
	// path_challenge messages (RFC 9853) that were sent.
	AddressChanges        uint64
	AddressChangesRefused uint64
	AddressLimited        uint64
	RoutabilityChecks     uint64

	// JournalBytes counts the bytes of the sessions' entries in Config.Journal, without what
	// Listen wrote. JournalErrors counts the times when the disk had an error or did not
	// keep up, and sessions went on in memory.
	JournalBytes  uint64
	JournalErrors uint64

	// RoundTrips has the times from a client's first ClientHello until the client had
	// validated its address, by the cookie or by the Finished of an abbreviated handshake:
	// one round trip, and the client's repetitions if a datagram was lost. With pionv4 the time
	// is the age of the cookie when the handshake begins. It includes the time for which the
	// client has waited for room. The clients do not have to be authentic. HandshakeTimes has
	// the times from the first ClientHello to the established session.
	RoundTrips     Histogram
	HandshakeTimes Histogram

	// Records that were dropped.
	Malformed uint64 // a record's header, or a handshake message that breaks its syntax or exceeds a bound of Config
	Plaintext uint64 // of epoch 0, for an established session or not expected by its handshake, or from an address that is not the peer's
	Epoch     uint64 // of a later epoch that is not the session's, of a session that has just ended, or without a connection ID from an address that is not the peer's
	Replayed  uint64 // received before, or older than the replay window
	Forged    uint64 // not authentic
	QueueFull uint64 // no room in the session's queue, in Config.QueueTotal, or among those that wait for the end of their handshake
	Ignored   uint64 // authentic, and of a kind that has no effect

	// Records in the place of a client's Finished. A client whose key is not that of
	// its identity here sends such records, and so can a stranger. Each handshake of an
	// address counts a record that came before it had keys.
	WrongKey      uint64 // not sealed with the keys of the handshake
	WrongFinished uint64 // its verify_data is wrong (RFC 5246 section 7.4.9)
}

// Stats returns the counts. They are read one after the other: while the listener
// runs, sums can be off by what is in progress.
func (l *Listener) Stats() Stats {
	c := &l.counters
	established, halfOpen := l.admission.counts()
	var journalBytes, journalErrors uint64
	if k := l.journal; k != nil {
		journalBytes, journalErrors = k.bytes.Load(), k.errors.Load()
	}
	return Stats{
		JournalBytes: journalBytes, JournalErrors: journalErrors,
		Established: established, HalfOpen: halfOpen, Backlog: l.backlog.len(),
		Started: c.started.Load(), Completed: c.completed.Load(), Failed: c.failed.Load(), TimedOut: c.timedOut.Load(),
		Displaced: c.displaced.Load(), Resumed: c.resumed.Load(), NotResumed: c.notResumed.Load(),
		UnknownPSKIdentity: c.unknownPSKIdentity.Load(),
		ClosedByUs:         c.ended[ClosedByUs].Load(), ClosedByPeer: c.ended[ClosedByPeer].Load(), Evicted: c.ended[Evicted].Load(),
		Expired: c.ended[Expired].Load(), Replaced: c.ended[Replaced].Load(), Refused: c.ended[Refused].Load(), Exhausted: c.ended[Exhausted].Load(),
		Detached: c.ended[Detached].Load(), Interrupted: c.ended[Interrupted].Load(),
		Restored: c.restored.Load(),
		NoRoom:   c.noRoom.Load(), SourceShare: c.sourceShare.Load(), AddressShare: c.addressShare.Load(),
		AddressChanges: c.addressChanges.Load(), AddressChangesRefused: c.addressChangesRefused.Load(),
		AddressLimited: c.addressLimited.Load(), RoutabilityChecks: c.routabilityChecks.Load(),
		HelloVerifyRequests: c.helloVerifyRequests.Load(), ForeignCookies: c.foreignCookies.Load(),
		SessionsFull: c.sessionsFull.Load(), ToldToRestart: c.toldToRestart.Load(), Stray: c.stray.Load(),
		RoundTrips: c.roundTrips.load(), HandshakeTimes: c.handshakeTimes.load(),
		Malformed: c.malformed.Load(), Plaintext: c.plaintext.Load(), Epoch: c.epoch.Load(), Replayed: c.replayed.Load(),
		Forged: c.forged.Load(), QueueFull: c.queueFull.Load(), Ignored: c.ignored.Load(),
		WrongKey: c.wrongKey.Load(), WrongFinished: c.wrongFinished.Load(),
	}
}
