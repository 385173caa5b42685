// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClientHelloIsWellFormed(t *testing.T) {
	parse := func(datagram []byte) (record.Record, record.ClientHello) {
		r, rest, fault := record.Next(datagram)
		require.Equal(t, record.NoFault, fault)
		require.Empty(t, rest)
		hello, ok := record.ParseClientHello(r)
		require.True(t, ok)
		return r, hello
	}
	_, hello := parse(Hello(7))
	assert.Equal(t, RandomOf(7), hello.Random)
	assert.True(t, hello.Offers(Suite))
	assert.Empty(t, hello.SessionID)
	assert.Empty(t, hello.Cookie)
	assert.Zero(t, hello.MessageSeq)

	r, hello := parse(ClientHello{
		Sequence: 5, MessageSeq: 3, SessionID: bytes.Repeat([]byte{1}, 32), Cookie: []byte{2, 3},
		Suites: []record.SuiteID{0xc0a8, 0x1301}, Extensions: []byte{0, 23, 0, 0},
	}.Datagram())
	assert.EqualValues(t, 5, r.Sequence)
	assert.EqualValues(t, 3, hello.MessageSeq)
	assert.Equal(t, bytes.Repeat([]byte{1}, 32), hello.SessionID)
	assert.Equal(t, []byte{2, 3}, hello.Cookie)
	assert.True(t, hello.Offers(0x1301))
	assert.False(t, hello.Offers(Suite))
	assert.True(t, hello.ExtendedMasterSecret)
}

func TestRecordsOfADatagram(t *testing.T) {
	datagram := append(Plaintext(record.TypeAlert, 3, 1, 0), Unauthentic(record.TypeApplicationData, 9, 20)...)
	records := Records(append(datagram, 1, 2, 3))
	require.Len(t, records, 2)
	assert.EqualValues(t, 3, records[0].Sequence)
	assert.EqualValues(t, 1, records[1].Epoch)
	assert.Len(t, records[1].Fragment(), 20)
	assert.True(t, Has(datagram, record.TypeAlert, false))
	assert.False(t, Has(datagram, record.TypeAlert, true))
	assert.True(t, Has(datagram, record.TypeApplicationData, true))
	assert.False(t, Has(nil, record.TypeAlert, false))

	h, rest, ok := record.NextHandshake(Message(record.MessageFinished, 4, 1, 2, 3))
	require.True(t, ok)
	assert.Empty(t, rest)
	assert.Equal(t, record.Handshake{Type: record.MessageFinished, Length: 3, MessageSeq: 4, Body: []byte{1, 2, 3}}, h)
}

func TestRewriteRecords(t *testing.T) {
	_, server, client := newPair(t)
	c := RewriteRecords(client, func(r record.Record) ([]byte, error) {
		switch r.Type {
		case record.TypeAlert:
			return nil, nil
		case record.TypeApplicationData:
			return nil, errors.New("refused")
		}
		return Plaintext(r.Type, r.Sequence+1, 42), nil
	})
	change, alert := Plaintext(record.TypeChangeCipherSpec, 1, 1), Plaintext(record.TypeAlert, 2, 1, 0)
	Send(t, c, append(append(change, alert...), change...))
	buf := make([]byte, 100)
	n, err := server.Read(buf)
	require.NoError(t, err)
	want := Plaintext(record.TypeChangeCipherSpec, 2, 42)
	assert.Equal(t, append(want, want...), buf[:n])
	Send(t, c, alert)
	assert.Zero(t, server.Queued())
	_, err = c.Write(Plaintext(record.TypeApplicationData, 1))
	assert.Error(t, err)
}

// Pion's server decrypts the Finished and does not compare its content. So its side of
// the handshake succeeds if and only if the forged one is sealed with the session's
// keys. Pion's client compares the server's Finished, which covers the forged one.
func TestFinishedForgerHasTheKeys(t *testing.T) {
	for _, good := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork(1)
			conns := pionServer(t, n, clientAddr, WithTimeout(slowPSK(), 5*time.Second))
			forger := NewFinishedForger(n.Dial(clientAddr, serverAddr), Suite, func(client *record.Session) ([]byte, error) {
				if !good {
					wrong := client.Config()
					wrong.MasterSecret[0] ^= 1
					var err error
					if client, err = record.New(wrong); err != nil {
						return nil, err
					}
				}
				return WrongFinished(3)(client)
			})
			config := WithTimeout(slowPSK(), 5*time.Second)
			config.KeyLogWriter = forger.KeyLog()
			_, err := dtls.Client(forger, config)
			assert.Error(t, err)
			assert.Positive(t, forger.Forged())
			server, ok := <-conns
			assert.Equal(t, good, ok)
			if good {
				_ = server.Close()
			}
			require.NoError(t, n.Close())
			time.Sleep(time.Minute)
		})
	}
}

func TestPaddingForMACHasNoMAC(t *testing.T) {
	client, err := record.New(record.Config{
		Suite: record.SuiteID(dtls.TLS_PSK_WITH_AES_128_CBC_SHA256), MasterSecret: make([]byte, 48), IsClient: true, Epoch: 1, NextSequence: 5,
	})
	require.NoError(t, err)
	raw, err := PaddingForMAC(client)
	require.NoError(t, err)
	r, rest, fault := record.Next(raw)
	require.Equal(t, record.NoFault, fault)
	assert.Empty(t, rest)
	assert.EqualValues(t, 5, r.Sequence)
	assert.Len(t, r.Fragment(), 16+48)
}

func TestUniqueNumbersFindsRepetitions(t *testing.T) {
	for _, c := range []struct {
		name     string
		second   []byte
		failures int
	}{
		{"another number and nonce", rawRecord(record.TypeApplicationData, 1, 2, append([]byte{1}, make([]byte, 20)...)), 0},
		{"the same nonce", Unauthentic(record.TypeApplicationData, 2, 20), 1},
		{"the same record", Unauthentic(record.TypeApplicationData, 1, 20), 2},
		{"the same number in plaintext", Plaintext(record.TypeApplicationData, 1), 0},
		{"malformed", []byte{1, 2, 3}, 1},
	} {
		counter := &failures{TB: t}
		hook := UniqueNumbers(counter)
		assert.True(t, hook(Unauthentic(record.TypeApplicationData, 1, 20)))
		assert.True(t, hook(c.second))
		assert.Equal(t, c.failures, counter.n, c.name)
	}
}

// failures counts them.
type failures struct {
	testing.TB
	n int
}

func (f *failures) Errorf(string, ...any) { f.n++ }

func TestLossyLosesItsShare(t *testing.T) {
	passed := 0
	hook := Lossy(0.25, 1)
	for range 1000 {
		if hook(nil) {
			passed++
		}
	}
	assert.InDelta(t, 750, passed, 60)
	for _, b := range []bool{Lossy(0, 1)(nil), !Lossy(1, 1)(nil)} {
		assert.True(t, b)
	}
}
