// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"crypto/rand"
	"crypto/subtle"
	"time"

	"github.com/go-dsm/dsm/internal/record"
)

// The types of a return_routability_check message (RFC 9853 section 4).
const (
	pathChallenge = 0
	pathResponse  = 1
	pathDrop      = 2
)

// pathCookie is the cookie of a return_routability_check message.
type pathCookie [8]byte

// routabilitySize is the size of such a message in bytes: its type and its cookie.
const routabilitySize = 1 + len(pathCookie{})

// routabilityMessage returns a return_routability_check message.
func routabilityMessage(messageType byte, cookie pathCookie) []byte {
	return append([]byte{messageType}, cookie[:]...)
}

// parseRoutability parses a return_routability_check message.
func parseRoutability(b []byte) (messageType byte, cookie pathCookie, ok bool) {
	if len(b) != routabilitySize {
		return 0, cookie, false
	}
	return b[0], pathCookie(b[1:]), true
}

// receiveRoutabilityLocked takes a return_routability_check message from a record of size
// bytes, and reports whether it had an effect.
func (c *Conn) receiveRoutabilityLocked(got *received, from route, message []byte, size int) bool {
	messageType, cookie, ok := parseRoutability(message)
	if !ok || !c.identity.routabilityCheck {
		return false
	}
	switch messageType {
	case pathChallenge:
		return c.answerChallengeLocked(got, from, cookie, size)
	case pathResponse:
		x := c.candidateLocked()
		if x == nil || x.to.peer != from.peer || x.challenges == 0 || subtle.ConstantTimeCompare(cookie[:], x.cookie[:]) == 0 {
			return false
		}
		x.verified = true
		got.displaced = c.moveLocked()
		return true
	}
	return false // a path_drop, or a type that is not known (RFC 9853 section 4)
}

// answerChallengeLocked answers a path_challenge at the address that it came from. It reports
// false if that would exceed the limit for an address that is not verified, or if the
// session does not move.
func (c *Conn) answerChallengeLocked(got *received, from route, cookie pathCookie, size int) bool {
	x := c.candidateLocked()
	isPeers := from.peer == c.peer.addr
	isCandidate := !isPeers && x != nil && x.to.peer == from.peer
	left := addressFactor * size // for an address that is neither, which an older record came from
	if isCandidate {
		left = x.left()
	}
	if !isPeers && (c.peer.listener.config.AddressChange == RefuseAddress || c.records.Overhead()+routabilitySize > left) {
		return false
	}
	response, err := c.records.Seal(nil, record.TypeRoutabilityCheck, routabilityMessage(pathResponse, cookie))
	if err != nil {
		return false
	}
	if isCandidate {
		x.sent += len(response)
	}
	got.replies = append(got.replies, reply{from, response})
	return true
}

// challengeLocked sends a path_challenge to an address from which an authentic record has
// come, if the session is to be moved there and it is time for one. There is no timer: the
// next record from there causes the next path_challenge. All for one address have the same
// cookie, so that the answer to each of them counts.
func (c *Conn) challengeLocked(got *received, from route, now time.Time) {
	x := c.candidateLocked()
	switch {
	case x == nil || x.to.peer != from.peer || x.verified || !c.identity.routabilityCheck || c.peer.listener.config.AddressChange != VerifyAddress:
		return
	case x.challenges == maxChallenges || now.Sub(x.challenged) < challengeInterval || c.records.Overhead()+routabilitySize > x.left():
		return
	case x.challenges == 0:
		_, _ = rand.Read(x.cookie[:]) // which never fails
	}
	challenge, err := c.records.Seal(nil, record.TypeRoutabilityCheck, routabilityMessage(pathChallenge, x.cookie))
	if err != nil {
		return
	}
	x.sent += len(challenge)
	x.challenges++
	x.challenged = now
	c.peer.listener.counters.routabilityChecks.Add(1)
	got.replies = append(got.replies, reply{x.to, challenge})
}
