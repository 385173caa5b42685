// SPDX-License-Identifier: MIT

package interop

import (
	"context"
	"net"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	v2 "github.com/pion/dtls/v2"
	v3 "github.com/pion/dtls/v3"
)

// pionClients are the clients of pion that are recorded.
func pionClients(p *parties) []recorded {
	certified := credentials{roots: p.server.Pool, cert: &p.client.Certificate}
	stored, storedV3 := &dtlstest.ClientStore{}, &v3Store{}
	resumingV2 := func(ctx context.Context, transport *dtlstest.Transport, c credentials) (net.Conn, exporter, uint16, error) {
		return dialV2With(ctx, transport, c, stored)
	}
	resumingV3 := func(ctx context.Context, transport *dtlstest.Transport, c credentials) (net.Conn, exporter, uint16, error) {
		return dialV3With(ctx, transport, c, v3.WithSessionStore(storedV3))
	}
	withoutExtension := func(ctx context.Context, transport *dtlstest.Transport, c credentials) (net.Conn, exporter, uint16, error) {
		return dialV3With(ctx, transport, c, v3.WithExtendedMasterSecret(v3.DisableExtendedMasterSecret))
	}
	before := func(dial dialer) func(*testing.T, net.Addr) {
		return func(t *testing.T, server net.Addr) { dialing("v2", dial, pskClient(ccm8))(t, server) }
	}
	return []recorded{
		{file: "pion-v2-psk", config: pskServer(ccm8), connect: dialing("v2", dialV2, pskClient(ccm8))},
		{file: "pion-v2-ecdhe-psk", config: pskServer(ecdhe), connect: dialing("v2", dialV2, pskClient(ecdhe))},
		{file: "pion-v2-client-certificate", config: p.config(v2.RequireAndVerifyClientCert), connect: dialing("v2", dialV2, certified)},
		{file: "pion-v2-psk-resumed", config: pskServer(ccm8), before: before(resumingV2), connect: dialing("v2", resumingV2, pskClient(ccm8))},
		{file: "pion-v3-psk", config: pskServer(ccm8), connect: dialing("v3", dialV3, pskClient(ccm8))},
		{file: "pion-v3-psk-no-extended-master-secret", config: pskServer(ccm8), connect: dialing("v3", withoutExtension, pskClient(ccm8))},
		{file: "pion-v3-client-certificate", config: p.config(v2.RequireAndVerifyClientCert), connect: dialing("v3", dialV3, certified)},
		{file: "pion-v3-psk-resumed", config: pskServer(ccm8), before: before(resumingV3), connect: dialing("v3", resumingV3, pskClient(ccm8))},
		{file: "pion-v4-psk", config: pskServer(ccm8), connect: dialing("v4", dialV4, pskClient(ccm8))},
		{file: "pion-v4-client-certificate", config: p.config(v2.RequireAndVerifyClientCert), connect: dialing("v4", dialV4, certified)},
	}
}

// dialing returns a connect function of a client of pion.
func dialing(version string, dial dialer, with credentials) func(*testing.T, net.Addr) string {
	return func(t *testing.T, server net.Addr) string {
		t.Helper()
		c := newClient(t, newTransport(t, server, nil), with, dial)
		dtlstest.Echo(t, c, "is this heard?")
		module, _ := dtlstest.RunProcess(t, "go", "list", "-m", "-f", "{{.Version}}", "github.com/pion/dtls/"+version)
		return "pion " + module
	}
}
