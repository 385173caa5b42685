// SPDX-License-Identifier: MIT

package interop

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	v2 "github.com/pion/dtls/v2"
	v3 "github.com/pion/dtls/v3"
	v4 "github.com/pion/dtls/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// idClient is a client of pion that offers a connection ID (RFC 9146).
type idClient struct {
	name string
	id   string // its own, which the server is to write; empty: it wants none
	rrc  bool   // it offers return-routability checks (RFC 9853)
	// resumes says that it can resume a session with an ID. In an abbreviated handshake pion
	// v3's client (flight5bhandler.go) sends its Finished in a record without the server's ID,
	// which is dropped, by its own server too.
	resumes bool
	dial    dialer
}

// idClients returns clients that have no session to resume yet.
func idClients() []idClient {
	const id = "client's"
	var clients []idClient
	for _, own := range []string{id, ""} {
		name := ""
		if own == "" {
			name = ", only to send"
		}
		clients = append(clients, idClient{"pion v3" + name, own, false, false,
			func(ctx context.Context, transport *dtlstest.Transport, c credentials) (net.Conn, exporter, uint16, error) {
				return dialV3With(ctx, transport, c, v3.WithConnectionIDGenerator(func() []byte { return []byte(own) }))
			}})
		for _, policy := range []v4.CIDPathMigrationPolicy{v4.CIDPathMigrationReject, v4.CIDPathMigrationRRC} {
			rrc, storeV4 := policy == v4.CIDPathMigrationRRC, &v4Store{}
			name := "pion v4" + name
			if rrc {
				name += ", return-routability checks"
			}
			clients = append(clients, idClient{name, own, rrc, true,
				func(ctx context.Context, transport *dtlstest.Transport, c credentials) (net.Conn, exporter, uint16, error) {
					return dialV4With(ctx, transport, c, v4.WithConnectionID(func() []byte { return []byte(own) }, policy), v4.WithSessionStore(storeV4))
				}})
		}
	}
	return clients
}

// negotiated is what a client and a server have said of connection IDs, and how many of
// their protected records had one.
type negotiated struct {
	mu             sync.Mutex
	offer          record.ClientHello // the last one
	answer         record.ServerHello
	withID, others map[bool]int // by fromClient
	faults         []string
}

func (n *negotiated) watch(transport *dtlstest.Transport) {
	n.withID, n.others = map[bool]int{}, map[bool]int{}
	transport.SetOut(func(datagram []byte) bool { n.note(true, datagram); return true })
	transport.SetIn(func(datagram []byte) bool { n.note(false, datagram); return true })
}

func (n *negotiated) note(fromClient bool, datagram []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for rest := datagram; len(rest) > 0; {
		id := string(n.offer.ConnectionID)
		if fromClient {
			id = n.answer.ConnectionID
		}
		r, next, fault := record.NextWithID(rest, len(id))
		switch {
		case fault != record.NoFault:
			n.faults = append(n.faults, fmt.Sprintf("from client: %t; fault %v: %x", fromClient, fault, rest))
			return
		case r.Type == record.TypeConnectionID && string(r.ConnectionID) != id:
			n.faults = append(n.faults, fmt.Sprintf("from client: %t; ID %x instead of %x", fromClient, r.ConnectionID, id))
		case r.Type == record.TypeConnectionID:
			n.withID[fromClient]++
		case r.Epoch > 0:
			n.others[fromClient]++
		}
		if hello, ok := record.ParseClientHello(r); ok && fromClient {
			n.offer = hello
		}
		if m, _, ok := record.NextHandshake(r.Fragment()); ok && r.Epoch == 0 && r.Type == record.TypeHandshake && !fromClient && m.Type == record.MessageServerHello {
			n.answer, _ = record.ParseServerHello(m.Body)
		}
		rest = next
	}
}

// A client that offers a connection ID is given one, and each protected record has the ID
// that its receiver has asked for, in full and in abbreviated handshakes. Pion v2 knows
// nothing of IDs, and the clients do without.
func TestConnectionID(t *testing.T) { withEachAdapter(t, testConnectionID) }

func testConnectionID(t *testing.T, on adapter) {
	p := newParties(t)
	for name, by := range map[string]struct {
		config *v2.Config
		with   credentials
	}{
		"key":          {pskServer(gcm), pskClient(gcm)},
		"certificates": {p.config(v2.RequireAndVerifyClientCert), credentials{roots: p.server.Pool, cert: &p.client.Certificate}},
	} {
		for _, with := range idClients() {
			t.Run(with.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				store, err := resume.New(resume.Config{})
				require.NoError(t, err)
				config := *by.config
				s := serve(t, on, &config, dtlsserver.Config{Resumption: store}, "")
				ids := map[string]bool{}
				for visit := range 3 {
					ids[visitWithID(t, s, with, by.with, with.resumes && visit > 0)] = true
				}
				if on.connectionIDs {
					assert.Len(t, ids, 3, "each session has an ID of its own")
				}
			})
		}
	}
}

// visitWithID makes the visit of a client, and returns the connection ID that it is given.
func visitWithID(t *testing.T, s *server, with idClient, c credentials, resumed bool) string {
	t.Helper()
	transport, seen := newTransport(t, s.Addr(), nil), &negotiated{}
	seen.watch(transport)
	client := newClient(t, transport, c, with.dial)
	for n := range 3 {
		dtlstest.Echo(t, client, fmt.Sprint("line ", n))
	}
	session := s.next(t)
	assert.Equal(t, resumed, session.Resumed())
	require.NoError(t, client.Close())
	require.Equal(t, io.EOF, dtlstest.Receive(t, session.readEnds))

	seen.mu.Lock()
	defer seen.mu.Unlock()
	given := s.on.connectionIDs
	assert.Empty(t, seen.faults)
	assert.True(t, seen.offer.HasConnectionID)
	assert.Equal(t, with.rrc, seen.offer.RoutabilityCheck)
	assert.Equal(t, given, seen.answer.HasConnectionID)
	assert.Equal(t, given && with.rrc, seen.answer.RoutabilityCheck)
	assert.Equal(t, given, seen.answer.ConnectionID != "")
	assertRecords(t, seen, true, given)
	assertRecords(t, seen, false, given && with.id != "")
	return seen.answer.ConnectionID
}

// assertRecords checks that all protected records of a side have an ID, or that none has.
func assertRecords(t *testing.T, seen *negotiated, fromClient, withID bool) {
	t.Helper()
	used, unused := seen.others, seen.withID
	if withID {
		used, unused = unused, used
	}
	assert.GreaterOrEqual(t, used[fromClient], 4, "Finished and three lines")
	assert.Zero(t, unused[fromClient])
}
