// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tenants are the keys of one identity under several server names.
var tenants = map[string]string{"a.example": "key of a", "b.example": "key of b"}

// keyOfTenant is a Config.PSK.
func keyOfTenant(_ context.Context, r dtlsserver.PSKRequest) ([]byte, error) {
	if string(r.Identity) != dtlstest.Identity {
		return nil, dtlsserver.ErrUnknownPSKIdentity
	}
	return []byte(tenants[r.ServerName]), nil
}

func TestKeyOpensOnlyUnderItsOwnServerName(t *testing.T) {
	t.Parallel()
	cfg := dtlsserver.Config{HandshakeTimeout: time.Second}
	inBubbleWithPSK(t, keyOfTenant, cfg, func(t *testing.T, l memory) {
		for _, serverName := range []string{"a.example", "b.example", "c.example", ""} {
			for tenant, key := range tenants {
				before := l.Stats().Completed
				err := l.tryDial(device(dtlstest.Identity, serverName, key))
				synctest.Wait()
				assert.Equal(t, serverName == tenant, err == nil, "%s's key under %q: %v", tenant, serverName, err)
				assert.Equal(t, serverName == tenant, l.Stats().Completed == before+1)
			}
		}
		assert.EqualValues(t, 2*len(tenants), l.Stats().UnknownPSKIdentity, "of c.example and without a name")
	})
}

// A session is resumed under its own server name only: of another tenant's client, and of
// one that has a key for both.
func TestSessionIsNotResumedByAnotherTenant(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		r.server, r.cfg.PSK, r.cfg.HandshakeTimeout = withoutPSK(), keyOfTenant, time.Second
		as := func(tenant, key string) {
			r.client = device(dtlstest.Identity, tenant, tenants[key])
			r.client.SessionStore = r.kept
		}
		as("a.example", "a.example")
		l, sessions, _ := r.begin(t)
		assert.True(t, r.visit(t, l, sessions).Resumed())

		as("b.example", "a.example")
		_, err := r.tryDial(l, nil)
		require.Error(t, err)
		assert.EqualValues(t, 1, l.Stats().NotResumed)

		as("b.example", "b.example")
		assert.False(t, r.visit(t, l, sessions).Resumed(), "a full handshake with its own key")
	})
}

// Before a session is resumed the callback is asked once more, with what it was asked with
// in the full handshake. A session whose key it no longer gives is not resumed.
func TestPSKCallbackIsAskedBeforeResumption(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		var asked []dtlsserver.PSKRequest
		key := "key"
		r.server = withoutPSK()
		r.cfg.PSK = func(_ context.Context, request dtlsserver.PSKRequest) ([]byte, error) {
			asked = append(asked, request)
			return []byte(key), nil
		}
		r.client.ServerName = "a.example"
		l, sessions, _ := r.begin(t)
		from := dtlstest.NthAddr(10, 1, 5684)
		client, s := r.dial(t, l, sessions, net.UDPAddrFromAddrPort(from))
		require.True(t, s.Resumed())
		require.Len(t, asked, 2)
		assert.Equal(t, dtlsserver.PSKRequest{Identity: []byte(dtlstest.Identity), ServerName: "a.example", Peer: from}, asked[1])
		require.NoError(t, client.Close())

		key = ""
		_, err := r.tryDial(l, nil)
		require.Error(t, err)
		synctest.Wait()
		assert.EqualValues(t, 1, l.Stats().NotResumed)
		assert.EqualValues(t, 1, l.Stats().UnknownPSKIdentity, "counted in the full handshake only")
	})
}

// A callback that hangs before a session is resumed holds up neither Close nor others.
func TestHungPSKCallbackBeforeResumptionHoldsUpNobody(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		release, hangs := make(chan struct{}), false
		r.server = withoutPSK()
		r.cfg.PSK = func(_ context.Context, request dtlsserver.PSKRequest) ([]byte, error) {
			if hangs && string(request.Identity) == dtlstest.Identity {
				<-release
			}
			return []byte("key"), nil
		}
		l, _, _ := r.begin(t)
		hangs = true
		done := make(chan error, 1)
		go func() {
			_, err := r.tryDial(l, nil)
			done <- err
		}()
		synctest.Wait()
		require.Equal(t, 1, l.Stats().HalfOpen)
		r.network.DialClient(t, netip.AddrPort{}, dtlstest.AddrPort(l.Addr()), device("another", "", "key"))
		began := time.Now()
		require.NoError(t, l.Close())
		assert.Less(t, time.Since(began), dtlstest.FlightInterval)
		close(release)
		require.Error(t, <-done)
	})
}
