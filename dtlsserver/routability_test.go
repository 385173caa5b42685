// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rrc returns a record with a return_routability_check message.
func (m *mobile) rrc(message ...byte) []byte { return m.seal(record.TypeRoutabilityCheck, message...) }

// challenges returns the cookies of the path_challenge messages that have arrived at an
// address.
func (m *mobile) challenges(at ...int) (cookies []pathCookie) {
	m.t.Helper()
	for _, n := range at {
		for _, got := range m.received(place(n)) {
			if got.kind == record.TypeRoutabilityCheck {
				messageType, cookie, ok := parseRoutability([]byte(got.payload))
				require.True(m.t, ok)
				require.EqualValues(m.t, pathChallenge, messageType)
				cookies = append(cookies, cookie)
			}
		}
	}
	return cookies
}

// challenge has a record arrive from an address, and returns the cookie of its path_challenge.
func (m *mobile) challenge(at int) pathCookie {
	m.t.Helper()
	m.inject(place(at), m.data("away"))
	cookies := m.challenges(at)
	require.Len(m.t, cookies, 1)
	return cookies[0]
}

// TestChallengeAndResponse: the response moves the session. Until then it is where it was.
func TestChallengeAndResponse(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{rrc: true, clientID: []byte{7}}, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		m.inject(place(1), m.data("here"))
		assert.Empty(t, m.challenges(1), "nothing is asked of an address that is known")
		cookie := m.challenge(2)
		assert.Equal(t, place(1), m.addrInTable())
		m.inject(place(2), m.rrc(routabilityMessage(pathResponse, cookie)...))
		assert.Equal(t, place(2), m.addrInTable())
		assert.Empty(t, m.challenges(1, 2))
		stats := w.Stats()
		assert.EqualValues(t, 1, stats.AddressChanges)
		assert.EqualValues(t, 1, stats.RoutabilityChecks)
		assert.Zero(t, stats.Ignored)

		m.inject(place(2), m.rrc(routabilityMessage(pathResponse, cookie)...))
		assert.EqualValues(t, 1, w.Stats().Ignored, "nothing was asked any more")
	})
}

// TestResponseCountsOnlyForItsCandidate: another cookie, the cookie of an earlier candidate,
// and the right one from elsewhere move nothing.
func TestResponseCountsOnlyForItsCandidate(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{rrc: true}, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		refused := func(from int, cookie pathCookie) {
			t.Helper()
			before := w.Stats().Ignored
			m.inject(place(from), m.rrc(routabilityMessage(pathResponse, cookie)...))
			assert.Equal(t, before+1, w.Stats().Ignored)
			assert.Equal(t, place(1), m.addrInTable())
		}
		refused(1, pathCookie{})
		refused(2, pathCookie{}) // the cookie of a candidate that was not asked yet
		m.challenges(2)
		time.Sleep(2 * challengeInterval)
		first := m.challenge(3)
		wrong := first
		wrong[7] ^= 1
		refused(3, wrong)
		late := m.rrc(routabilityMessage(pathResponse, first)...)
		m.inject(place(3), m.data("newer"))
		m.inject(place(4), late) // older, so that place(3) is the candidate still
		assert.EqualValues(t, 4, w.Stats().Ignored)
		assert.Equal(t, place(1), m.addrInTable())
		refused(4, first) // from a third address, which is the candidate now
		refused(3, first) // the candidate again, with another cookie
		time.Sleep(2 * challengeInterval)
		second := m.challenge(3)
		assert.NotEqual(t, first, second)
		refused(3, first)
		refused(1, second) // the client is back
		refused(3, second)
		assert.Zero(t, w.Stats().AddressChanges)

		time.Sleep(2 * challengeInterval)
		m.inject(place(3), m.rrc(routabilityMessage(pathResponse, m.challenge(3))...))
		assert.Equal(t, place(3), m.addrInTable())
	})
}

// TestChallengesAreFew: one a second for a session, also if the candidate changes, and
// maxChallenges for a candidate. They have the same cookie.
func TestChallengesAreFew(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{rrc: true}, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		var cookies []pathCookie
		for n := range 200 {
			m.inject(place(2), m.data("away"))
			cookies = append(cookies, m.challenges(2)...)
			require.Len(t, cookies, min(n/10+1, maxChallenges))
			time.Sleep(challengeInterval / 10)
		}
		require.Len(t, cookies, maxChallenges)
		for _, cookie := range cookies {
			assert.Equal(t, cookies[0], cookie)
		}
		more := 0
		for n := range 100 {
			m.inject(place(10+n%2), m.data("away"))
			more += len(m.challenges(10, 11))
			time.Sleep(challengeInterval / 10)
		}
		assert.Equal(t, 10, more)
		m.inject(place(11), m.rrc(routabilityMessage(pathResponse, cookies[0])...))
		assert.Equal(t, place(1), m.addrInTable())
	})
}

