// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOpenReturnsSealedPayloadOnce(t *testing.T) {
	forEachSuite(t, func(t *testing.T, id SuiteID) {
		client, server := newSessions(t, id)
		for n, length := range []int{0, 1, 15, 16, 17, 100, 1400, MaxPlaintext} {
			payload := bytes.Repeat([]byte{byte(n)}, length)
			for _, direction := range []struct{ from, to *Session }{{client, server}, {server, client}} {
				raw, err := direction.from.Seal([]byte("prefix"), TypeApplicationData, payload)
				require.NoError(t, err)
				require.Equal(t, "prefix", string(raw[:6]))
				r := parseOne(t, raw[6:])
				assert.LessOrEqual(t, len(r.Raw), length+direction.from.Overhead())
				assert.EqualValues(t, n+1, r.Sequence)
				original := bytes.Clone(r.Raw)
				opened, _, err := direction.to.Open([]byte("prefix"), r)
				require.NoError(t, err)
				assert.Equal(t, "prefix"+string(payload), string(opened))
				assert.Equal(t, original, r.Raw, "Open does not change the record")
				_, _, err = direction.to.Open(nil, r)
				assert.ErrorIs(t, err, ErrReplay)
			}
			client.ReleaseCiphers()
			server.ReleaseCiphers()
		}
		_, err := client.Seal(nil, TypeApplicationData, make([]byte, MaxPlaintext+1))
		assert.ErrorIs(t, err, ErrTooLong)
	})
}

func TestOpenOwnOpensSealedRecordRepeatedly(t *testing.T) {
	forEachSuite(t, func(t *testing.T, id SuiteID) {
		client, server := newSessions(t, id)
		for _, s := range []*Session{client, server} {
			r := seal(t, s, "own")
			for range 2 {
				opened, _, err := s.OpenOwn(r)
				require.NoError(t, err)
				assert.Equal(t, "own", string(opened))
			}
			r.Raw[len(r.Raw)-1] ^= 1
			_, _, err := s.OpenOwn(r)
			assert.ErrorIs(t, err, ErrNotAuthentic)
		}
	})
}

// TestOpenRejectsForgedRecord changes each bit of a record, and truncates it at each
// byte. The forged record must not be changed and must not mark the sequence number:
// the genuine record can still be opened.
func TestOpenRejectsForgedRecord(t *testing.T) {
	forEachSuite(t, func(t *testing.T, id SuiteID) {
		client, server := newSessions(t, id)
		genuine := seal(t, client, "genuine")
		for bit := range len(genuine.Raw) * 8 {
			forged := bytes.Clone(genuine.Raw)
			forged[bit/8] ^= 1 << (bit % 8)
			r, _, fault := Next(forged)
			if fault != NoFault {
				continue
			}
			original := bytes.Clone(r.Raw)
			opened, _, err := server.Open([]byte("x"), r)
			require.Error(t, err, "bit %d", bit)
			require.Equal(t, "x", string(opened))
			require.Equal(t, original, r.Raw)
		}
		for n := range len(genuine.Fragment()) {
			truncated := newRecord(TypeApplicationData, 1, genuine.Sequence, genuine.Fragment()[:n]...)
			_, _, err := server.Open(nil, parseOne(t, truncated))
			require.ErrorIs(t, err, ErrNotAuthentic)
		}
		opened, _, err := server.Open(nil, genuine)
		require.NoError(t, err)
		assert.Equal(t, "genuine", string(opened))
	})
}

func TestForgedRecordDoesNotAdvanceWindow(t *testing.T) {
	client, server := newSessions(t, 0xc0a8)
	first := seal(t, client, "first")
	forged := newRecord(TypeApplicationData, 1, MaxSequence, first.Fragment()...)
	_, _, err := server.Open(nil, parseOne(t, forged))
	require.ErrorIs(t, err, ErrNotAuthentic)
	_, _, err = server.Open(nil, first)
	require.NoError(t, err)
}

func TestPeekDoesNotMarkWindow(t *testing.T) {
	client, server := newSessions(t, 0xa8)
	r := seal(t, client, "x")
	for range 2 {
		payload, _, err := server.Peek(r)
		require.NoError(t, err)
		assert.Equal(t, "x", string(payload))
	}
	_, _, err := server.Open(nil, r)
	require.NoError(t, err)
	_, _, err = server.Peek(r)
	assert.ErrorIs(t, err, ErrReplay)
	forged := seal(t, client, "y")
	forged.Raw[len(forged.Raw)-1] ^= 1
	_, _, err = server.Peek(forged)
	assert.ErrorIs(t, err, ErrNotAuthentic)
}

func TestOpenAcceptsReorderedRecordsWithinWindow(t *testing.T) {
	client, server := newSessions(t, 0x00a8)
	var records []Record
	for n := range 200 {
		records = append(records, seal(t, client, fmt.Sprint(n)))
	}
	open := func(n int) error {
		opened, _, err := server.Open(nil, records[n])
		if err == nil {
			require.Equal(t, fmt.Sprint(n), string(opened))
		}
		return err
	}
	require.NoError(t, open(100))
	require.NoError(t, open(37), "the oldest in the window")
	require.ErrorIs(t, open(36), ErrReplay, "older than the window")
	require.NoError(t, open(99))
	require.ErrorIs(t, open(99), ErrReplay)
	require.NoError(t, open(199))
	require.ErrorIs(t, open(135), ErrReplay)
	require.NoError(t, open(136))
}

