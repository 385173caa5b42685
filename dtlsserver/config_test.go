// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"errors"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/resume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWrongConfigIsRefused has one case for each field that can be wrong. The error
// names the field.
func TestWrongConfigIsRefused(t *testing.T) {
	t.Parallel()
	small, err := dsm.New[*dtlsserver.Peer](4)
	require.NoError(t, err)
	tiny, err := dsm.New[*dtlsserver.Peer](1)
	require.NoError(t, err)
	for _, c := range []struct {
		cfg  dtlsserver.Config
		want string
	}{
		{dtlsserver.Config{Sessions: -1}, "Config.Sessions is negative"},
		{dtlsserver.Config{Handshakes: -1}, "Config.Handshakes is negative"},
		{dtlsserver.Config{HandshakeTimeout: -1}, "Config.HandshakeTimeout is negative"},
		{dtlsserver.Config{AuthorizeTimeout: -1}, "Config.AuthorizeTimeout is negative"},
		{dtlsserver.Config{IdleTimeout: -1}, "Config.IdleTimeout is negative"},
		{dtlsserver.Config{StaleAfter: -1}, "Config.StaleAfter is negative"},
		{dtlsserver.Config{MinAvailable: -1}, "Config.MinAvailable is negative"},
		{dtlsserver.Config{MinAvailableAfter: -1}, "Config.MinAvailableAfter is negative"},
		{dtlsserver.Config{MinAvailable: 5, Sessions: 4}, "Config.MinAvailable is 5"},
		{dtlsserver.Config{AcceptQueue: -1}, "Config.AcceptQueue is negative"},
		{dtlsserver.Config{QueueDatagrams: -1}, "Config.QueueDatagrams is negative"},
		{dtlsserver.Config{QueueBytes: -1}, "Config.QueueBytes is negative"},
		{dtlsserver.Config{QueueTotal: -1}, "Config.QueueTotal is negative"},
		{dtlsserver.Config{Workers: -1}, "Config.Workers is negative"},
		{dtlsserver.Config{Sockets: -1}, "Config.Sockets is negative"},
		{dtlsserver.Config{Sockets: dtlsserver.MaxSockets + 1}, "Config.Sockets is 257"},
		{dtlsserver.Config{ReadBuffer: -1}, "Config.ReadBuffer is negative"},
		{dtlsserver.Config{WriteBuffer: -1}, "Config.WriteBuffer is negative"},
		{dtlsserver.Config{WhenFull: 9}, "Config.WhenFull is 9"},
		{dtlsserver.Config{WhenFull: -1}, "Config.WhenFull is -1"},
		{dtlsserver.Config{SessionsPerIdentity: -1}, "Config.SessionsPerIdentity is negative"},
		{dtlsserver.Config{WhenIdentityFull: 9}, "Config.WhenIdentityFull is 9"},
		{dtlsserver.Config{WhenIdentityFull: -1}, "Config.WhenIdentityFull is -1"},
		{dtlsserver.Config{AddressChange: 9}, "Config.AddressChange is 9"},
		{dtlsserver.Config{AddressChange: -1}, "Config.AddressChange is -1"},
		{dtlsserver.Config{ServerID: make([]byte, 17)}, "Config.ServerID has 17 bytes"},
		{dtlsserver.Config{WhenFull: dtlsserver.RefuseNewcomer, StaleAfter: time.Second}, "Config.StaleAfter"},
		{dtlsserver.Config{Table: tiny}, "Config.Table has 1 slots"}, // one handshake at least, and one session
		{dtlsserver.Config{Table: tiny, Sessions: 1}, "Config.Table has 1 slots"},
		{dtlsserver.Config{Table: small, Handshakes: 4}, "Config.Table has 4 slots"},
		{dtlsserver.Config{Table: small, Sessions: 4}, "Config.Table has 4 slots"},
		{dtlsserver.Config{Table: small, Sessions: 3, Handshakes: 2}, "Config.Table"},
		{dtlsserver.Config{Sessions: 1 << 30}, "slots"},
	} {
		_, err := openListener("udp", "127.0.0.1:0", psk(), c.cfg)
		if assert.ErrorContains(t, err, c.want) {
			assert.True(t, strings.HasPrefix(err.Error(), "dsm: "), "%v", err)
		}
	}
}

func TestListenFailsWithoutAnAddress(t *testing.T) {
	t.Parallel()
	_, err := openListener("udp", "nowhere", psk(), dtlsserver.Config{})
	assert.Error(t, err)
	_, err = openListener("tcp", "127.0.0.1:0", psk(), dtlsserver.Config{})
	assert.Error(t, err)
}

