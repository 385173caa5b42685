// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// successor opens another listener at the address of l, which is closed.
func (l memory) successor(t *testing.T, cfg dtlsserver.Config) memory {
	t.Helper()
	return memory{listenOn(t, l.network.Listen(l.addr()), psk(), cfg), l.network}
}

// detach detaches a session, and returns its marshalled form.
func detach(t *testing.T, c *dtlsserver.Conn) []byte {
	t.Helper()
	state, err := c.Detach()
	require.NoError(t, err)
	data, err := state.MarshalBinary()
	require.NoError(t, err)
	return data
}

func unmarshal(t *testing.T, data []byte) (s dtlsserver.SessionState) {
	t.Helper()
	require.NoError(t, s.UnmarshalBinary(data))
	return s
}

// TestDetachedSessionGoesOnElsewhere without a handshake, and nothing that was received is
// lost.
func TestDetachedSessionGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, c := l.connect(t)
		write(t, client, "one")
		require.Equal(t, "one", read(t, c))
		write(t, client, "unread", "too")
		synctest.Wait()
		data := detach(t, c)
		assert.Equal(t, dtlsserver.Detached, c.EndReason())
		_, err := c.Read(make([]byte, 10))
		require.ErrorIs(t, err, dtlsserver.ErrDetached)
		_, err = c.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = c.Detach()
		require.ErrorIs(t, err, dtlsserver.ErrDetached)
		require.NoError(t, l.Close())

		var restored []*dtlsserver.Conn
		next := l.successor(t, dtlsserver.Config{OnRestored: func(c *dtlsserver.Conn) { restored = append(restored, c) }})
		state := unmarshal(t, data)
		assert.Equal(t, c.Peer(), state.Peer())
		taken, err := next.Attach(state)
		require.NoError(t, err)
		assert.Equal(t, []*dtlsserver.Conn{taken}, restored)
		assert.Equal(t, dtlstest.Identity, string(taken.Identity().PSKIdentity))
		assert.Equal(t, "unread", read(t, taken))
		assert.Equal(t, "too", read(t, taken))
		_, err = taken.Write([]byte("two"))
		require.NoError(t, err)
		dtlstest.Expect(t, client, "two")
		write(t, client, "three")
		assert.Equal(t, "three", read(t, taken))
		stats := next.Stats()
		assert.EqualValues(t, 1, stats.Restored)
		assert.Zero(t, stats.Started)
		require.NoError(t, taken.Close())
		dtlstest.RequireEOF(t, client)
	})
}

// TestStateIsAttachedOnce in a process: the same value, a copy, and what was unmarshalled
// twice.
func TestStateIsAttachedOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, c := l.connect(t)
		state, err := c.Detach()
		require.NoError(t, err)
		data, err := state.MarshalBinary()
		require.NoError(t, err)
		twin := unmarshal(t, data)
		first, err := l.Attach(state)
		require.NoError(t, err)
		for _, again := range []dtlsserver.SessionState{state, twin, unmarshal(t, data)} {
			_, err = l.Attach(again)
			require.ErrorIs(t, err, dtlsserver.ErrStateUsed)
		}
		_, err = state.MarshalBinary()
		require.ErrorIs(t, err, dtlsserver.ErrStateUsed)

		second, err := first.Detach() // another detachment of the same session
		require.NoError(t, err)
		_, err = l.Attach(second)
		require.NoError(t, err)
	})
}

// TestAttachRefuses what the listener would not admit today. The state can be attached
// elsewhere then.
func TestAttachRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg  dtlsserver.Config
		key  string
		wait time.Duration
		want error
	}{
		"another key":   {key: "other", want: dtlsserver.ErrStateKey},
		"another scope": {cfg: dtlsserver.Config{ResumptionScope: "x"}, want: dtlsserver.ErrStatePolicy},
		"idle":          {cfg: dtlsserver.Config{IdleTimeout: time.Minute}, wait: time.Minute, want: dtlsserver.ErrStateExpired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
				client, c := l.connect(t)
				data := detach(t, c)
				time.Sleep(test.wait)
				config := psk()
				if test.key != "" {
					config = dtlstest.PSKConfig(test.key)
				}
				other := listenOn(t, l.network.Listen(netip.MustParseAddrPort("192.0.2.9:5684")), config, test.cfg)
				state := unmarshal(t, data)
				_, err := other.Attach(state)
				require.ErrorIs(t, err, test.want)
				assert.Empty(t, peers(other))
				taken, err := l.Attach(state)
				require.NoError(t, err)
				write(t, client, "still here")
				assert.Equal(t, "still here", read(t, taken))
			})
		})
	}
}