// TestChallengeKeepsLimit: there is none for which the limit has no room.
func TestChallengeKeepsLimit(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{rrc: true, clientID: make([]byte, 255)}, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		m.inject(place(2), m.data("x")) // with which the echo has no room either
		assert.Empty(t, w.takeSent(place(2)))
		m.inject(place(2), m.data("room for both is what this text has to make, with its length"))
		assert.Len(t, m.challenges(2), 1)
	})
}

// TestPathChallengeIsAnswered: where it came from, and within the limit there.
func TestPathChallengeIsAnswered(t *testing.T) {
	t.Parallel()
	cookie := pathCookie{1, 2, 3}
	response := mobileMessage{record.TypeRoutabilityCheck, string(routabilityMessage(pathResponse, cookie))}
	for _, clientID := range [][]byte{{7}, make([]byte, 255)} {
		withMobiles(t, &scriptedHandshaker{rrc: true, clientID: clientID}, Config{}, func(t *testing.T, w *mobileWorld) {
			m := w.connect(t, place(1), 1)
			older := m.rrc(routabilityMessage(pathChallenge, cookie)...)
			m.inject(place(1), m.rrc(routabilityMessage(pathChallenge, cookie)...))
			assert.Equal(t, []mobileMessage{response}, m.received(place(1)))
			m.inject(place(2), older)
			isShort := len(clientID) == 1
			if isShort {
				assert.Equal(t, []mobileMessage{response}, m.received(place(2)))
				_, ok := m.conn.UnverifiedAddress()
				assert.False(t, ok)
			} else {
				assert.Empty(t, m.received(place(2)), "the answer has more than three times its bytes")
			}
			m.inject(place(3), m.rrc(routabilityMessage(pathChallenge, cookie)...))
			got := m.received(place(3))
			if isShort {
				require.Len(t, got, 2)
				assert.Equal(t, response, got[0])
				assert.EqualValues(t, pathChallenge, got[1].payload[0])
			} else {
				assert.Empty(t, got)
				assert.EqualValues(t, 2, w.Stats().Ignored)
			}
		})
	}
}

// TestPathResponsesCountInLimit: those that go to a candidate.
func TestPathResponsesCountInLimit(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{rrc: true}, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		received, sent := 0, 0
		for range 10 {
			r := m.rrc(routabilityMessage(pathChallenge, pathCookie{1})...)
			received += len(r)
			m.inject(place(2), r)
			for _, datagram := range w.takeSent(place(2)) {
				sent += len(datagram)
			}
		}
		_, err := m.conn.Write(make([]byte, addressFactor*received-sent-m.conn.records.Overhead()+1))
		require.NoError(t, err)
		assert.Empty(t, w.takeSent(place(2)))
	})
}

// TestOtherRoutabilityMessagesAreIgnored, and all of them if they were not negotiated.
func TestOtherRoutabilityMessagesAreIgnored(t *testing.T) {
	t.Parallel()
	for _, negotiated := range []bool{true, false} {
		withMobiles(t, &scriptedHandshaker{rrc: negotiated}, Config{}, func(t *testing.T, w *mobileWorld) {
			m := w.connect(t, place(1), 1)
			messages := [][]byte{
				{}, {pathChallenge}, make([]byte, routabilitySize-1), make([]byte, routabilitySize+1),
				routabilityMessage(pathDrop, pathCookie{}), routabilityMessage(pathDrop+1, pathCookie{}), routabilityMessage(255, pathCookie{}),
			}
			if !negotiated {
				messages = append(messages, routabilityMessage(pathChallenge, pathCookie{}), routabilityMessage(pathResponse, pathCookie{}))
			}
			for _, message := range messages {
				m.inject(place(1), m.rrc(message...))
			}
			assert.Empty(t, m.received(place(1)))
			assert.EqualValues(t, len(messages), w.Stats().Ignored)
			m.inject(place(2), m.data("away"))
			assert.Equal(t, negotiated, len(m.challenges(2)) > 0)
			assert.Zero(t, m.conn.EndReason())
		})
	}
}

// TestVerifiedAddressIsNotChallengedAgain: it is taken, and the session waits for it.
func TestVerifiedAddressIsNotChallengedAgain(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{rrc: true}, Config{}, func(t *testing.T, w *mobileWorld) {
		m, other := w.connect(t, place(1), 1), w.connect(t, place(2), 2)
		m.inject(place(2), m.rrc(routabilityMessage(pathResponse, m.challenge(2))...))
		assert.EqualValues(t, 1, w.Stats().AddressChangesRefused)
		time.Sleep(2 * challengeInterval)
		m.inject(place(2), m.data("again"))
		assert.Empty(t, m.challenges(2))
		assert.EqualValues(t, 2, w.Stats().AddressChangesRefused)
		require.NoError(t, other.conn.Close())
		w.takeSent(place(2))
		m.inject(place(2), m.data("free"))
		assert.Equal(t, place(2), m.addrInTable())
	})
}
