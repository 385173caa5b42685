// SPDX-License-Identifier: MIT

package interop

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/resume"
	v2 "github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// denying opens a listener whose Config.Authorize denies some sessions.
func denying(t *testing.T, on adapter, config *v2.Config, denies func(*dtlsserver.AuthRequest) bool) *server {
	t.Helper()
	store, err := resume.New(resume.Config{})
	require.NoError(t, err)
	return serve(t, on, config, dtlsserver.Config{
		Resumption: store,
		Authorize: func(_ context.Context, r *dtlsserver.AuthRequest) (any, error) {
			if denies(r) {
				return nil, errors.New("denied")
			}
			return nil, nil
		},
	}, "")
}

func everybody(*dtlsserver.AuthRequest) bool { return true }

// deniedSays is what clients say of the alert access_denied.
var deniedSays = map[string]string{
	openSSL.name: "SSL alert number 49", gnuTLS.name: "fatal alert has been received", mbedTLS.name: "fatal alert message was received",
	wolfSSL.name: "received alert fatal error", nss.name: "SSL_ERROR_ACCESS_DENIED_ALERT", botan.name: "access_denied",
}

// TestForeignClientIsDenied at the end of its full handshake: it takes the alert for the
// server's, and ends.
func TestForeignClientIsDenied(t *testing.T) {
	withEachAdapter(t, func(t *testing.T, on adapter) {
		p := newParties(t)
		for _, client := range foreigners {
			t.Run(client.name, func(t *testing.T) {
				t.Parallel()
				client, by := client.installed(t), p.wayFor(client)
				s := denying(t, on, by.config, everybody)
				process := client.start(t, s.Addr(), by.visit)
				process.Ends()
				assert.Contains(t, process.Output(), deniedSays[client.name])
				stats := s.Stats()
				assert.EqualValues(t, 1, stats.Denied)
				assert.EqualValues(t, 1, stats.Started)
			})
		}
	})
}

// TestForeignClientIsDeniedItsSession that it has resumed, by an alert under the session's keys.
func TestForeignClientIsDeniedItsSession(t *testing.T) {
	withEachAdapter(t, func(t *testing.T, on adapter) {
		p := newParties(t)
		for _, client := range []foreign{openSSL, gnuTLS, mbedTLS, wolfSSL} {
			t.Run(client.name, func(t *testing.T) {
				t.Parallel()
				client, by := client.installed(t), p.wayFor(client)
				s := denying(t, on, by.config, func(r *dtlsserver.AuthRequest) bool { return r.Resumed })
				first, again := by.visit, by.visit
				file := filepath.Join(t.TempDir(), "session")
				first.args, again.args = client.keep(file), client.resume(file)
				client.echo(t, s.Addr(), first)
				process := client.start(t, s.Addr(), again)
				process.Ends()
				assert.Contains(t, process.Output(), deniedSays[client.name])
				assert.EqualValues(t, 1, s.Stats().Denied)
				assert.EqualValues(t, 1, s.Stats().Completed)
			})
		}
	})
}

// TestPionClientIsDenied with each of pion's versions.
func TestPionClientIsDenied(t *testing.T) {
	withEachAdapter(t, func(t *testing.T, on adapter) {
		for _, with := range clients {
			t.Run(with.name, func(t *testing.T) {
				t.Parallel()
				s := denying(t, on, pskServer(gcm), everybody)
				ctx, cancel := context.WithTimeout(t.Context(), dtlstest.Patience)
				defer cancel()
				_, _, _, err := with.dial(ctx, newTransport(t, s.Addr(), nil), pskClient(gcm))
				require.ErrorContains(t, err, "AccessDenied")
				assert.EqualValues(t, 1, s.Stats().Denied)
			})
		}
	})
}
