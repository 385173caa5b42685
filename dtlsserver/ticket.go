// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"container/list"
	"net/netip"
	"time"
)

// clientClass says which of the places a client may have.
type clientClass uint8

const (
	// newcomer: any client.
	newcomer clientClass = iota
	// returning: clients that strangers can hardly imitate. They have named a session that
	// Config.Resumption knows, or their address has a session. They may take any place,
	// and newcomers leave some for them.
	returning
	numClasses
)

// ticket is the place that a handshake has in its admission. The admission's lock
// guards all of it but owner.
type ticket struct {
	owner displaceable // set before the ticket is admitted, never changed

	started        time.Time
	validatedAfter time.Duration // from started until the client validated its address; 0: it has not
	validatedFirst bool          // before the handshake began, by a cookie of the server's own
	ended          bool          // the ticket no longer counts
	lookingUp      bool          // Config.Resumption is being asked for the session that the client has named
	class          clientClass
	prefix         netip.Prefix // the client's network
	named          uint64       // key of the session in admission.named; 0: none
	waiting        waiting      // its place in the queues
}

// displaceable is the owner of a ticket. displaced is called once the ticket has
// ended for another handshake, with the admission's lock held.
type displaceable interface{ displaced() }

// patienceKind is how long a handshake keeps its place.
type patienceKind uint8

const (
	awaitsCookie     patienceKind = iota // it waits for its cookie
	awaitsCookieLong                     // the same, with the longer time also in a crowd
	validated                            // its client has validated its address
	validatedLong                        // the same, with the longer time also in a crowd, or its client has named a session
	numPatienceKinds
)

// queues has tickets by the kind of their patience, those that have waited longest first.
type queues [numPatienceKinds]list.List

func (q *queues) len() int {
	n := 0
	for i := range q {
		n += q[i].Len()
	}
	return n
}

// waiting is the place of a ticket in the queues.
type waiting struct {
	since           time.Time
	kind            patienceKind
	inAll, inSource *list.Element // inSource is nil for a returning client
}
