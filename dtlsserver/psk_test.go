// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pskCallback is the type of Config.PSK.
type pskCallback func(context.Context, dtlsserver.PSKRequest) ([]byte, error)

// withoutPSK is the configuration of a listener whose PSK callback is Config.PSK.
func withoutPSK() *dtls.Config {
	config := psk()
	config.PSK, config.PSKIdentityHint = nil, nil
	return config
}

// inBubbleWithPSK runs a test in a bubble with a listener on a network in memory that has
// Config.PSK. A callback that waits for a channel must be made in the bubble: see newHanging.
func inBubbleWithPSK(t *testing.T, callback pskCallback, cfg dtlsserver.Config, test func(t *testing.T, l memory)) {
	t.Helper()
	cfg.PSK = callback
	inBubbleWith(t, withoutPSK(), cfg, test)
}

// device is the configuration of a client.
func device(identity, serverName, key string) *dtls.Config {
	config := dtlstest.PSKConfig(key)
	config.PSKIdentityHint, config.ServerName = []byte(identity), serverName
	return config
}

// tryDial has a client connect from a free address, and reports how that ends.
func (l memory) tryDial(config *dtls.Config) error {
	client, err := dtlstest.Handshake(l.network.Dial(netip.AddrPort{}, l.addr()), config)
	if err == nil {
		client.Kill()
	}
	return err
}

// begin has a client begin to connect. The channel gives the error of its handshake.
func (l memory) begin(config *dtls.Config) <-chan error {
	done := make(chan error, 1)
	go func() { done <- l.tryDial(config) }()
	synctest.Wait()
	return done
}

// hang is the identity of which newHanging gives no key.
const hang = "hangs"

// newHanging returns a callback that waits for release at the identity hang, whatever its
// context says.
func newHanging() (callback pskCallback, release func()) {
	released := make(chan struct{})
	return func(_ context.Context, r dtlsserver.PSKRequest) ([]byte, error) {
		if string(r.Identity) == hang {
			<-released
		}
		return []byte("key"), nil
	}, func() { close(released) }
}

func TestPSKCallbackIsToldOfTheClient(t *testing.T) {
	t.Parallel()
	var asked []dtlsserver.PSKRequest
	inBubbleWithPSK(t, func(_ context.Context, r dtlsserver.PSKRequest) ([]byte, error) {
		asked = append(asked, r)
		return []byte("key"), nil
	}, dtlsserver.Config{}, func(t *testing.T, l memory) {
		for n, serverName := range []string{"", "a.example"} {
			from := dtlstest.NthAddr(10, n+1, 5684)
			l.network.DialClient(t, from, l.addr(), device("device", serverName, "key"))
			c, err := l.AcceptConn(t.Context())
			require.NoError(t, err)
			require.Len(t, asked, n+1, "once in a handshake")
			assert.Equal(t, dtlsserver.PSKRequest{Identity: []byte("device"), ServerName: serverName, Peer: from}, asked[n])
			assert.Equal(t, from, c.Peer())
		}
	})
}

func TestBothPSKCallbacksAreRefused(t *testing.T) {
	t.Parallel()
	_, err := openListener("udp", "127.0.0.1:0", psk(), dtlsserver.Config{PSK: oneKey})
	assert.ErrorContains(t, err, adapterName+": both ")
}

// oneKey is a Config.PSK with one key for all.
func oneKey(context.Context, dtlsserver.PSKRequest) ([]byte, error) { return []byte("key"), nil }

// With Config.PSK alone there are PSK suites, also beside those for certificates.
func TestConfigPSKEnablesPSKSuites(t *testing.T) {
	t.Parallel()
	inBubbleWithPSK(t, oneKey, dtlsserver.Config{}, func(t *testing.T, keys memory) {
		keys.connect(t)
		config := withoutPSK()
		config.CipherSuites = append(config.CipherSuites, dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
		config.Certificates = []tls.Certificate{dtlstest.SelfSigned(t, dtlstest.ECDSA).Certificate}
		both := listenInMemory(t, config, dtlsserver.Config{PSK: oneKey})
		both.connect(t)
		both.network.DialClient(t, netip.AddrPort{}, both.addr(), dtlstest.WithTimeout(&dtls.Config{InsecureSkipVerify: true}, dtlstest.Patience))
		assert.Nil(t, config.PSK, "the caller's stays as it was")
	})
}

// Without a key there is no session, whatever key the client uses.
func TestUnknownPSKIdentityFailsTheHandshake(t *testing.T) {
	t.Parallel()
	for name, callback := range map[string]pskCallback{
		"an empty key": func(context.Context, dtlsserver.PSKRequest) ([]byte, error) { return []byte{}, nil },
		"no key":       func(context.Context, dtlsserver.PSKRequest) ([]byte, error) { return nil, nil },
		"an error":     func(context.Context, dtlsserver.PSKRequest) ([]byte, error) { return nil, errors.New("no such device") },
		"the error": func(context.Context, dtlsserver.PSKRequest) ([]byte, error) {
			return nil, dtlsserver.ErrUnknownPSKIdentity
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log dtlstest.LogBuffer
			inBubbleWithPSK(t, callback, dtlsserver.Config{Logger: log.Logger()}, func(t *testing.T, l memory) {
				for n, key := range []string{"", "key"} {
					require.Error(t, l.tryDial(device("device", "", key)))
					synctest.Wait()
					stats := l.Stats()
					assert.Zero(t, stats.Completed)
					assert.Zero(t, stats.Failed)
					assert.EqualValues(t, n+1, stats.UnknownPSKIdentity)
				}
				assert.Contains(t, log.String(), `no key for PSK identity \"device\": `)
			})
		})
	}
}

