// SPDX-License-Identifier: MIT

package udp

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestZoneIsNameOfInterface(t *testing.T) {
	interfaces, err := net.Interfaces()
	require.NoError(t, err)
	for _, i := range interfaces {
		assert.Equal(t, i.Name, zoneName(uint32(i.Index)))
		assert.Equal(t, uint32(i.Index), zoneIndex(i.Name))
	}
	assert.Equal(t, "4000000000", zoneName(4000000000), "no such interface")
	assert.Equal(t, uint32(4000000000), zoneIndex("4000000000"))
	assert.Zero(t, zoneIndex("no such interface"))
	assert.Zero(t, zoneIndex(""))
}

func TestZonesFollowInterfaces(t *testing.T) {
	interfaces, err := net.Interfaces()
	if err != nil || len(interfaces) == 0 {
		t.Skip("no network interface")
	}
	t.Cleanup(func() { zones.Store(nil) })
	name, index := interfaces[0].Name, uint32(interfaces[0].Index)

	now := time.Now()
	before := func(fetched time.Time) {
		zones.Store(&zoneTable{fetched, map[uint32]string{index: "before"}, map[string]uint32{"before": index}})
	}
	before(now)
	assert.Equal(t, "before", zoneName(index), "from the table")
	before(now.Add(-zonesMaxAge))
	assert.Equal(t, name, zoneName(index), "the interface was renamed")

	before(now)
	assert.Equal(t, index, zoneIndex(name), "the interface is new")
	zones.Store(&zoneTable{fetched: now})
	assert.Equal(t, name, zoneName(index), "the interface is new")
}
