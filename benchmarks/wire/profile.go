// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

const (
	mutexFraction = 10     // one contention in ten is in the profile
	blockRate     = 10_000 // ns; shorter waits are sampled
)

// startProfile starts the profiles of -profile, for a server at its first request, so that what
// comes before the measurement is not in them. It returns a function that writes them. A later
// round replaces those of an earlier one.
func startProfile(name string) (write func()) {
	if *profile == "" {
		return func() {}
	}
	check(os.MkdirAll(*profile, 0o755))
	create := func(kind string) *os.File {
		file, err := os.Create(filepath.Join(*profile, fmt.Sprintf("%s-%s-%s-slow%s.%s", *what, name, *sessions, *slow, kind)))
		check(err)
		return file
	}
	cpu := create("cpu")
	check(pprof.StartCPUProfile(cpu))
	runtime.SetMutexProfileFraction(mutexFraction)
	runtime.SetBlockProfileRate(blockRate)
	return func() {
		pprof.StopCPUProfile()
		check(cpu.Close())
		for _, kind := range []string{"mutex", "block"} {
			file := create(kind)
			check(pprof.Lookup(kind).WriteTo(file, 0))
			check(file.Close())
		}
	}
}