// TestAttachBesideSessionAndHandshake of the same peer.
func TestAttachBesideSessionAndHandshake(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, c := l.connect(t)
		data := detach(t, c)
		from := dtlstest.AddrPort(client.Addr())
		require.True(t, l.network.Inject(from, l.addr(), opening(l.Listener, from, dtlstest.RandomOf(1)))) // half-open
		synctest.Wait()
		require.Equal(t, 1, l.Stats().HalfOpen)
		taken, err := l.Attach(unmarshal(t, data))
		require.NoError(t, err)
		write(t, client, "beside")
		assert.Equal(t, "beside", read(t, taken))
		assert.Equal(t, 1, l.Stats().HalfOpen)

		state, err := taken.Detach()
		require.NoError(t, err)
		client.Kill()
		l.dial(t, from)
		_, err = l.AcceptConn(t.Context())
		require.NoError(t, err)
		_, err = l.Attach(state)
		require.ErrorIs(t, err, dtlsserver.ErrStatePresent)
	})
}

// TestAttachWhenFull evicts as a newcomer does, or not.
func TestAttachWhenFull(t *testing.T) {
	t.Parallel()
	for _, policy := range []dtlsserver.Policy{dtlsserver.EvictLeastRecentlyUsed, dtlsserver.RefuseNewcomer} {
		inBubble(t, dtlsserver.Config{Sessions: 1, WhenFull: policy}, func(t *testing.T, l memory) {
			_, c := l.connect(t)
			state, err := c.Detach()
			require.NoError(t, err)
			client, other := l.connect(t)
			_, err = l.Attach(state)
			if policy == dtlsserver.RefuseNewcomer {
				require.ErrorIs(t, err, dtlsserver.ErrStateNoRoom)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, dtlsserver.Evicted, other.EndReason())
			dtlstest.RequireEOF(t, client)
		})
	}
}

// TestStateShowsNoSecret however it is printed.
func TestStateShowsNoSecret(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, c := l.connect(t)
		secret := c.Secrets().MasterSecret
		state, err := c.Detach()
		require.NoError(t, err)
		text, err := json.Marshal(struct{ S dtlsserver.SessionState }{state})
		require.NoError(t, err)
		for _, printed := range []string{string(text), fmt.Sprint(state), fmt.Sprintf("%+v %#v %x %q %d %s", state, state, state, state, state, state), state.LogValue().String()} {
			assert.Less(t, len(printed), 400, printed)
			assert.NotContains(t, printed, dtlstest.Identity)
			assert.NotContains(t, printed, fmt.Sprintf("%x", secret))
			assert.NotContains(t, printed, strings.Trim(fmt.Sprint(secret), "[]"))
		}
	})
}

// TestUnmarshalIsStrict refuses every other input than what was marshalled.
func TestUnmarshalIsStrict(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, c := l.connect(t)
		write(t, client, "unread")
		synctest.Wait()
		data := detach(t, c)
		again, err := unmarshal(t, data).MarshalBinary()
		require.NoError(t, err)
		require.Equal(t, data, again)
		var s dtlsserver.SessionState
		for n := range data {
			require.Error(t, s.UnmarshalBinary(data[:n]), n)
		}
		require.Error(t, s.UnmarshalBinary(append(data, 0)))
		require.ErrorContains(t, s.UnmarshalBinary(append([]byte{9}, data[1:]...)), "version 9")
		for bit := range 8 * len(data) { // what still parses is what MarshalBinary writes
			changed := append([]byte{}, data...)
			changed[bit/8] ^= 1 << (bit % 8)
			if s.UnmarshalBinary(changed) == nil {
				again, err := s.MarshalBinary()
				require.NoError(t, err)
				require.Equal(t, changed, again, "bit %d", bit)
			}
		}
		_, err = (dtlsserver.SessionState{}).MarshalBinary()
		require.Error(t, err)
		_, err = l.Attach(dtlsserver.SessionState{})
		require.Error(t, err)
		require.False(t, errors.Is(err, dtlsserver.ErrStateUsed))
	})
}
