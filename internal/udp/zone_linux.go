// SPDX-License-Identifier: MIT

package udp

import (
	"net"
	"strconv"
	"sync/atomic"
	"time"
)

// zonesMaxAge bounds how long a renamed interface keeps its old name here. Package net has the
// same bound.
const zonesMaxAge = time.Minute

// zoneTable has the names of the network interfaces, which are the zones of addresses. A table is
// immutable.
type zoneTable struct {
	fetched time.Time
	names   map[uint32]string
	indices map[string]uint32
}

var zones atomic.Pointer[zoneTable]

// fetchZones makes a new table the current one. Several goroutines may do so at once.
func fetchZones() *zoneTable {
	interfaces, _ := net.Interfaces() // none after an error
	t := &zoneTable{time.Now(), make(map[uint32]string), make(map[string]uint32)}
	for _, i := range interfaces {
		t.names[uint32(i.Index)] = i.Name
		t.indices[i.Name] = uint32(i.Index)
	}
	zones.Store(t)
	return t
}

// currentZones returns a table that is not too old.
func currentZones() *zoneTable {
	if t := zones.Load(); t != nil && time.Since(t.fetched) < zonesMaxAge {
		return t
	}
	return fetchZones()
}

// zoneName returns the name of an interface. Like package net it returns the number if there is
// no such interface.
func zoneName(index uint32) string {
	name, ok := currentZones().names[index]
	if !ok { // a new interface
		name, ok = fetchZones().names[index]
	}
	if !ok {
		return strconv.FormatUint(uint64(index), 10)
	}
	return name
}

// zoneIndex returns the index of an interface, whose name may also be its number. It is 0 if
// there is no such interface, and for no zone.
func zoneIndex(zone string) uint32 {
	if zone == "" {
		return 0
	}
	index, ok := currentZones().indices[zone]
	if !ok { // a new interface
		index, ok = fetchZones().indices[zone]
	}
	if !ok {
		number, _ := strconv.ParseUint(zone, 10, 32)
		index = uint32(number)
	}
	return index
}
