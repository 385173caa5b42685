// SPDX-License-Identifier: MIT

// Package dtlstest has what the tests of all modules of this repository share: an
// in-memory network, clients that can die, clients that back off, floods of strangers,
// forged records, certificates, foreign clients as processes, recorded handshakes, and
// the check for leaked goroutines.
//
// It knows no server. A test passes its listener as a net.Listener, a net.Addr or a
// net.PacketConn, so that the internal tests of every package can import this one.
//
// Functions that take a testing.TB end the test when something fails. As with
// testing.TB.FailNow, they must run in the goroutine of the test. Those without one
// return an error and may run anywhere.
package dtlstest
