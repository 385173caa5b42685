// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// toldWrongFinished has a client send its last flight with some Finished, which must make no
// session, and once more a second later, which must be answered by a fatal alert.
func toldWrongFinished(t *testing.T, v *victim, c *dtlstest.ScriptedClient, messages [][]byte, end []byte) {
	t.Helper()
	refused := func() bool { _, refused := c.Refused(); return refused }
	completed := v.Stats().Completed
	send := func() {
		c.Send(append(c.Handshakes(messages...), c.ChangeCipherSpec(), c.Seal(record.TypeHandshake, end))...)
	}
	send()
	require.False(t, c.Await(time.Second, refused), "an alert for a record that anybody can send")
	require.Equal(t, completed, v.Stats().Completed, "a session")
	send()
	require.True(t, c.Await(2*roundTrip, refused), "no alert")
	description, _ := c.Refused()
	assert.Contains(t, []uint8{record.BadRecordMAC, record.DecryptError}, description)
	s := v.Stats()
	assert.Equal(t, completed, s.Completed)
	assert.EqualValues(t, 1, s.Failed)
	assert.EqualValues(t, 2, s.WrongKey+s.WrongFinished)
	assert.Zero(t, s.HalfOpen)
}

// TestWrongVerifyDataMakesNoSession: the client has the right keys, and its Finished does not
// cover what was said.
func TestWrongVerifyDataMakesNoSession(t *testing.T) {
	t.Parallel()
	certificate := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	for name, config := range map[string]*dtls.Config{
		"PSK": pskWith(), "ECDHE_PSK": pskWith(suiteECDHEPSK), "ECDHE_ECDSA": withCertificates(certificate, dtls.NoClientCert),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, config, dtlsserver.Config{}, func(t *testing.T, v *victim) {
				c := v.helloed(t)
				messages, err := c.KeyMessages()
				require.NoError(t, err)
				wrong := c.VerifyData()
				wrong[11] ^= 1
				toldWrongFinished(t, v, c, messages, c.Message(record.MessageFinished, wrong))
			})
		})
	}
}

// TestWrongVerifyDataResumesNoSession: as in a full handshake. The session can still be
// resumed.
func TestWrongVerifyDataResumesNoSession(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{Resumption: newStore(t, resume.Config{})}, func(t *testing.T, v *victim) {
		first := v.client(t)
		require.NoError(t, first.Handshake())
		require.True(t, first.Echo("first"))
		resuming := func() *dtlstest.ScriptedClient {
			c := v.client(t)
			c.Hello.SessionID, c.Master = []byte(first.Server.Hello.SessionID), first.Master
			require.NoError(t, c.Hellos())
			require.True(t, c.Resumes())
			return c
		}
		c := resuming()
		wrong := c.VerifyData()
		wrong[0] ^= 1
		toldWrongFinished(t, v, c, nil, c.Message(record.MessageFinished, wrong))

		finishes(t, resuming())
		assert.EqualValues(t, 1, v.Stats().Resumed)
	})
}

// TestWrongLengthOfVerifyDataMakesNoSession: a Finished whose verify_data are right, and
// longer or shorter than 12 bytes.
func TestWrongLengthOfVerifyDataMakesNoSession(t *testing.T) {
	t.Parallel()
	for _, length := range []int{0, 1, 11, 13, 100} {
		attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
			c := v.helloed(t)
			messages, err := c.KeyMessages()
			require.NoError(t, err)
			body := append(c.VerifyData(), make([]byte, 100)...)[:length]
			c.Send(append(c.Handshakes(messages...), c.ChangeCipherSpec(), c.Seal(record.TypeHandshake, c.Message(record.MessageFinished, body)))...)
			v.requireNoSession(t)
		})
	}
}

// TestWrongKeyMakesNoSession: the pre-shared key on the client is another one.
func TestWrongKeyMakesNoSession(t *testing.T) {
	t.Parallel()
	for name, suite := range map[string]record.SuiteID{"PSK": dtlstest.Suite, "ECDHE_PSK": suiteECDHEPSK} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, pskWith(suite), dtlsserver.Config{}, func(t *testing.T, v *victim) {
				c := v.helloed(t)
				c.Key = []byte("another key")
				messages, err := c.KeyMessages()
				require.NoError(t, err)
				toldWrongFinished(t, v, c, messages, c.Message(record.MessageFinished, c.VerifyData()))
			})
		})
	}
}

// TestForgedFinishedWhileClientsOwnIsLostEndsNoHandshake: the client's Finished is lost, and
// until the client repeats its flight a stranger sends records in its place. The stranger
// does not know the client's messages.
func TestForgedFinishedWhileClientsOwnIsLostEndsNoHandshake(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		c := v.helloed(t)
		exchange := keyExchange(t, c)
		end := c.Message(record.MessageFinished, c.VerifyData())
		c.Send(append(c.Handshakes(exchange), c.ChangeCipherSpec())...)
		_ = c.Seal(record.TypeHandshake, end) // lost
		for n := range 10 {
			v.network.Inject(addrPort(c), v.addr(), dtlstest.Unauthentic(record.TypeHandshake, uint64(n), 40))
			time.Sleep(100 * time.Millisecond)
		}
		c.Send(append(c.Handshakes(exchange), c.ChangeCipherSpec(), c.Seal(record.TypeHandshake, end))...)
		require.True(t, c.Await(5*time.Second, func() bool { return c.Server.Finished }), "no Finished")
		assert.True(t, c.Echo("in"))
		assert.Zero(t, v.Stats().Failed)
	})
}