func TestOpenRejectsOtherEpochsAndChangeCipherSpec(t *testing.T) {
	client, server := newSessions(t, 0x00a8)
	r := seal(t, client, "x")
	for _, epoch := range []uint16{0, 2} {
		_, _, err := server.Open(nil, parseOne(t, newRecord(TypeApplicationData, epoch, r.Sequence, r.Fragment()...)))
		require.ErrorIs(t, err, ErrEpoch)
	}
	_, _, err := server.Open(nil, parseOne(t, newRecord(TypeChangeCipherSpec, 1, r.Sequence, r.Fragment()...)))
	require.ErrorIs(t, err, ErrEpoch)
}

func TestExhaustedSessionSealsOneAlert(t *testing.T) {
	c := newConfig(0x00a8, true)
	c.NextSequence = LastSequence
	s, err := New(c)
	require.NoError(t, err)
	assert.EqualValues(t, LastSequence, seal(t, s, "the last record").Sequence)
	for range 2 {
		_, err = s.Seal(nil, TypeApplicationData, nil)
		require.ErrorIs(t, err, ErrExhausted)
	}
	_, err = s.Seal(nil, TypeAlert, Alert{LevelWarning, CloseNotify}.Payload())
	require.NoError(t, err)
	_, err = s.Seal(nil, TypeAlert, nil)
	require.ErrorIs(t, err, ErrExhausted)
	s.SetNextSequence(7)
	assert.EqualValues(t, 7, seal(t, s, "x").Sequence)
}

func TestSessionConfigHasNextSequence(t *testing.T) {
	c := newConfig(0xc0a8, false)
	c.ReplayWindow = 128
	s, err := New(c)
	require.NoError(t, err)
	assert.Equal(t, c, s.Config())
	seal(t, s, "x")
	assert.EqualValues(t, 2, s.Config().NextSequence)
}

func TestNewRejectsInvalidConfig(t *testing.T) {
	for name, change := range map[string]func(c *Config){
		"suite":         func(c *Config) { c.Suite = 0x1301 },
		"master secret": func(c *Config) { c.MasterSecret = nil },
		"epoch":         func(c *Config) { c.Epoch = 0 },
	} {
		c := newConfig(0x00a8, false)
		change(&c)
		_, err := New(c)
		assert.Error(t, err, name)
	}
}

func TestFormatAndLogValueContainNoSecret(t *testing.T) {
	c := newConfig(0x00a8, true)
	s, _ := newSessions(t, 0x00a8)
	seal(t, s, "builds the ciphers")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "session", s, "value", *s, "config", c)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "session", s, "value", *s, "config", c)
	out := log.String() + fmt.Sprint(Session{})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		out += fmt.Sprintf(verb+verb+verb, s, *s, c)
	}
	for _, secret := range [][]byte{masterSecret[:8], clientRandom[24:]} {
		for _, verb := range []string{"%s", "%x", "%X", "%d", "%q"} {
			text := strings.Trim(fmt.Sprintf(verb, secret), "[]\"")
			assert.NotContains(t, out, text)
		}
	}
	assert.Contains(t, out, "suite 0x00a8, epoch 1")
}

func TestSealAndOpenAllocateNothingForGCM(t *testing.T) {
	client, server := newSessions(t, 0x00a8)
	payload := make([]byte, 100)
	sealed, opened := make([]byte, 0, 256), make([]byte, 0, 256)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		raw, err := client.Seal(sealed, TypeApplicationData, payload)
		require.NoError(t, err)
		r, _, _ := Next(raw)
		_, _, err = server.Open(opened, r)
		require.NoError(t, err)
	}))
}

// TestOnlyRecordThatIsOpenedBuildsCiphers: what the header gives away builds none.
func TestOnlyRecordThatIsOpenedBuildsCiphers(t *testing.T) {
	client, server := newSessions(t, 0x00a8)
	for _, raw := range [][]byte{newRecord(TypeApplicationData, 2, 1, make([]byte, 40)...), newRecord(TypeApplicationData, 1, 1, 1, 2, 3)} {
		_, _, err := server.Open(nil, parseOne(t, raw))
		require.Error(t, err)
		require.False(t, server.HasCiphers())
	}
	_, _, err := server.Open(nil, parseOne(t, newRecord(TypeApplicationData, 1, 1, make([]byte, 40)...)))
	require.ErrorIs(t, err, ErrNotAuthentic)
	assert.True(t, server.HasCiphers())
	server.ReleaseCiphers()
	assert.False(t, server.HasCiphers())
	_, _, err = server.Open(nil, seal(t, client, "x"))
	require.NoError(t, err)
	assert.True(t, server.HasCiphers())
}
