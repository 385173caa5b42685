// SPDX-License-Identifier: MIT

// Package dsmdebug has a web page that shows a listener's operator what the listener does: how many
// sessions and handshakes it has, each slot by its state and the age of its last use, the sessions
// in the order of their use, which networks have handshakes in progress, how often handshakes,
// sessions, hellos and records have ended how in the last hour, and why clients were refused.
//
//	page := dsmdebug.New(listener)
//	defer page.Close()
//	http.Handle("/debug/dsm/", page)
//
// The page changes nothing. It is live by server-sent events, for at most 16 viewers at one time,
// and can be read without JavaScript, too. It needs nothing from other sites.
//
// # Who may see it
//
// The page shows the addresses and identities of clients, and asks for no password: put it behind
// authentication, as the example does, and behind TLS. Requests of other sites' pages are refused
// with 403 by the header Sec-Fetch-Site. Browsers send that over TLS and to loopback addresses only;
// over plain HTTP another site can have requests sent, and cannot read the responses. None of that
// helps against a name of an attacker's that leads to the address of the page (DNS rebinding), for a
// browser then takes the page for the attacker's own: authentication does, for the browser has no
// password for that name, and so does a check of the Host header. A loopback address alone is no
// protection.
//
// # What it costs
//
// All viewers share what is rendered, which is done at most once a second. The picture of the slots
// takes a walk over all sessions, in a goroutine of its own. The next one begins at the earliest 100
// times as long after its end as it has worked, at least 2 seconds, and the page says how old the
// picture is. To draw it in both colour schemes takes about as long again. While nobody looks there
// is no walk. The picture is of what a walk has found in 5 seconds of work, or in 30 seconds if other
// goroutines keep the processors busy; the page says so if that is not all.
//
// The first page of the list of sessions takes a walk over a few of them, or as many more as other
// listeners have in a shared table. Requests share it for nine times as long as it took. Any other
// page of the list takes a walk of its own: one at a time, with a pause of nine times as long after
// each. Requests that would have to wait for more than 15 seconds, or behind three others, get 503.
// A walk takes the locks of the listener for a few sessions at a time.
//
// Handlers have no bound for how long a client takes to read a response, except of events. Give the
// http.Server a WriteTimeout; streams of events outlive it.
//
// Slots that other listeners have in a Config.Table that is shared look free.
package dsmdebug
