// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// finished makes the client's ChangeCipherSpec and Finished.
func finished(c *dtlstest.ScriptedClient) [][]byte {
	return [][]byte{c.ChangeCipherSpec(), c.Seal(record.TypeHandshake, c.Message(record.MessageFinished, c.VerifyData()))}
}

// keyExchange makes the client's ClientKeyExchange, and derives the keys.
func keyExchange(t *testing.T, c *dtlstest.ScriptedClient) []byte {
	t.Helper()
	m := c.Message(record.MessageClientKeyExchange, c.KeyExchange())
	require.NoError(t, c.DeriveKeys())
	return m
}

// certificateOf returns the client's Certificate message, and certificateVerify its
// CertificateVerify.
func certificateOf(c *dtlstest.ScriptedClient) []byte {
	return c.Message(record.MessageCertificate, dtlstest.CertificateList(c.Chain))
}

func certificateVerify(c *dtlstest.ScriptedClient) []byte {
	return c.Message(record.MessageCertificateVerify, c.CertificateVerify())
}

// TestWrongFlightOfMessagesMakesNoSession: the client's last flight has other messages than
// RFC 5246 section 7.3 allows, or another order. The client's Finished covers them.
func TestWrongFlightOfMessagesMakesNoSession(t *testing.T) {
	t.Parallel()
	type client = *dtlstest.ScriptedClient
	extra := func(kind uint8, body ...byte) func(t *testing.T, c client) [][]byte {
		return func(t *testing.T, c client) [][]byte {
			first := c.Message(kind, body)
			return append(c.Handshakes(first, keyExchange(t, c)), finished(c)...)
		}
	}
	hello := dtlstest.ClientHello{Random: dtlstest.RandomOf(1)}.Body()
	serverHello := append(append([]byte{254, 253}, make([]byte, 32)...), 0, 0, 0xa8, 0)
	flights := map[string]func(t *testing.T, c client) [][]byte{
		"a HelloRequest":       extra(dtlstest.MessageHelloRequest),
		"a ClientHello":        extra(record.MessageClientHello, hello...),
		"a ServerHello":        extra(record.MessageServerHello, serverHello...),
		"a HelloVerifyRequest": extra(record.MessageHelloVerifyRequest, 254, 253, 0),
		"a ServerHelloDone":    extra(record.MessageServerHelloDone),
		"an unknown message":   extra(99, 1),
		"CertificateVerify before ClientKeyExchange": func(t *testing.T, c client) [][]byte {
			certificate, verify := certificateOf(c), certificateVerify(c)
			return append(c.Handshakes(certificate, verify, keyExchange(t, c)), finished(c)...)
		},
		"CertificateVerify without Certificate": func(t *testing.T, c client) [][]byte {
			return append(c.Handshakes(keyExchange(t, c), certificateVerify(c)), finished(c)...)
		},
		"CertificateVerify after an empty Certificate": func(t *testing.T, c client) [][]byte {
			empty := c.Message(record.MessageCertificate, dtlstest.CertificateList(nil))
			return append(c.Handshakes(empty, keyExchange(t, c), certificateVerify(c)), finished(c)...)
		},
		"Certificate without CertificateVerify": func(t *testing.T, c client) [][]byte {
			return append(c.Handshakes(certificateOf(c), keyExchange(t, c)), finished(c)...)
		},
		"Certificate twice": func(t *testing.T, c client) [][]byte {
			return append(c.Handshakes(certificateOf(c), certificateOf(c), keyExchange(t, c), certificateVerify(c)), finished(c)...)
		},
		"Certificate after ClientKeyExchange": func(t *testing.T, c client) [][]byte {
			return append(c.Handshakes(keyExchange(t, c), certificateOf(c), certificateVerify(c)), finished(c)...)
		},
		"ClientKeyExchange twice": func(t *testing.T, c client) [][]byte {
			first := c.Message(record.MessageClientKeyExchange, c.KeyExchange())
			return append(c.Handshakes(first, keyExchange(t, c)), finished(c)...)
		},
		"no ClientKeyExchange": func(t *testing.T, c client) [][]byte {
			require.NoError(t, c.DeriveKeys())
			return finished(c)
		},
		"no ChangeCipherSpec": func(t *testing.T, c client) [][]byte {
			return append(c.Handshakes(keyExchange(t, c)), finished(c)[1])
		},
		"Finished in plaintext": func(t *testing.T, c client) [][]byte {
			records := append(c.Handshakes(keyExchange(t, c)), c.ChangeCipherSpec())
			return append(records, c.Handshakes(c.Message(record.MessageFinished, c.VerifyData()))...)
		},
		"Finished before all others": func(t *testing.T, c client) [][]byte {
			require.NoError(t, c.DeriveKeys())
			return append(finished(c), c.Handshakes(c.Message(record.MessageClientKeyExchange, c.KeyExchange()))...)
		},
		"application data instead of Finished": func(t *testing.T, c client) [][]byte {
			records := append(c.Handshakes(keyExchange(t, c)), c.ChangeCipherSpec())
			return append(records, c.Seal(record.TypeApplicationData, []byte("data")))
		},
	}
	certificate := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	for kind, config := range map[string]*dtls.Config{
		"PSK":                      pskWith(),
		"no certificate requested": withCertificates(certificate, dtls.NoClientCert),
		"certificate requested":    withCertificates(certificate, dtls.RequestClientCert),
	} {
		for name, flight := range flights {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				attack(t, config, dtlsserver.Config{}, func(t *testing.T, v *victim) {
					v.certificate = certificate
					c := v.helloed(t)
					records := flight(t, c)
					c.Send(records...)
					v.requireNoSession(t)
					for _, r := range records { // again, one by one
						c.Send(r)
						synctest.Wait()
					}
					v.requireNoSession(t)
					time.Sleep(dtlsserver.DefaultHandshakeTimeout)
					assert.Positive(t, refusals(v.Stats()))
					assert.Zero(t, v.Stats().HalfOpen)
				})
			})
		}
	}
}

