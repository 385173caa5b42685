// SPDX-License-Identifier: MIT

package dsm

import (
	"bufio"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTableAnswersLikeRIOT replays calls whose results were recorded from the C
// module of RIOT.
func TestTableAnswersLikeRIOT(t *testing.T) {
	files, err := filepath.Glob("testdata/riot-traces/*.jsonl")
	require.NoError(t, err)
	require.Len(t, files, 4)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			f, err := os.Open(file)
			require.NoError(t, err)
			defer f.Close()

			var table *Table[int]
			socks := []Sock{{}}
			for range 7 {
				socks = append(socks, NewSock())
			}
			states := map[string]State{}
			for s := NoSpace; s <= StateEstablished; s++ {
				states[s.String()] = s
			}
			lines := bufio.NewScanner(f)
			line := 0
			for lines.Scan() {
				line++
				var op struct {
					Op, Peer, State, Prev string
					Sock, Capacity        int
					Ret, Available        *int
					Restore               bool
				}
				require.NoError(t, json.Unmarshal(lines.Bytes(), &op))
				session := Session[int]{Value: line}
				if op.Peer != "" && op.Op != "lru" {
					session.Peer = netip.MustParseAddrPort(op.Peer)
				}
				switch op.Op {
				case "init":
					table, err = New[int](op.Capacity)
					require.NoError(t, err)
					require.Equal(t, op.Capacity, table.MaxSlots())
					continue
				case "store":
					require.Contains(t, states, op.State)
					require.Equal(t, op.Prev, table.Store(socks[op.Sock], &session, states[op.State], op.Restore).String(), "line %d", line)
				case "remove":
					table.Remove(socks[op.Sock], &session)
				case "lru":
					oldest, ok := table.LRU(socks[op.Sock])
					require.Equal(t, *op.Ret == 1, ok, "line %d", line)
					if ok {
						require.Equal(t, netip.MustParseAddrPort(op.Peer), oldest.Peer, "line %d", line)
					}
				default:
					t.Fatalf("line %d: operation %q", line, op.Op)
				}
				require.Equal(t, *op.Available, table.AvailableSlots(), "line %d", line)
				require.NoError(t, table.check(), "line %d", line)
			}
			require.NoError(t, lines.Err())
			require.Greater(t, line, 600)
		})
	}
}
