// SPDX-License-Identifier: MIT

package interop

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	v4 "github.com/pion/dtls/v4"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
	"github.com/pion/dtls/v4/pkg/protocol"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// suitesWithIDs are all suites of internal/record, by the key of the server's certificate.
var suitesWithIDs = map[dtlstest.KeyKind][]ciphersuite.ID{
	dtlstest.ECDSA: {
		ciphersuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM, ciphersuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8,
		ciphersuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, ciphersuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		ciphersuite.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	},
	dtlstest.RSA: {
		ciphersuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, ciphersuite.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		ciphersuite.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	},
	"": {
		ciphersuite.TLS_PSK_WITH_AES_128_CCM, ciphersuite.TLS_PSK_WITH_AES_128_CCM_8, ciphersuite.TLS_PSK_WITH_AES_256_CCM_8,
		ciphersuite.TLS_PSK_WITH_AES_128_GCM_SHA256, ciphersuite.TLS_PSK_WITH_AES_128_CBC_SHA256,
		ciphersuite.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256,
	},
}

// TestRecordsWithConnectionIDsMatchPionV4 lets a client and a server of pion v4 make a
// handshake with each suite, and takes the place of each of the two afterwards: a
// record.Session opens what pion has sealed, and pion opens what the Session seals.
func TestRecordsWithConnectionIDsMatchPionV4(t *testing.T) {
	for kind, suites := range suitesWithIDs {
		for _, suite := range suites {
			for _, lengths := range [][2]int{{8, 8}, {0, 20}, {255, 0}, {1, 255}} {
				t.Run(fmt.Sprintf("%v/client=%d,server=%d", suite, lengths[0], lengths[1]), func(t *testing.T) {
					p := newV4Pair(t, kind, suite, bytes.Repeat([]byte{0xc1}, lengths[0]), bytes.Repeat([]byte{0x5e}, lengths[1]))
					p.exchange(p.client, p.server, p.session(true), p.session(false))
					p.exchange(p.server, p.client, p.session(false), p.session(true))
				})
			}
		}
	}
}

// v4Pair is a client and a server of pion v4 that have made a handshake.
type v4Pair struct {
	*testing.T
	suite              record.SuiteID
	client, server     *v4.DetachedConn
	clientID, serverID []byte // each in the records to that side
	keys               bytes.Buffer
	serverRandom       record.Random
	finished           map[*v4.DetachedConn][]byte // the record of epoch 1 that each side has sent
}

// newV4Pair makes a handshake with pre-shared keys if kind is empty. Records with
// connection IDs have padding.
func newV4Pair(t *testing.T, kind dtlstest.KeyKind, suite ciphersuite.ID, clientID, serverID []byte) *v4Pair {
	t.Helper()
	p := &v4Pair{T: t, suite: record.SuiteID(suite), clientID: clientID, serverID: serverID, finished: map[*v4.DetachedConn][]byte{}}
	options := func(id []byte) []v4.Option {
		options := []v4.Option{
			v4.WithCipherSuites(suite), v4.WithMaxVersion(protocol.Version1_2), v4.WithInsecureSkipVerify(true), v4.WithKeyLogWriter(&p.keys),
			v4.WithConnectionID(func() []byte { return id }, v4.CIDPathMigrationRRC),
			v4.WithPaddingLengthGenerator(func(length uint) uint { return length % 7 }),
		}
		if kind == "" {
			psk := v4.PSK{Identity: []byte("identity"), Key: []byte("key")}
			options = append(options, v4.WithPSK(func() ([]v4.PSK, error) { return []v4.PSK{psk}, nil },
				func([][]byte) (*v4.PSK, error) { return &psk, nil }))
		}
		return options
	}
	var forClient []v4.ClientOption
	for _, o := range options(clientID) {
		forClient = append(forClient, o)
	}
	var forServer []v4.ServerOption
	for _, o := range options(serverID) {
		forServer = append(forServer, o)
	}
	if kind != "" {
		forServer = append(forServer, v4.WithCertificates(dtlstest.SelfSigned(t, kind).Certificate))
	}
	address := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5684}
	var err error
	p.client, err = v4.DetachedClient(address, forClient...)
	require.NoError(t, err)
	p.server, err = v4.DetachedServer(address, forServer...)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = p.client.Close()
		_ = p.server.Close()
	})
	require.NoError(t, p.server.Start(t.Context()))
	require.NoError(t, p.client.Start(context.WithoutCancel(t.Context())))
	from, to := p.client, p.server
	for done := 0; done < 2; from, to = to, from {
		datagrams, _, finished := p.drain(from)
		done += finished
		for _, d := range datagrams {
			p.note(from, d)
			require.NoError(t, to.HandleDatagram(d, nil))
		}
	}
	return p
}

