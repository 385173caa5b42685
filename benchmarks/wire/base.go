// SPDX-License-Identifier: MIT

package main

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
)

// basePrefix begins the names of the servers that the binary of -base runs. The name after it is
// that binary's name of the server.
const basePrefix = "base-"

// withBase returns the servers with the counterparts in -base of those of dsm, so that they take
// turns.
func withBase(servers []string) (all []string, err error) {
	for _, name := range servers {
		if strings.HasPrefix(name, basePrefix) && *base == "" {
			return nil, errors.New(name + ": want -base")
		}
		counterpart := basePrefix + name
		if *base != "" && strings.HasPrefix(name, "dsm") && !slices.Contains(servers, counterpart) {
			all = append(all, counterpart)
		}
		all = append(all, name)
	}
	return all, nil
}

// programOf returns the program that runs a server, and its arguments -servers and -profile.
func programOf(server, self string) (program, name, profileDir string) {
	name, isBase := strings.CutPrefix(server, basePrefix)
	if !isBase {
		return self, name, *profile
	}
	if *profile != "" {
		profileDir = filepath.Join(*profile, "base")
	}
	return *base, name, profileDir
}
