// SPDX-License-Identifier: MIT

//go:build !unix && !windows

package durable

import "os"

func rename(from, to string) error { return os.Rename(from, to) }

// syncDir does nothing: these systems have no fsync of a directory.
func syncDir(string) error { return nil }
