// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sealer is the record layer of a session's client, for records that pion's would not
// send. It begins where pion's numbers do not come.
func sealer(t *testing.T, s *Conn) *record.Session {
	t.Helper()
	s.mu.Lock()
	secrets := s.records.Config()
	s.mu.Unlock()
	secrets.IsClient, secrets.NextSequence = true, 1000
	client, err := record.New(secrets)
	require.NoError(t, err)
	return client
}

// established is a listener's session, its client, and that client's record layer.
func established(t *testing.T, cfg Config) (*Listener, *Conn, *client, *record.Session) {
	t.Helper()
	l := listen(t, pskConfig("key"), cfg)
	c := newClient(t, l, nil)
	accepted, err := l.Accept()
	require.NoError(t, err)
	s := accepted.(*Conn)
	return l, s, c, sealer(t, s)
}

// Authentic or not, what is no news is counted by its cause, and nobody gets it.
func TestRecordsThatAreDropped(t *testing.T) {
	checkLeaks(t)
	l, s, c, peer := established(t, Config{})
	seal := func(kind record.Type, payload ...byte) []byte {
		sealed, err := peer.Seal(nil, kind, payload)
		require.NoError(t, err)
		return sealed
	}
	data := seal(record.TypeApplicationData, 'x')
	send(t, c.udp, data)
	buf := make([]byte, 10)
	n, err := s.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "x", string(buf[:n]))

	anotherEpoch := bytes.Clone(data)
	binary.BigEndian.PutUint16(anotherEpoch[3:], 2)
	forged := seal(record.TypeApplicationData, 'y')
	forged[len(forged)-1] ^= 1
	sealedChange := seal(record.TypeChangeCipherSpec, 1)
	for _, dropped := range []struct {
		name     string
		datagram []byte
		count    func(Stats) uint64
	}{
		{"a replay", data, func(s Stats) uint64 { return s.Replayed }},
		{"another epoch", anotherEpoch, func(s Stats) uint64 { return s.Epoch }},
		{"a ChangeCipherSpec under the cipher", sealedChange, func(s Stats) uint64 { return s.Epoch }},
		{"a forged MAC", forged, func(s Stats) uint64 { return s.Forged }},
		{"a header cut short", data[:10], func(s Stats) uint64 { return s.Malformed }},
		{"a record cut short", data[:20], func(s Stats) uint64 { return s.Malformed }},
		{"a type that is none", append([]byte{99}, data[1:]...), func(s Stats) uint64 { return s.Malformed }},
		{"a warning", seal(record.TypeAlert, record.LevelWarning, 90), func(s Stats) uint64 { return s.Ignored }},
		{"an alert that is none", seal(record.TypeAlert, 1, 2, 3), func(s Stats) uint64 { return s.Ignored }},
		{"a handshake message", seal(record.TypeHandshake, record.MessageFinished, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0), func(s Stats) uint64 { return s.Ignored }},
	} {
		had, uses := dropped.count(l.Stats()), l.Table().Stats().Uses
		send(t, c.udp, dropped.datagram)
		eventually(t, func() bool { return dropped.count(l.Stats()) == had+1 }, dropped.name)
		assert.Equal(t, l.Stats().Ignored > 0, l.Table().Stats().Uses > uses, "only what is authentic is use: %s", dropped.name)
	}
	require.Equal(t, dsm.StateEstablished, s.State())
	require.NoError(t, s.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	_, err = s.Read(buf)
	require.Error(t, err, "nothing but the first came through")

	// A fatal alert of the peer's ends the session.
	send(t, c.udp, seal(record.TypeAlert, record.LevelFatal, 40))
	eventually(t, func() bool { return l.Stats().ClosedByPeer == 1 }, "closed")
}

// What comes for a handshake before its keys are there is held, up to a bound.
func TestHeldRecords(t *testing.T) {
	h := &handshake{}
	r := record.Record{Type: record.TypeApplicationData, Epoch: 1, Raw: make([]byte, record.HeaderSize+100)}
	for range heldRecords {
		require.True(t, h.hold(path{}, r))
	}
	assert.False(t, h.hold(path{}, r), "records are bounded")
	h = &handshake{}
	r.Raw = make([]byte, heldBytes/2+1)
	assert.True(t, h.hold(path{}, r))
	assert.False(t, h.hold(path{}, r), "and so are bytes")
}

// T10: pion draws the nonces of its last flight. Where one is a nonce that the session
// could come to, there is no session.
func TestNonceOfPionThatWouldBeOurs(t *testing.T) {
	l := listen(t, pskConfig("key"), Config{})
	session, err := record.New(record.Config{Suite: 0xa8, MasterSecret: make([]byte, 48), Epoch: epoch})
	require.NoError(t, err)
	tr := newTransport(path{}, record.Random{}, 0)
	tr.changing, tr.sealed, tr.session = true, 1, session
	tr.nonces = [][8]byte{{0xff, 0xff, 1}, {0, epoch, 0, 0, 1}}
	_, err = l.takeOver(&handshake{peer: &Peer{listener: l}, transport: tr}, nil)
	assert.ErrorContains(t, err, "would be ours")

	for nonce, ours := range map[[8]byte]bool{{0, epoch}: true, {0, epoch, 0, 0xff, 0xff}: true, {0, 2}: false, {1, epoch}: false} {
		_, got := nonceNumber(nonce, epoch)
		assert.Equal(t, ours, got, nonce)
	}
}
