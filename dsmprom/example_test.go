// SPDX-License-Identifier: MIT

package dsmprom_test

import (
	"bufio"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/go-dsm/dsm/dsmprom"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Two listeners of a server share the sessions that can be resumed.
func Example() {
	store, err := resume.New(resume.Config{})
	if err != nil {
		log.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(dsmprom.NewStoreCollector(store))
	for name, slots := range map[string]int{"coap": 1000, "syslog": 50} {
		listener, err := pionv2.Listen("udp", "127.0.0.1:0", &dtls.Config{
			PSK:          func([]byte) ([]byte, error) { return []byte("secret secret 12"), nil },
			CipherSuites: []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM_8},
		}, pionv2.Config{Sessions: slots, Resumption: store})
		if err != nil {
			log.Fatal(err)
		}
		defer listener.Close()
		prometheus.WrapRegistererWith(prometheus.Labels{"listener": name}, registry).
			MustRegister(dsmprom.NewListenerCollector(listener))
	}

	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer server.Close()
	for _, line := range scrapeLines(server.URL, "dsm_session_slots", "dsm_handshakes_started_total", "dsm_resume_calls_total") {
		fmt.Println(line)
	}
	// Output:
	// dsm_handshakes_started_total{listener="coap"} 0
	// dsm_handshakes_started_total{listener="syslog"} 0
	// dsm_resume_calls_total{call="delete"} 0
	// dsm_resume_calls_total{call="get"} 0
	// dsm_resume_calls_total{call="identity_check"} 0
	// dsm_resume_calls_total{call="identity_revocation"} 0
	// dsm_resume_calls_total{call="put"} 0
	// dsm_session_slots{listener="coap"} 1000
	// dsm_session_slots{listener="syslog"} 50
}

// scrapeLines returns the lines of a scrape that are of some metrics.
func scrapeLines(url string, metrics ...string) (lines []string) {
	response, err := http.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
		for _, metric := range metrics {
			if strings.HasPrefix(scanner.Text(), metric+"{") {
				lines = append(lines, scanner.Text())
			}
		}
	}
	return lines
}
