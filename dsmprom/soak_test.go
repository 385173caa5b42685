// SPDX-License-Identifier: MIT

package dsmprom_test

import (
	"context"
	crand "crypto/rand"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dsmprom"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var soakFor = flag.Duration("soak", 2*time.Second, "how long TestSumsHoldInEachScrape takes at least")

// scrape is what a Prometheus server reads.
type scrape map[string]*dto.MetricFamily

func scrapeFrom(url string) (scrape, error) {
	response, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the scrape fails: %s", response.Status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	return parser.TextToMetricFamilies(response.Body)
}

// sum returns the sum of a metric over its labels. With values, it is only of these labels'
// values.
func (s scrape) sum(name string, values ...string) (sum float64) {
	for _, m := range s[name].GetMetric() {
		if len(values) > 0 && (len(m.GetLabel()) != 1 || m.GetLabel()[0].GetValue() != values[0]) {
			continue
		}
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return sum
}

// check checks what is documented of a scrape, and of it and the one before.
func (s scrape) check(t *testing.T, before scrape) {
	completed, ended := s.sum("dsm_handshakes_total", "completed"), s.sum("dsm_sessions_ended_total")
	assert.Equal(t, s.sum("dsm_handshakes_started_total"), s.sum("dsm_handshakes_in_progress")+s.sum("dsm_handshakes_total"))
	assert.Equal(t, completed+s.sum("dsm_sessions_restored_total"), s.sum("dsm_sessions")+ended)
	assert.LessOrEqual(t, s.sum("dsm_sessions"), s.sum("dsm_session_slots"))
	assert.LessOrEqual(t, s.sum("dsm_handshakes_in_progress"), s.sum("dsm_handshake_slots"))
	assert.LessOrEqual(t, s.sum("dsm_sessions_resumed_total"), completed)
	assert.LessOrEqual(t, s.sum("dsm_client_round_trip_seconds"), s.sum("dsm_handshakes_started_total"))
	assert.LessOrEqual(t, s.sum("dsm_handshake_duration_seconds"), completed)
	assert.LessOrEqual(t, s.sum("dsm_session_age_seconds"), ended)
	assert.LessOrEqual(t, s.sum("dsm_session_idle_seconds"), ended)
	assert.Equal(t, s.sum("dsm_table_sessions_stored_total"), s.sum("dsm_table_sessions")+s.sum("dsm_table_sessions_removed_total")+s.sum("dsm_table_sessions_evicted_total"))
	assert.LessOrEqual(t, s.sum("dsm_table_sessions"), s.sum("dsm_table_slots"))
	assert.Equal(t, s.sum("dsm_resume_calls_total"), s.sum("dsm_resume_outcomes_total"))
	for name, family := range s {
		if family.GetType() == dto.MetricType_GAUGE {
			continue
		}
		assert.GreaterOrEqual(t, s.sum(name), before.sum(name), "%s only grows", name)
		for _, m := range family.GetMetric() {
			if h := m.GetHistogram(); h != nil {
				below := uint64(0)
				for _, b := range h.GetBucket() {
					assert.GreaterOrEqual(t, b.GetCumulativeCount(), below, name)
					below = b.GetCumulativeCount()
				}
				assert.Equal(t, h.GetSampleCount(), below, "the last bucket of %s has all", name)
			}
		}
	}
}

// visitors are the clients of the soak. Each comes again and again.
type visitors struct {
	server net.Addr
	hello  dtlstest.ClientHello
}

// client connects, talks, and closes its session or dies. Then it comes back, often on the same
// port, and resumes its session if that is still there. One with a wrong key gets nowhere.
func (v visitors) client(ctx context.Context, key string) {
	config := dtlstest.PSKConfig(key)
	config.FlightInterval = 20 * time.Millisecond
	config.SessionStore = &dtlstest.ClientStore{}
	config.ConnectContextMaker = func() (context.Context, func()) { return context.WithTimeout(ctx, 300*time.Millisecond) }
	var from *net.UDPAddr
	for ctx.Err() == nil {
		if time.Now().UnixMilli()%1000 < 250 { // all rest at the same time, so that sessions expire
			time.Sleep(10 * time.Millisecond)
			continue
		}
		c, err := v.dial(from, config)
		from = nil
		if err != nil {
			continue
		}
		talk(c)
		if rand.IntN(3) > 0 {
			from = c.Addr()
		}
		if rand.IntN(3) == 0 {
			_ = c.Close()
		}
		c.Kill()
	}
}

// dial connects. On an earlier port there are records of the earlier session: pion keeps those
// that come before the new keys in a buffer that another client reads into.
func (v visitors) dial(from *net.UDPAddr, config *dtls.Config) (*dtlstest.Client, error) {
	socket, err := dtlstest.DialUDP(from, v.server.(*net.UDPAddr))
	if err != nil {
		return nil, err
	}
	transport, begun := dtlstest.NewTransport(socket), false
	transport.SetIn(func(datagram []byte) bool { // pion reads in one goroutine
		for _, r := range dtlstest.Records(datagram) {
			begun = begun || r.Epoch == 0 && r.Type == record.TypeChangeCipherSpec
			if r.Epoch > 0 {
				return begun
			}
		}
		return true
	})
	return dtlstest.Handshake(transport, config)
}

func talk(c *dtlstest.Client) {
	buf := make([]byte, 100)
	for range rand.IntN(20) {
		if _, err := c.Write([]byte("hello")); err != nil {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = c.Read(buf)
	}
}

// strangers send bursts of ClientHellos that no handshake follows, each from another port.
func (v visitors) strangers(ctx context.Context) {
	from := dtlstest.OwnAddr()
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for burst := 0; ; burst++ {
		size := 3 // they find room, and their handshakes time out
		if burst%4 == 0 {
			size = 60 // they displace each other
		}
		for range size {
			_, _ = crand.Read(v.hello.Random[:])
			if c, err := net.DialUDP("udp", from, v.server.(*net.UDPAddr)); err == nil {
				_, _ = c.Write(v.hello.Datagram())
				_ = c.Close()
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// move takes sessions out of the listener and puts them back, over and over.
func move(ctx context.Context, l *dtlsserver.Listener) {
	for ticker := time.NewTicker(20 * time.Millisecond); ; {
		for c := range l.Sessions() {
			if state, err := c.Detach(); err == nil {
				_, _ = l.Attach(state) // its peer may have another session now
			}
			break
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			ticker.Stop()
			return
		}
	}
}

// startServer opens a small listener that echoes, and registers its metrics.
func startServer(t *testing.T) (*dtlsserver.Listener, prometheus.Gatherer) {
	store, err := resume.New(resume.Config{})
	require.NoError(t, err)
	table, err := dsm.New[*dtlsserver.Peer](38)
	require.NoError(t, err)
	l, err := pionv2.Listen("udp", dtlstest.OwnAddr().String(), &dtls.Config{
		CipherSuites: dtlstest.PSKConfig("").CipherSuites, FlightInterval: 20 * time.Millisecond,
	}, dtlsserver.Config{
		Sessions: 6, Handshakes: 32, HandshakesPerSource: -1, HandshakeTimeout: 400 * time.Millisecond, IdleTimeout: 100 * time.Millisecond,
		Resumption: store, Table: table,
		PSK: func(context.Context, dtlsserver.PSKRequest) ([]byte, error) { return []byte("key"), nil },
	})
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = l.Serve(context.Background(), func(c *dtlsserver.Conn, datagram []byte) {
			_, _ = c.Write(datagram)
			if rand.IntN(50) == 0 {
				_ = c.Close()
			}
		})
	}()
	t.Cleanup(func() {
		assert.NoError(t, l.Close())
		<-served
	})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(dsmprom.NewListenerCollector(l), dsmprom.NewTableCollector(table), dsmprom.NewStoreCollector(store))
	return l, registry
}

// happens is what must have happened in the soak: it would show little otherwise.
var happens = []struct{ metric, word string }{
	{"dsm_handshakes_total", "completed"}, {"dsm_handshakes_total", "timed_out"}, {"dsm_handshakes_total", "displaced"},
	{"dsm_sessions_ended_total", "closed_by_us"}, {"dsm_sessions_ended_total", "closed_by_peer"}, {"dsm_sessions_ended_total", "evicted"},
	{"dsm_sessions_ended_total", "expired"}, {"dsm_sessions_ended_total", "replaced"}, {"dsm_sessions_ended_total", "detached"},
	{"dsm_records_dropped_total", "wrong_key"}, {"dsm_hellos_refused_total", "no_room"}, {"dsm_resume_outcomes_total", "hit"},
}

// missing returns what has not happened.
func (s scrape) missing() (missing []string) {
	for _, h := range happens {
		if s.sum(h.metric, h.word) == 0 {
			missing = append(missing, h.metric+" "+h.word)
		}
	}
	return missing
}

// TestSumsHoldInEachScrape scrapes while sessions come and go in every way.
func TestSumsHoldInEachScrape(t *testing.T) {
	l, registry := startServer(t)
	url := serve(t, registry)
	hello, err := dtlstest.RecordHello(dtlstest.PSKConfig("key"))
	require.NoError(t, err)
	v := visitors{l.Addr(), hello}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { stop(); wg.Wait() })
	for range 8 {
		wg.Go(func() { v.client(ctx, "key") })
	}
	wg.Go(func() { v.client(ctx, "another key") })
	wg.Go(func() { v.strangers(ctx) })
	wg.Go(func() { move(ctx, l) })

	var last scrape
	scrapes, end := 0, time.Now().Add(*soakFor)
	t.Cleanup(func() { assert.Empty(t, last.missing()) })
	dtlstest.Eventually(t, func() bool {
		for scrapes++; !t.Failed(); scrapes++ {
			s, err := scrapeFrom(url)
			require.NoError(t, err)
			s.check(t, last)
			last = s
			if time.Now().After(end) {
				break
			}
		}
		return t.Failed() || len(last.missing()) == 0
	}, "everything happens")
	stop()
	wg.Wait()

	// All sessions expire. Then the histograms have caught up.
	dtlstest.Eventually(t, func() bool {
		last, err = scrapeFrom(url)
		require.NoError(t, err)
		ended := last.sum("dsm_sessions_ended_total")
		return last.sum("dsm_sessions")+last.sum("dsm_handshakes_in_progress")+last.sum("dsm_table_sessions") == 0 &&
			last.sum("dsm_session_age_seconds") == ended && last.sum("dsm_session_idle_seconds") == ended &&
			last.sum("dsm_handshake_duration_seconds")+last.sum("dsm_sessions_ended_total", "refused") == last.sum("dsm_handshakes_total", "completed")
	}, "no session is left")
	t.Logf("%d scrapes, %+v", scrapes, l.Stats())
}