// TestUnrequestedCertificateIsNobodysIdentity: a client sends a certificate of its own
// making, which nobody has asked for, with or without it in what its Finished covers.
func TestUnrequestedCertificateIsNobodysIdentity(t *testing.T) {
	t.Parallel()
	certificate := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	for kind, config := range map[string]*dtls.Config{"PSK": pskWith(), "ECDSA": withCertificates(certificate, dtls.NoClientCert)} {
		for name, covered := range map[string]bool{"covered by the Finished": true, "not covered": false} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				attack(t, config, dtlsserver.Config{}, func(t *testing.T, v *victim) {
					v.certificate = certificate
					c := v.helloed(t)
					seq, transcript := c.MessageSeq, c.Transcript
					c.Send(c.Handshakes(certificateOf(c))...)
					if !covered {
						c.MessageSeq, c.Transcript = seq, transcript
					}
					c.Send(c.Handshakes(keyExchange(t, c), certificateVerify(c))...)
					c.Send(finished(c)...)
					time.Sleep(2 * roundTrip)
					assert.Positive(t, refusals(v.Stats()))
					for session := range v.Sessions() {
						assert.Empty(t, session.Identity().Certificates)
					}
				})
			})
		}
	}
}

// TestRepeatedMessageWithOtherContentIsIgnored: a second ClientKeyExchange with the
// message_seq of the first one does not change who the client is.
func TestRepeatedMessageWithOtherContentIsIgnored(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		c := v.helloed(t)
		other := dtlstest.Message(record.MessageClientKeyExchange, c.MessageSeq, 0, 5, 'a', 'd', 'm', 'i', 'n')
		c.Send(c.Handshakes(keyExchange(t, c), other)...)
		c.Send(c.Handshakes(other)...)
		c.Send(finished(c)...)
		require.True(t, c.Await(dtlstest.Patience, func() bool { return c.Server.Finished }))
		require.True(t, c.Echo("in"))
		assert.Equal(t, dtlstest.Identity, string((<-v.sessions).Identity().PSKIdentity))
	})
}

// TestHandshakeMessagesAfterFinishedAreIgnored: Finished once more with the next
// message_seq, and all kinds of messages, sealed with the keys of the session.
func TestHandshakeMessagesAfterFinishedAreIgnored(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		c := v.helloed(t)
		flight, err := c.LastFlight()
		require.NoError(t, err)
		transcript := c.Transcript // as the server has it
		again := c.Seal(record.TypeHandshake, c.Message(record.MessageFinished, c.VerifyData()))
		c.Transcript = transcript
		c.Send(append(flight, again)...)
		require.True(t, c.Await(dtlstest.Patience, func() bool { return c.Server.Finished }))
		for kind := range uint8(25) {
			c.Send(c.Seal(record.TypeHandshake, c.Message(kind, make([]byte, kind))))
			c.Send(c.Handshakes(c.Message(kind, make([]byte, kind)))...)
		}
		require.True(t, c.Echo("still in"))
		assert.Equal(t, dsm.StateEstablished, (<-v.sessions).State())
		s := v.Stats()
		assert.EqualValues(t, 1, s.Started)
		assert.EqualValues(t, 1, s.Completed)
		assert.Positive(t, s.Plaintext)
		assert.Positive(t, s.Ignored)
	})
}

// TestRecordsAfterTheFinishedHoldUpNobody: over one record too many pion v2 sleeps for a
// flight interval. Neither Close nor a session waits for that.
func TestRecordsAfterTheFinishedHoldUpNobody(t *testing.T) {
	t.Parallel()
	const trailing = 50
	config := psk()
	config.FlightInterval = 30 * time.Second
	inBubbleWith(t, config, dtlsserver.Config{HandshakesPerSource: -1}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		begin := time.Now()
		for range 20 {
			client := l.dialThrough(t, config, func(datagram []byte, send func([]byte) error) error {
				err := send(datagram)
				if dtlstest.Has(datagram, record.TypeHandshake, true) {
					for n := range uint64(trailing) {
						_ = send(dtlstest.Plaintext(record.TypeHandshake, 100+n, fragment(9, 1, 0, 1, 0)...))
					}
				}
				return err
			})
			dtlstest.Echo(t, client, "x")
		}
		synctest.Wait()
		assert.EqualValues(t, 20, l.Stats().Completed)
		require.NoError(t, l.Close())
		assert.Less(t, time.Since(begin), config.FlightInterval/3, "pion has slept")
	})
}
