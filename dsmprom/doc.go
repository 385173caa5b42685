// SPDX-License-Identifier: MIT

// Package dsmprom gives the counts of a DTLS server to Prometheus, as collectors of a
// listener, a table, a store of sessions for resumption, and of what was restored. Package
// redisprom has that of a redisstore.Backend.
//
//	registry.MustRegister(
//		dsmprom.NewListenerCollector(listener),
//		dsmprom.NewStoreCollector(store),
//	)
//
// A scrape calls Stats once for each collector. Between scrapes a collector does nothing. All
// collectors are safe for concurrent use.
//
// The words of the labels result, reason and cause are those of dtlsserver.Stats.Counts: the
// same as in logs.
//
// # Several listeners
//
// Two listeners have the same metrics, so each needs a label that says which one it is:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"listener": "coap"}, registry).
//		MustRegister(dsmprom.NewListenerCollector(listener))
//
// Without the label the registry refuses the second one. The dashboard in grafana/dsm.json and
// the rules in alerts.yml work with and without it.
package dsmprom
