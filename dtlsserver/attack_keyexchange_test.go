// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMalformedClientKeyExchangeIsHarmless: the lengths in the body do not agree with its
// size, or with each other, or the key is no point of the curve. Anybody who returns the
// cookie can send such a message.
func TestMalformedClientKeyExchangeIsHarmless(t *testing.T) {
	t.Parallel()
	point := func(size int) []byte { return append([]byte{byte(size), 4}, make([]byte, size-1)...) }
	join := func(parts ...[]byte) (body []byte) {
		for _, p := range parts {
			body = append(body, p...)
		}
		return body
	}
	identity := append([]byte{0, 6}, dtlstest.Identity...)
	bodies := map[string][]byte{
		"no byte":                   {},
		"one byte":                  {0},
		"two bytes":                 {0, 0},
		"three bytes":               {0, 0, 0},
		"a longer identity":         {0, 7, 'd', 'e', 'v', 'i', 'c', 'e'},
		"the longest identity":      {255, 255, 'd'},
		"an identity, no key":       identity,
		"an identity, an empty key": append(identity, 0),
		"a key without its bytes":   append(identity, 65),
		"a key without its end":     join(identity, point(65)[:40]),
		"bytes after the key":       join(identity, point(65), []byte{0}),
		"a short key":               join(identity, point(33)),
		"a long key":                join(identity, point(97)),
		"no point of the curve":     join(identity, point(65)),
		"a key without an identity": point(65),
		"a key as an identity":      join([]byte{0, 66}, point(65)),
	}
	onlyIdentity := []string{"two bytes", "an identity, no key", "a key as an identity"} // sound without ECDHE
	certificate := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	for name, body := range bodies {
		for kind, suite := range map[string]record.SuiteID{"ECDHE_PSK": suiteECDHEPSK, "PSK": dtlstest.Suite, "ECDHE_ECDSA": suiteECDSA} {
			if suite == dtlstest.Suite && slices.Contains(onlyIdentity, name) {
				continue
			}
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				config := pskWith(suite)
				if suite == suiteECDSA {
					config = withCertificates(certificate, 0)
				}
				for _, size := range []int{1 << 14, 1} {
					attack(t, config, dtlsserver.Config{}, func(t *testing.T, v *victim) {
						c := v.helloed(t)
						message := c.Message(record.MessageClientKeyExchange, body)
						c.Send(c.Handshakes(fragments(message, size)...)...)
						c.Send(c.ChangeCipherSpec(), dtlstest.Unauthentic(record.TypeHandshake, 0, 64))
						v.requireNoSession(t)
						c.Send(c.Handshakes(fragments(message, size)...)...)
						v.requireNoSession(t)
						assert.Positive(t, refusals(v.Stats()))
					})
				}
			})
		}
	}
}

// fragments is dtlstest.Fragments for a message that may have no body.
func fragments(message []byte, size int) [][]byte {
	if f := dtlstest.Fragments(message, size); len(f) > 0 {
		return f
	}
	return [][]byte{message}
}

// TestUnknownIdentityIsToldSo: RFC 4279 section 2.
func TestUnknownIdentityIsToldSo(t *testing.T) {
	t.Parallel()
	const unknownPSKIdentity = 115
	for name, suite := range map[string]record.SuiteID{"PSK": dtlstest.Suite, "ECDHE_PSK": suiteECDHEPSK} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := pskWith(suite)
			config.PSK = func(identity []byte) ([]byte, error) {
				if string(identity) != dtlstest.Identity {
					return nil, errors.New("unknown")
				}
				return []byte("key"), nil
			}
			attack(t, config, dtlsserver.Config{}, func(t *testing.T, v *victim) {
				alerts := v.watchAlerts(func(dtlstest.Datagram) {})
				c := v.helloed(t)
				c.Identity = []byte("nobody")
				flight, err := c.LastFlight()
				require.NoError(t, err)
				c.Send(flight...)
				var description uint8
				require.True(t, c.Await(2*roundTrip, func() (refused bool) {
					description, refused = c.Refused()
					return refused
				}), "no alert")
				assert.EqualValues(t, unknownPSKIdentity, description)
				assert.EqualValues(t, 1, alerts.all.Load())
				assert.Zero(t, alerts.unvalidated.Load())
				v.requireNoSession(t)
				assert.EqualValues(t, 1, v.Stats().UnknownPSKIdentity)
			})
		})
	}
}
