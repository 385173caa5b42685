// SPDX-License-Identifier: MIT

package dtlsserver

// Stats are a Listener's counts. Established, HalfOpen and Backlog are of this moment; all
// others only grow.
type Stats struct {
	Established int // sessions
	HalfOpen    int // handshakes in progress, those beside an established session included
	Backlog     int // first ClientHellos that wait for room; with pionv4 those with a cookie

	MaxEstablished int // Config.Sessions
	MaxHalfOpen    int // Config.Handshakes

	// Handshakes. Started = HalfOpen + the sum of the others up to AuthorizeTimedOut.
	Started            uint64
	Completed          uint64
	Failed             uint64 // the client or pion gave up, or the session could not be taken over
	TimedOut           uint64 // Config.HandshakeTimeout
	Displaced          uint64 // ended for another handshake: a later one under pressure, or the same client's next one; or the session beside it has moved away
	UnknownPSKIdentity uint64 // Config.PSK gave no key: an error or an empty key
	Denied             uint64 // Config.Authorize has refused the session
	AuthorizeTimedOut  uint64 // Config.Authorize has not answered in time, or was not called: too many calls had not returned
	Resumed            uint64 // of Completed, the abbreviated handshakes

	// Restored counts the sessions that were taken over: by Listener.Attach and
	// Listener.Restore, and from Config.Journal.
	Restored uint64

	// Sessions by the Reason of their end. Completed + Restored = Established + the sum of
	// these.
	ClosedByUs       uint64
	ClosedByPeer     uint64
	Evicted          uint64
	Expired          uint64
	Replaced         uint64
	Refused          uint64
	Exhausted        uint64
	Detached         uint64
	Interrupted      uint64
	IdentityReplaced uint64
	IdentityRefused  uint64
	Withdrawn        uint64

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
	Closing      uint64 // Shutdown was called, or Save is running
	// UnsupportedVersion counts the ClientHellos that offer DTLS 1.3 alone: with pionv4.
	UnsupportedVersion uint64

	// HelloVerifyRequests counts the first ClientHellos that were answered by the server's own
	// HelloVerifyRequest, with nothing kept: with pionv4. They are not in Started, which counts
	// the clients that have returned their cookie. ForeignCookies counts how often a client has
	// returned the cookie for a ClientHello that a stranger had sent in its name, and was to be
	// told to begin anew.
	HelloVerifyRequests uint64
	ForeignCookies      uint64

	// ToldToRestart counts the clients that were told to begin their handshake anew, by a
	// fatal alert: they had returned the cookie of a handshake that nobody knows any more,
	// or of another ClientHello, or went on with a handshake that had ended. Denied and
	// AuthorizeTimedOut count those that were told something else.
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
	// SessionAges has how old sessions were when they ended, and SessionIdles how long they had
	// not been used then. A session that was taken over begins its age anew.
	SessionAges  Histogram
	SessionIdles Histogram

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

// Stats returns the counts, all of the same moment: the sums hold.
func (l *Listener) Stats() Stats {
	c := &l.counters
	s := Stats{
		MaxEstablished: l.config.Sessions, MaxHalfOpen: l.config.Handshakes, Backlog: l.backlog.len(),
		Resumed: c.resumed.Load(), NotResumed: c.notResumed.Load(),
		AddressChanges: c.addressChanges.Load(), AddressChangesRefused: c.addressChangesRefused.Load(),
		AddressLimited: c.addressLimited.Load(), RoutabilityChecks: c.routabilityChecks.Load(),
		HelloVerifyRequests: c.helloVerifyRequests.Load(), ForeignCookies: c.foreignCookies.Load(), ToldToRestart: c.toldToRestart.Load(),
		RoundTrips: c.roundTrips.load(), HandshakeTimes: c.handshakeTimes.load(),
		SessionAges: c.sessionAges.load(), SessionIdles: c.sessionIdles.load(),
	}
	if k := l.journal; k != nil {
		s.JournalBytes, s.JournalErrors = k.bytes.Load(), k.errors.Load()
	}
	l.admission.hold(func() { c.loadSums(&s) })
	return s
}
