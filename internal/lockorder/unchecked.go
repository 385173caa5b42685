// SPDX-License-Identifier: MIT

//go:build !lockcheck

package lockorder

import "sync"

// Mutex is a mutex of rank R. The zero value is an unlocked mutex. It must not be
// copied after first use.
type Mutex[R Rank] struct{ sync.Mutex }

// AssertNone panics if the calling goroutine holds a ranked mutex, in a build with
// the tag lockcheck. what names the operation that must hold none.
func AssertNone(what string) {}

// Checked reports whether this is a build with the tag lockcheck.
const Checked = false
