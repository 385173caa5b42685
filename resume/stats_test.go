// SPDX-License-Identifier: MIT

package resume

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A warning counts the faults since the last one.
func TestStoreWarnsAtMostOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s, f := newStore(t, Config{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
		logged := func() (lines []map[string]any) {
			for line := range bytes.Lines(log.Bytes()) {
				var fields map[string]any
				require.NoError(t, json.Unmarshal(line, &fields))
				delete(fields, "time")
				lines = append(lines, fields)
			}
			log.Reset()
			return lines
		}
		warning := func(failures, timeouts, garbage float64, err string) []map[string]any {
			return []map[string]any{{"level": "WARN", "msg": "resumption is impaired",
				"failures": failures, "timeouts": timeouts, "garbage": garbage, "error": err}}
		}
		get := func() { s.Get(background, source4, testID(1)) }

		get()
		s.Get(background, source4, nil)
		require.Error(t, s.Put(background, testID(1), &Session{}))
		assert.Empty(t, logged(), "not a fault of the backend")

		f.get = func(context.Context, []byte) ([]byte, bool, error) { return nil, false, errors.New("down") }
		get()
		assert.Equal(t, warning(1, 0, 0, "down"), logged())
		get()
		get()
		f.get = func(ctx context.Context, _ []byte) ([]byte, bool, error) { <-ctx.Done(); return nil, false, ctx.Err() }
		get()
		time.Sleep(time.Minute - DefaultLookupTimeout - 1)
		synctest.Wait()
		f.get = func(context.Context, []byte) ([]byte, bool, error) {
			return []byte("garbage of 32 bytes and a secret"), true, nil
		}
		get()
		assert.Empty(t, logged(), "a minute has not passed")
		time.Sleep(time.Nanosecond)
		get()
		got := logged()
		require.Len(t, got, 1)
		assert.Contains(t, got[0]["error"], "not a session")
		got[0]["error"] = ""
		assert.Equal(t, warning(2, 1, 2, ""), got)

		time.Sleep(time.Hour)
		f.get = nil
		get()
		assert.Empty(t, logged())
		f.put = func(context.Context, []byte, []byte, time.Duration) error { return errors.New("down") }
		require.Error(t, s.Put(background, testID(1), &Session{Secret: testSecret(1)}))
		assert.Equal(t, warning(1, 0, 0, "resume: storing a session: down"), logged())
	})
}
