// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rawHandler is a slog.Handler that quotes nothing. It is for one goroutine at a time.
type rawHandler struct{ lines []string }

func (*rawHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *rawHandler) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h *rawHandler) WithGroup(string) slog.Handler          { return h }
func (h *rawHandler) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value.Any())
		return true
	})
	h.lines = append(h.lines, line)
	return nil
}

// What a client sends is one short line of the log, whatever the handler of the log does.
func TestClientWritesNoLinesIntoTheLog(t *testing.T) {
	t.Parallel()
	forged := "x\nDTLS session established peer=192.0.2.1:1\x1b[2J\u2028"
	for name, identity := range map[string]string{"line breaks": forged, "long": strings.Repeat("i", 7000), "both": strings.Repeat(forged, 100)} {
		for where, change := range map[string]func(config *dtls.Config, cfg *dtlsserver.Config){
			"Config.PSK": func(_ *dtls.Config, cfg *dtlsserver.Config) {
				cfg.PSK = func(_ context.Context, r dtlsserver.PSKRequest) ([]byte, error) {
					return nil, fmt.Errorf("no device %s", r.Identity)
				}
			},
			"no key": func(_ *dtls.Config, cfg *dtlsserver.Config) {
				cfg.PSK = func(context.Context, dtlsserver.PSKRequest) ([]byte, error) { return nil, nil }
			},
			"dtls.Config.PSK": func(config *dtls.Config, _ *dtlsserver.Config) {
				config.PSK = func(identity []byte) ([]byte, error) { return nil, errors.New(string(identity)) }
			},
			"VerifyConnection": func(config *dtls.Config, _ *dtlsserver.Config) {
				config.PSK = psk().PSK
				config.VerifyConnection = func(s *dtls.State) error { return fmt.Errorf("not %s", s.IdentityHint) }
			},
		} {
			t.Run(name+" in "+where, func(t *testing.T) {
				t.Parallel()
				var log rawHandler
				config, cfg := withoutPSK(), dtlsserver.Config{Logger: slog.New(&log), HandshakeTimeout: time.Second, MaxPSKIdentity: 1 << 13}
				change(config, &cfg)
				inBubbleWith(t, config, cfg, func(t *testing.T, l memory) {
					require.Error(t, l.tryDial(device(identity, "", "key")))
					synctest.Wait()
					require.Len(t, log.lines, 1)
					line := log.lines[0]
					assert.Contains(t, line, identity[:1])
					assert.Less(t, len(line), 1200)
					for _, r := range line {
						assert.True(t, unicode.IsPrint(r), "%q", line)
					}
					if len(identity) > 300 {
						assert.Contains(t, line, "bytes more)")
					}
				})
			})
		}
	}
}
