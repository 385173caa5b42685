// SPDX-License-Identifier: MIT

//go:build race

package udp

import (
	"runtime"
	"unsafe"
)

const raceEnabled = true

// raceRead tells the race detector that the kernel has read the payloads.
func raceRead(ds []Datagram) {
	for i := range ds {
		runtime.RaceReadRange(unsafe.Pointer(unsafe.SliceData(ds[i].Buf)), len(ds[i].Buf))
	}
}

// raceWrite tells the race detector that the kernel has written the payloads.
func raceWrite(ds []Datagram) {
	for i := range ds {
		runtime.RaceWriteRange(unsafe.Pointer(unsafe.SliceData(ds[i].Buf)), len(ds[i].Buf))
	}
}
