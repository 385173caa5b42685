// SPDX-License-Identifier: MIT

package page

import "time"

// Every bound, and what it bounds.
const (
	maxViewers   = 16               // streams at one time: each has a connection and a goroutine
	streamEvery  = 2 * time.Second  // between two events of a stream
	summaryEvery = 30 * time.Second // between two texts that a screen reader reads out
	writeTimeout = 10 * time.Second // of an event: a stalled viewer keeps its place no longer
	liveFor      = time.Second      // how long what was rendered is shown to everybody who asks

	sampleEvery = 10 * time.Second // between two samples of the counts
	maxSamples  = 361              // those of an hour, and the one before
	plotBars    = 60               // of each plot
	perBar      = (maxSamples - 1) / plotBars
	rateSamples = 6 // rates are of the last minute

	fieldEvery = 2 * time.Second // at least, from the end of a walk for the field to the next one
	fieldRest  = 100             // and as many times as long as the walk took: 1 % of a core
	fieldTime  = 5 * time.Second // of a walk for the field; what it has seen by then is shown
	fieldSlots = 1 << 24         // in the picture: a byte of memory each, and a byte of each picture

	pageSize  = 50               // sessions in a page of the list
	maxPages  = 200              // of the list: the walk keeps the sessions of all pages up to the one that is shown
	maxQuery  = 200              // bytes of what is searched for
	listRest  = 9                // times as long as a walk for the list took, until the next one begins: 10 % of a core
	listTime  = 2 * time.Second  // of a walk for the list
	listQueue = 4                // requests that wait for such a walk, the one that has it included
	listWait  = 15 * time.Second // of such a request

	walkPiece  = 4096 // sessions between two looks at the clock, each with a runtime.Gosched
	waitFactor = 6    // times the limit of a walk, for a process that has much else to do

	maxNetworks = 20
)
