// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"crypto/tls"
	"encoding/gob"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gobState has every field of the state that pion's server serializes, with pion's meaning
// of it: from these fields newState makes the same state, byte for byte.
func TestGobStateIsStateOfPion(t *testing.T) {
	t.Parallel()
	certificates := &dtls.Config{
		Certificates: []tls.Certificate{dtlstest.SelfSigned(t, dtlstest.ECDSA).Certificate}, InsecureSkipVerify: true,
		ClientAuth: dtls.RequireAnyClientCert,
	}
	for name, config := range map[string]*dtls.Config{"PSK": dtlstest.PSKConfig("key"), "certificates": certificates} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, far := dtlstest.Pipe(dtlstest.Addr("client"), dtlstest.Addr("server"))
			accepted := make(chan *dtls.Conn, 1)
			go func() {
				c, err := dtls.Server(far, config)
				assert.NoError(t, err)
				accepted <- c
			}()
			client, err := dtlstest.Handshake(near, config)
			require.NoError(t, err)
			t.Cleanup(client.Kill)
			server := dtlstest.Receive(t, accepted)
			t.Cleanup(func() { _ = server.Close() })

			state := server.ConnectionState()
			raw, err := state.MarshalBinary()
			require.NoError(t, err)
			var g gobState
			require.NoError(t, gob.NewDecoder(bytes.NewReader(raw)).Decode(&g))
			made, err := newState(handshake.State{
				Secrets: record.Config{
					Suite: record.SuiteID(g.CipherSuiteID), MasterSecret: g.MasterSecret, Epoch: g.LocalEpoch,
					ServerRandom: g.LocalRandom, ClientRandom: g.RemoteRandom, NextSequence: g.SequenceNumber,
				},
				Identity: handshake.Identity{PSKIdentity: g.IdentityHint, Certificates: g.PeerCertificates, Protocol: "coap"},
			})
			require.NoError(t, err)
			again, err := made.MarshalBinary()
			require.NoError(t, err)
			assert.Equal(t, raw, again)
			assert.Equal(t, "coap", made.NegotiatedProtocol, "which pion's own state does not serialize")

			// The fields have values here, so that they were compared.
			assert.EqualValues(t, 1, g.LocalEpoch)
			assert.EqualValues(t, 1, g.RemoteEpoch)
			assert.Len(t, g.MasterSecret, 48)
			assert.NotZero(t, g.SequenceNumber)
			assert.NotZero(t, g.CipherSuiteID)
			if name == "PSK" {
				assert.Equal(t, dtlstest.Identity, string(g.IdentityHint))
			} else {
				assert.Equal(t, config.Certificates[0].Certificate, g.PeerCertificates)
			}

			// And both know the same keys.
			clientState := client.ConnectionState()
			want, err := clientState.ExportKeyingMaterial("EXPORTER-test", nil, 32)
			require.NoError(t, err)
			got, err := made.ExportKeyingMaterial("EXPORTER-test", nil, 32)
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}