// TestConfigDefaults compares what a listener makes of zero fields with what their
// comments say.
func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	var tables []*dsm.Table[*dtlsserver.Peer]
	for _, slots := range []int{2, 3, 800, 2600} {
		table, err := dsm.New[*dtlsserver.Peer](slots)
		require.NoError(t, err)
		tables = append(tables, table)
	}
	two, three, medium, large := tables[0], tables[1], tables[2], tables[3]
	store, err := resume.New(resume.Config{})
	require.NoError(t, err)
	type sizes struct{ sessions, handshakes, perSource, slots int }
	for name, c := range map[string]struct {
		cfg  dtlsserver.Config
		want sizes
	}{
		"zero":                            {dtlsserver.Config{}, sizes{dtlsserver.DefaultSessions, 1000, 250, dtlsserver.DefaultSessions + 1000}},
		"few sessions":                    {dtlsserver.Config{Sessions: 3}, sizes{3, 1000, 250, 1003}},
		"many sessions":                   {dtlsserver.Config{Sessions: 20_000}, sizes{20_000, 1000, 250, 21_000}},
		"few handshakes":                  {dtlsserver.Config{Sessions: 100, Handshakes: 2}, sizes{100, 2, 1, 102}},
		"a share":                         {dtlsserver.Config{HandshakesPerSource: 7}, sizes{dtlsserver.DefaultSessions, 1000, 7, dtlsserver.DefaultSessions + 1000}},
		"no share":                        {dtlsserver.Config{HandshakesPerSource: -1}, sizes{dtlsserver.DefaultSessions, 1000, 1000, dtlsserver.DefaultSessions + 1000}},
		"a large table":                   {dtlsserver.Config{Table: large}, sizes{1600, 1000, 250, 2600}},
		"a table":                         {dtlsserver.Config{Table: medium}, sizes{400, 400, 100, 800}},
		"a table of two":                  {dtlsserver.Config{Table: two}, sizes{1, 1, 1, 2}},
		"a table of three":                {dtlsserver.Config{Table: three}, sizes{2, 1, 1, 3}},
		"a table and handshakes":          {dtlsserver.Config{Table: medium, Handshakes: 100}, sizes{700, 100, 25, 800}},
		"a table and sessions":            {dtlsserver.Config{Table: medium, Sessions: 700}, sizes{700, 100, 25, 800}},
		"a large table and sessions":      {dtlsserver.Config{Table: large, Sessions: 600}, sizes{600, 1000, 250, 2600}},
		"a scope, and what it belongs to": {dtlsserver.Config{Resumption: store, ResumptionScope: "x", Sessions: 1}, sizes{1, 1000, 250, 1001}},
		"StaleAfter by itself":            {dtlsserver.Config{StaleAfter: time.Second, Sessions: 1}, sizes{1, 1000, 250, 1001}},
	} {
		l := listen(t, psk(), c.cfg)
		got := l.FilledConfig()
		assert.Equal(t, c.want, sizes{got.Sessions, got.Handshakes, got.HandshakesPerSource, got.Table.MaxSlots()}, name)
		assert.Equal(t, dtlsserver.DefaultHandshakeTimeout, got.HandshakeTimeout, name)
		assert.Equal(t, dtlsserver.DefaultMinAvailableAfter, got.MinAvailableAfter, name)
		assert.Equal(t, dtlsserver.DefaultAcceptQueue, got.AcceptQueue, name)
		assert.Equal(t, dtlsserver.DefaultQueueDatagrams, got.QueueDatagrams, name)
		assert.Equal(t, dtlsserver.DefaultQueueBytes, got.QueueBytes, name)
		assert.Equal(t, dtlsserver.DefaultQueueTotal, got.QueueTotal, name)
		assert.Equal(t, dtlsserver.DefaultWorkers, got.Workers, name)
	}
}

// TestControlIsCalledForEachSocketBeforeBind looks at the address that Control gets: the
// first socket has no port yet. The error of Control is Listen's.
func TestControlIsCalledForEachSocketBeforeBind(t *testing.T) {
	t.Parallel()
	cfg := dtlsserver.Config{}
	if runtime.GOOS == "linux" {
		cfg.Sockets = 2
	}
	var networks, ports []string
	cfg.Control = func(network, address string, _ syscall.RawConn) error {
		_, port, err := net.SplitHostPort(address)
		networks, ports = append(networks, network), append(ports, port)
		return err
	}
	l := listen(t, psk(), cfg)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	wantNetworks, wantPorts := []string{"udp4"}, []string{"0"}
	if cfg.Sockets == 2 {
		wantNetworks, wantPorts = append(wantNetworks, "udp4"), append(wantPorts, port)
	}
	assert.Equal(t, wantNetworks, networks)
	assert.Equal(t, wantPorts, ports)
	echoServer(t, l)
	dtlstest.Echo(t, dial(t, l, nil), "works")

	refused := errors.New("not this one")
	cfg.Control = func(string, string, syscall.RawConn) error { return refused }
	_, err = openListener("udp", "127.0.0.1:0", psk(), cfg)
	assert.ErrorIs(t, err, refused)
}
