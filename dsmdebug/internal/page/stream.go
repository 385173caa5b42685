// SPDX-License-Identifier: MIT

package page

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"time"
)

// event is what a stream says, as JSON.
type event struct {
	Parts   map[string]template.HTML `json:"parts,omitempty"` // those that have changed
	Field   *fieldPicture            `json:"field,omitempty"` // if it has changed
	Summary string                   `json:"summary,omitempty"`
}

// serveEvents sends what changes as server-sent events, until the client has gone, stalls for
// writeTimeout, or the Page is closed.
func (p *Page) serveEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	// Otherwise nginx as a proxy would keep the events until it has many.
	w.Header().Set("X-Accel-Buffering", "no")
	if r.ProtoMajor == 1 { // otherwise the deadline is of the stream, and others use the connection
		w.Header().Set("Connection", "close") // or it would keep the stream's write deadline
	}
	if r.Method == http.MethodHead {
		return
	}
	select {
	case p.viewers <- struct{}{}:
		defer func() { <-p.viewers }()
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, fmt.Sprintf("%d viewers have this page open already: reload it instead", maxViewers), http.StatusServiceUnavailable)
		return
	}
	ticker := time.NewTicker(streamEvery)
	defer ticker.Stop()
	control := http.NewResponseController(w)
	var last *live
	summarized := time.Now() // the page itself has a summary
	for {
		now := p.live.get(p)
		e := event{Parts: now.changed(last)}
		if last == nil || now.Field != last.Field {
			e.Field = &now.Field
		}
		if time.Since(summarized) >= summaryEvery {
			e.Summary, summarized = now.Summary, time.Now()
		}
		last = now
		data, err := json.Marshal(e)
		if err != nil {
			panic("dsmdebug: " + err.Error()) // an event has only strings and numbers
		}
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // a ResponseWriter without it has the server's, or none
		if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		case <-p.ctx.Done():
			return
		}
	}
}