// drain returns what a connection sends, what it has received, and how many handshakes it
// has completed.
func (p *v4Pair) drain(c *v4.DetachedConn) (datagrams [][]byte, received []string, completed int) {
	for {
		switch e := c.NextEvent(); e.Kind {
		case v4.DetachedNoEvent:
			return datagrams, received, completed
		case v4.DetachedWriteDatagrams:
			datagrams = append(datagrams, e.Datagrams...)
		case v4.DetachedApplicationData:
			received = append(received, string(e.Data))
		case v4.DetachedHandshakeDone:
			completed++
		default:
			require.NoError(p, e.Err)
		}
	}
}

// note keeps the random of the ServerHello and each side's record of epoch 1.
func (p *v4Pair) note(from *v4.DetachedConn, datagram []byte) {
	id := p.clientID
	if from == p.client {
		id = p.serverID
	}
	for rest := datagram; len(rest) > 0; {
		var r record.Record
		var fault record.Fault
		r, rest, fault = record.NextWithID(rest, len(id))
		require.Equal(p, record.NoFault, fault)
		if r.Epoch == 1 {
			require.Equal(p, len(id) > 0, r.Type == record.TypeConnectionID)
			p.finished[from] = r.Raw
			continue
		}
		if m, _, ok := record.NextHandshake(r.Fragment()); ok && m.Type == record.MessageServerHello {
			hello, ok := record.ParseServerHello(m.Body)
			require.True(p, ok)
			require.True(p, hello.HasConnectionID && hello.RoutabilityCheck)
			require.Equal(p, string(p.serverID), hello.ConnectionID)
			p.serverRandom = hello.Random
		}
	}
}

// config returns the results of the handshake as one side has them.
func (p *v4Pair) config(isClient bool) record.Config {
	c := record.Config{
		Suite: p.suite, ServerRandom: p.serverRandom, IsClient: isClient, Epoch: 1, NextSequence: 1000,
		ConnectionID: p.serverID, PeerConnectionID: p.clientID,
	}
	if isClient {
		c.ConnectionID, c.PeerConnectionID = p.clientID, p.serverID
	}
	fields := strings.Fields(p.keys.String())
	require.GreaterOrEqual(p, len(fields), 3)
	random, err := hex.DecodeString(fields[1])
	require.NoError(p, err)
	c.ClientRandom = record.Random(random)
	c.MasterSecret, err = hex.DecodeString(fields[2])
	require.NoError(p, err)
	return c
}

func (p *v4Pair) session(isClient bool) *record.Session {
	s, err := record.New(p.config(isClient))
	require.NoError(p, err)
	return s
}

// exchange opens what from seals, as its peer and as from itself, and lets to open what a
// Session in the place of from seals.
func (p *v4Pair) exchange(from, to *v4.DetachedConn, asFrom, asTo *record.Session) {
	parse := func(raw []byte) record.Record {
		r, rest, fault := record.NextWithID(raw, len(asTo.ConnectionID()))
		require.Equal(p, record.NoFault, fault)
		require.Empty(p, rest)
		return r
	}
	finished := parse(p.finished[from])
	payload, kind, err := asTo.Open(nil, finished)
	require.NoError(p, err)
	require.Equal(p, record.TypeHandshake, kind)
	m, _, ok := record.NextHandshake(payload)
	require.True(p, ok && m.Type == record.MessageFinished)

	for _, text := range []string{"x", "what pion seals", strings.Repeat("long", 250)} {
		_, err = from.Write([]byte(text))
		require.NoError(p, err)
		datagrams, _, _ := p.drain(from)
		require.Len(p, datagrams, 1)
		for _, open := range []func(record.Record) ([]byte, record.Type, error){
			asFrom.OpenOwn, func(r record.Record) ([]byte, record.Type, error) { return asTo.Open(nil, r) },
		} {
			payload, kind, err = open(parse(datagrams[0]))
			require.NoError(p, err)
			assert.Equal(p, record.TypeApplicationData, kind)
			assert.Equal(p, text, string(payload))
		}
		raw, err := asFrom.Seal(nil, record.TypeApplicationData, []byte(text))
		require.NoError(p, err)
		require.NoError(p, to.HandleDatagram(raw, nil))
		raw, err = asTo.SealAsPeer(nil, record.TypeApplicationData, asFrom.NextSequence(), []byte(text))
		require.NoError(p, err)
		require.NoError(p, to.HandleDatagram(raw, nil))
		asFrom.SetNextSequence(asFrom.NextSequence() + 1)
		_, received, _ := p.drain(to)
		assert.Equal(p, []string{text, text}, received)
	}
}