// The callback of a dtls.Config is called in the same way.
func TestEmptyKeyOfDTLSConfigFailsTheHandshake(t *testing.T) {
	t.Parallel()
	config := psk()
	config.PSK = func([]byte) ([]byte, error) { return nil, nil }
	inBubbleWith(t, config, dtlsserver.Config{}, func(t *testing.T, l memory) {
		require.Error(t, l.tryDial(device("device", "", "")))
		synctest.Wait()
		assert.EqualValues(t, 1, l.Stats().UnknownPSKIdentity)
		assert.Zero(t, l.Stats().Completed)
	})
}

// A wrong key is no unknown identity.
func TestWrongKeyIsNotCountedAsUnknownIdentity(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{HandshakeTimeout: time.Second}, func(t *testing.T, l memory) {
		require.Error(t, l.tryDial(device("device", "", "another key")))
		synctest.Wait()
		assert.Zero(t, l.Stats().UnknownPSKIdentity)
		assert.Zero(t, l.Stats().Completed)
	})
}

// Close and the handshakes of others do not wait for a callback that hangs.
func TestHungPSKCallbackHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		callback, release := newHanging()
		l := listenInMemory(t, withoutPSK(), dtlsserver.Config{PSK: callback})
		hung := l.begin(device(hang, "", "key"))
		require.Equal(t, 1, l.Stats().HalfOpen)
		for range 3 {
			l.connect(t)
		}
		began := time.Now()
		require.NoError(t, l.Close())
		assert.Less(t, time.Since(began), dtlstest.FlightInterval)
		l.WaitForGoroutines()
		release() // only now
		require.Error(t, <-hung)
		assert.Zero(t, l.Stats().UnknownPSKIdentity)
	})
}

// Callbacks that hang do not add up to more than Config.Handshakes.
func TestHungPSKCallbacksAreBounded(t *testing.T) {
	t.Parallel()
	const handshakes = 2
	synctest.Test(t, func(t *testing.T) {
		var log dtlstest.LogBuffer
		callback, release := newHanging()
		cfg := dtlsserver.Config{Handshakes: handshakes, HandshakeTimeout: time.Second, Logger: log.Logger(), PSK: callback}
		l := listenInMemory(t, withoutPSK(), cfg)
		var hung []<-chan error
		for range handshakes {
			hung = append(hung, l.begin(device(hang, "", "key")))
		}
		time.Sleep(cfg.HandshakeTimeout)
		synctest.Wait()
		assert.EqualValues(t, handshakes, l.Stats().TimedOut)
		assert.Zero(t, l.Stats().HalfOpen)

		require.Error(t, l.tryDial(device("device", "", "key")))
		synctest.Wait()
		assert.EqualValues(t, 1, l.Stats().Failed)
		assert.Contains(t, log.String(), "2 calls of it have not returned")
		release()
		synctest.Wait()
		l.connect(t)
		assert.Zero(t, l.Stats().UnknownPSKIdentity)
		for _, done := range hung {
			assert.Error(t, <-done)
		}
	})
}

// The callback's context ends with the handshake.
func TestPSKContextEndsWithTheHandshake(t *testing.T) {
	t.Parallel()
	const timeout = 3 * time.Second
	for name, test := range map[string]struct {
		end   func(t *testing.T, l memory)
		want  error
		count func(s dtlsserver.Stats) uint64
	}{
		"time":  {func(*testing.T, memory) { time.Sleep(timeout) }, context.DeadlineExceeded, func(s dtlsserver.Stats) uint64 { return s.TimedOut }},
		"Close": {func(t *testing.T, l memory) { require.NoError(t, l.Close()) }, context.Canceled, func(s dtlsserver.Stats) uint64 { return s.Displaced }},
		"displacement": {func(t *testing.T, l memory) {
			time.Sleep(timeout / 2)
			l.occupy(t, 1)
		}, context.Canceled, func(s dtlsserver.Stats) uint64 { return s.Displaced }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			inBubbleWithPSK(t, func(ctx context.Context, _ dtlsserver.PSKRequest) ([]byte, error) {
				<-ctx.Done()
				ended <- ctx.Err()
				return nil, ctx.Err()
			}, dtlsserver.Config{Handshakes: 1, HandshakeTimeout: timeout}, func(t *testing.T, l memory) {
				client := l.begin(device("device", "", "key"))
				require.Empty(t, ended)
				test.end(t, l)
				synctest.Wait()
				require.Len(t, ended, 1)
				assert.Equal(t, test.want, <-ended)
				assert.EqualValues(t, 1, test.count(l.Stats()))
				assert.Zero(t, l.Stats().UnknownPSKIdentity)
				_ = l.Close() // the second one, perhaps
				assert.Error(t, <-client)
			})
		})
	}
}
