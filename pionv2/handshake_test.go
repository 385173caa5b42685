// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	plainSuite = dtls.TLS_PSK_WITH_AES_128_GCM_SHA256
	ecdheSuite = dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256
)

// TestPionGetsGroupOnlyWithoutKeyExchange: the group that pion makes its key pair of is the
// client's choice, unless no suite that both sides have uses a key pair. In an abbreviated
// handshake the ClientHello is part of the transcript.
func TestPionGetsGroupOnlyWithoutKeyExchange(t *testing.T) {
	t.Parallel()
	both := []dtls.CipherSuiteID{ecdheSuite, plainSuite}
	for _, test := range []struct {
		name           string
		server, client []dtls.CipherSuiteID
		resumed        bool
		named          bool
	}{
		{"neither has ECDHE", both[1:], both[1:], false, true},
		{"the client alone has it", both[1:], both, false, true},
		{"the server alone has it", both, both[1:], false, true},
		{"both have it", both, both, false, false},
		{"pion's suites, with certificates", nil, both[1:], false, false},
		{"an abbreviated handshake", both[1:], both[1:], true, false},
	} {
		config := dtlstest.PSKConfig("key", test.server...)
		config.CipherSuites = test.server
		var suites []record.SuiteID
		for _, id := range test.client {
			suites = append(suites, record.SuiteID(id))
		}
		hello := dtlstest.ClientHello{Random: dtlstest.RandomOf(1), SessionID: []byte("id"), Suites: suites}
		h := newServerHandshake(config, test.resumed, handshake.Parameters{Send: func([]byte) {}, Limits: handshake.Limits{ClientHello: 1000}})
		t.Cleanup(h.Close)
		r, _, _ := record.Next(hello.Datagram())
		require.Equal(t, handshake.Accepted, h.HandleRecord(r), test.name)
		var session *resume.Session
		if test.resumed {
			session = sessionOf(plainSuite)
		}
		_, resuming, err := h.pionConfig(t.Context(), session)
		require.NoError(t, err, test.name)
		assert.Equal(t, test.resumed, resuming != nil, test.name)
		want := hello.Body()
		if test.named {
			want = record.WithGroup(want, 23) // secp256r1
		}
		assert.True(t, bytes.HasSuffix(h.Next(), want), test.name)
		assert.Nil(t, h.Next(), test.name)
	}
}

// TestPSKClientMayNameGroupsOfItsOwn: pion gets two extensions supported_groups then.
func TestPSKClientMayNameGroupsOfItsOwn(t *testing.T) {
	t.Parallel()
	l := listen(t, dtlstest.PSKConfig("key", plainSuite), Config{})
	client := dtlstest.Dial(t, l.Addr(), nil, dtlstest.PSKConfig("key", ecdheSuite, plainSuite))
	c, err := l.Accept()
	require.NoError(t, err)
	assert.Equal(t, dtlstest.Identity, string(c.(*Conn).Identity().PSKIdentity))
	require.NotNil(t, client)
}
