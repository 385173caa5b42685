// SPDX-License-Identifier: MIT

package dtlstest

import "time"

// Timer says when a client repeats a flight to which it has no answer (RFC 6347 section
// 4.2.4.1). It begins anew with each flight.
type Timer struct {
	First time.Duration // wait before the first repetition; each further one is twice as long
	Max   time.Duration // the longest wait
	// Repeats is how often a flight is repeated. When the wait after the last
	// repetition is over the client gives the handshake up. 0: it never does.
	Repeats int
	// Answers reports whether the client also repeats its last flight when the server
	// repeats its own.
	Answers bool
}

// The timers of clients.
var (
	OpenSSLTimer = Timer{First: time.Second, Max: time.Minute, Repeats: 12}
	// MbedTLSTimer is that of mbedtls_ssl_conf_handshake_timeout's defaults.
	MbedTLSTimer = Timer{First: time.Second, Max: time.Minute, Repeats: 6, Answers: true}
	// DeviceTimer is that of RFC 7925 section 11.
	DeviceTimer = Timer{First: 9 * time.Second, Max: time.Minute, Answers: true}
)

// Timers are the timers by name.
var Timers = map[string]Timer{"OpenSSL": OpenSSLTimer, "Mbed TLS": MbedTLSTimer, "RFC 7925": DeviceTimer}

// Wait returns how long the client waits after it has repeated a flight n times.
func (t Timer) Wait(n int) time.Duration {
	wait := t.First
	for ; n > 0 && wait < t.Max; n-- {
		wait *= 2
	}
	return min(wait, t.Max)
}

// Sendings returns the times at which the client sends a flight, from the first one on,
// as long as it gets no answer within a time.
func (t Timer) Sendings(within time.Duration) []time.Duration {
	var times []time.Duration
	for at := time.Duration(0); at <= within; {
		times = append(times, at)
		n := len(times) - 1
		if t.Repeats > 0 && n >= t.Repeats {
			break
		}
		at += t.Wait(n)
	}
	return times
}
