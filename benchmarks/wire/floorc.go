// SPDX-License-Identifier: MIT

package main

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
)

// floorC is the source of the server "floor-c".
//
//go:embed floor/floor.c
var floorC []byte

// compileFloorC compiles floorC once, and returns the path of the program.
var compileFloorC = sync.OnceValues(func() (string, error) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		return "", fmt.Errorf("the server floor-c needs a C compiler: leave it out with -servers: %w", err)
	}
	dir, err := os.MkdirTemp("", "dsm-wire")
	if err != nil {
		return "", err
	}
	floorCDir = dir
	source, program := filepath.Join(dir, "floor.c"), filepath.Join(dir, "floor-c")
	if err := os.WriteFile(source, floorC, 0o600); err != nil {
		return "", err
	}
	if out, err := exec.Command(compiler, "-O2", "-Wall", "-pthread", "-o", program, source).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s floor.c: %w\n%s", compiler, err, out)
	}
	return program, nil
})

// floorCDir is the directory of the compiled floorC, or "".
var floorCDir string

func removeFloorC() {
	if floorCDir != "" {
		_ = os.RemoveAll(floorCDir)
	}
}

// startFloorC starts the compiled floorC as a server.
func startFloorC() (*process, error) {
	program, err := compileFloorC()
	if err != nil {
		return nil, err
	}
	core, echo := serverCore%runtime.NumCPU(), "0"
	if *what == "sockets" {
		core = -1
	}
	if echoes() {
		echo = "1"
	}
	return startProgram(program, strconv.Itoa(core), strconv.Itoa(readBuffer), echo)
}
