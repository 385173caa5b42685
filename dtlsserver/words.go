// SPDX-License-Identifier: MIT

package dtlsserver

import "iter"

// Kind says what a word of Stats.Counts and of Listener.Refusals is said of.
type Kind uint8

// The kinds.
const (
	HandshakeResult Kind = iota // the end of a handshake
	SessionEnd                  // the end of a session: the word of a Reason
	HelloRefusal                // a ClientHello that has begun no handshake
	RecordDrop                  // a record, or a datagram, that was dropped
	numKinds
)

var kindNames = [numKinds]string{"handshake", "end", "refusal", "drop"}

// String returns the kind in a word.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return "unknown"
}

// word is what Stats, logs and metrics say of a handshake's end, a refusal or a drop. Those of
// a session's end are the Reasons.
type word uint8

const (
	resultCompleted word = iota
	resultFailed
	resultTimedOut
	resultDisplaced
	resultUnknownPSKIdentity
	resultDenied
	resultAuthorizeTimedOut

	helloNoRoom
	helloSourceShare
	helloAddressShare
	helloSessionsFull
	helloClosing
	helloUnsupportedVersion

	recordMalformed
	recordPlaintext
	recordEpoch
	recordReplayed
	recordForged
	recordQueueFull
	recordIgnored
	recordWrongKey
	recordWrongFinished
	recordStray

	numWords
)

// words has each word's text, and where Stats has its count.
var words = [numWords]struct {
	kind Kind
	text string
	in   func(*Stats) *uint64
}{
	resultCompleted:          {HandshakeResult, "completed", func(s *Stats) *uint64 { return &s.Completed }},
	resultFailed:             {HandshakeResult, "failed", func(s *Stats) *uint64 { return &s.Failed }},
	resultTimedOut:           {HandshakeResult, "timed_out", func(s *Stats) *uint64 { return &s.TimedOut }},
	resultDisplaced:          {HandshakeResult, "displaced", func(s *Stats) *uint64 { return &s.Displaced }},
	resultUnknownPSKIdentity: {HandshakeResult, "unknown_psk_identity", func(s *Stats) *uint64 { return &s.UnknownPSKIdentity }},
	resultDenied:             {HandshakeResult, "denied", func(s *Stats) *uint64 { return &s.Denied }},
	resultAuthorizeTimedOut:  {HandshakeResult, "authorize_timed_out", func(s *Stats) *uint64 { return &s.AuthorizeTimedOut }},

	helloNoRoom:             {HelloRefusal, "no_room", func(s *Stats) *uint64 { return &s.NoRoom }},
	helloSourceShare:        {HelloRefusal, "source_share", func(s *Stats) *uint64 { return &s.SourceShare }},
	helloAddressShare:       {HelloRefusal, "address_share", func(s *Stats) *uint64 { return &s.AddressShare }},
	helloSessionsFull:       {HelloRefusal, "sessions_full", func(s *Stats) *uint64 { return &s.SessionsFull }},
	helloClosing:            {HelloRefusal, "closing", func(s *Stats) *uint64 { return &s.Closing }},
	helloUnsupportedVersion: {HelloRefusal, "unsupported_version", func(s *Stats) *uint64 { return &s.UnsupportedVersion }},

	recordMalformed:     {RecordDrop, "malformed", func(s *Stats) *uint64 { return &s.Malformed }},
	recordPlaintext:     {RecordDrop, "plaintext", func(s *Stats) *uint64 { return &s.Plaintext }},
	recordEpoch:         {RecordDrop, "epoch", func(s *Stats) *uint64 { return &s.Epoch }},
	recordReplayed:      {RecordDrop, "replayed", func(s *Stats) *uint64 { return &s.Replayed }},
	recordForged:        {RecordDrop, "forged", func(s *Stats) *uint64 { return &s.Forged }},
	recordQueueFull:     {RecordDrop, "queue_full", func(s *Stats) *uint64 { return &s.QueueFull }},
	recordIgnored:       {RecordDrop, "ignored", func(s *Stats) *uint64 { return &s.Ignored }},
	recordWrongKey:      {RecordDrop, "wrong_key", func(s *Stats) *uint64 { return &s.WrongKey }},
	recordWrongFinished: {RecordDrop, "wrong_finished", func(s *Stats) *uint64 { return &s.WrongFinished }},
	recordStray:         {RecordDrop, "stray", func(s *Stats) *uint64 { return &s.Stray }},
}

// ends has, for each Reason, its word, and where Stats has its count.
var ends = [numReasons]struct {
	text string
	in   func(*Stats) *uint64
}{
	ClosedByUs:       {"closed_by_us", func(s *Stats) *uint64 { return &s.ClosedByUs }},
	ClosedByPeer:     {"closed_by_peer", func(s *Stats) *uint64 { return &s.ClosedByPeer }},
	Evicted:          {"evicted", func(s *Stats) *uint64 { return &s.Evicted }},
	Expired:          {"expired", func(s *Stats) *uint64 { return &s.Expired }},
	Replaced:         {"replaced", func(s *Stats) *uint64 { return &s.Replaced }},
	Refused:          {"refused", func(s *Stats) *uint64 { return &s.Refused }},
	Exhausted:        {"exhausted", func(s *Stats) *uint64 { return &s.Exhausted }},
	Detached:         {"detached", func(s *Stats) *uint64 { return &s.Detached }},
	Interrupted:      {"interrupted", func(s *Stats) *uint64 { return &s.Interrupted }},
	IdentityReplaced: {"identity_replaced", func(s *Stats) *uint64 { return &s.IdentityReplaced }},
	IdentityRefused:  {"identity_refused", func(s *Stats) *uint64 { return &s.IdentityRefused }},
	Withdrawn:        {"withdrawn", func(s *Stats) *uint64 { return &s.Withdrawn }},
}

// eventID is a word of any kind: a word, or a Reason's, or notResumed, which the log alone has.
type eventID uint8

const (
	firstEnd   = eventID(numWords)
	notResumed = firstEnd + eventID(numReasons)
	numEvents  = notResumed + 1
)

func (w word) event() eventID   { return eventID(w) }
func (r Reason) event() eventID { return firstEnd + eventID(r) }

func (id eventID) kind() Kind {
	switch {
	case id < firstEnd:
		return words[id].kind
	case id < notResumed:
		return SessionEnd
	default:
		return HandshakeResult
	}
}

func (id eventID) String() string {
	switch {
	case id < firstEnd:
		return words[id].text
	case id < notResumed:
		return Reason(id - firstEnd).String()
	default:
		return "not_resumed"
	}
}

// Count is how often something has happened. Word is the same in logs and metrics: lower case,
// with underscores.
type Count struct {
	Kind Kind
	Word string
	N    uint64
}

// Counts returns the count of each word of each kind, in a fixed order, also those that are 0.
// A word is unique within its kind.
func (s *Stats) Counts() iter.Seq[Count] {
	return func(yield func(Count) bool) {
		for _, w := range words {
			if !yield(Count{w.kind, w.text, *w.in(s)}) {
				return
			}
		}
		for _, e := range ends[1:] {
			if !yield(Count{SessionEnd, e.text, *e.in(s)}) {
				return
			}
		}
	}
}
