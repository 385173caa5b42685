// SPDX-License-Identifier: MIT

package redisstore

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	clusterNodes = 3
	clusterSlots = 16384 // the number of hash slots of every cluster
)

// startCluster starts a cluster whose nodes each have a third of the hash slots. It
// returns an administrator's client of one node, and options for a user with the
// permissions that README.md lists.
func startCluster(t *testing.T) (redis.UniversalClient, *redis.UniversalOptions) {
	t.Helper()
	addrs, ports := make([]string, clusterNodes), make([]int, clusterNodes)
	for i := range clusterNodes {
		s := startServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
		addrs[i], ports[i] = s.addr(), s.port
	}
	clients := make([]redis.UniversalClient, clusterNodes)
	for i, addr := range addrs {
		clients[i] = newClient(t, Options(addr))
		require.NoError(t, clients[i].Do(t.Context(), "acl", "setuser", "dsm", "on", ">secret", "~dsm:*",
			"+get", "+set", "+del", "+eval", "+evalsha", "+cluster|slots", "+command").Err())
		require.NoError(t, clients[i].Do(t.Context(), "cluster", "set-config-epoch", i+1).Err())
		first, next := i*clusterSlots/clusterNodes, (i+1)*clusterSlots/clusterNodes
		require.NoError(t, clients[i].ClusterAddSlotsRange(t.Context(), first, next-1).Err())
	}
	for _, port := range ports[1:] {
		require.NoError(t, clients[0].ClusterMeet(t.Context(), "127.0.0.1", fmt.Sprint(port)).Err())
	}
	for _, client := range clients { // a node reports ok two seconds after its start at the earliest
		require.Eventually(t, func() bool {
			info, err := client.ClusterInfo(t.Context()).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		}, patience, 10*time.Millisecond)
	}
	options := Options(addrs...)
	options.Username, options.Password = "dsm", "secret"
	return clients[0], options
}

func TestBackendOnAllNodesOfCluster(t *testing.T) {
	admin, options := startCluster(t)
	b := newBackend(t, Config{Client: newClient(t, options), Keys: []Key{testKey(1)}})
	require.IsType(t, (*redis.ClusterClient)(nil), b.client)
	ctx := t.Context()
	const entries = 60
	entriesByNode := make(map[int64]int)
	for i := range byte(entries) {
		id := []byte{i}
		slot, err := admin.ClusterKeySlot(ctx, b.name(id)).Result()
		require.NoError(t, err)
		entriesByNode[slot*clusterNodes/clusterSlots]++
		require.NoError(t, b.Put(ctx, id, []byte{i, i}, time.Minute))
	}
	require.Len(t, entriesByNode, clusterNodes, "entries on all nodes")
	for i := range byte(entries) {
		id := []byte{i}
		value, ok, err := b.Get(ctx, id)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, []byte{i, i}, value)
		deleted, err := b.Delete(ctx, id, []byte{i})
		require.NoError(t, err)
		require.False(t, deleted)
		deleted, err = b.Delete(ctx, id, []byte{i, i})
		require.NoError(t, err)
		require.True(t, deleted)
		_, ok, err = b.Get(ctx, id)
		require.NoError(t, err)
		require.False(t, ok)
	}
	assert.Equal(t, Stats{Opened: 3 * entries, Absent: entries}, b.Stats())
}
