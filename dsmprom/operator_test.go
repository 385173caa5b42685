// SPDX-License-Identifier: MIT

package dsmprom_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-dsm/dsm/internal/dashboard"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// panels returns the panels of the dashboard, as they are when nothing is chosen.
func panels(t *testing.T) []dashboard.Panel {
	t.Helper()
	text, err := os.ReadFile("grafana/dsm.json")
	require.NoError(t, err)
	panels, err := dashboard.Parse(text, map[string]string{"$instance": ".*", "$listener": ".*", "$__rate_interval": "1m"})
	require.NoError(t, err)
	return panels
}

var (
	metricName = regexp.MustCompile(`\bdsm_[a-z_]+`)
	// A matcher of a label with the words that it can have.
	matcher = regexp.MustCompile(`(dsm_[a-z_]+)\{[^}]*?\b(result|reason|cause|outcome|call|state)=~?"([^"]*)"`)
	// A place of a label in a legend, or in an annotation.
	placeholder = regexp.MustCompile(`\{\{ ?(?:\$labels\.)?([a-z_]+) ?\}\}`)
	histogramOf = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// requireKnown checks that the metrics of an expression exist, and the words that it asks for.
func requireKnown(t *testing.T, families map[string]*dto.MetricFamily, expr string) {
	t.Helper()
	names := metricName.FindAllString(expr, -1)
	require.NotEmpty(t, names, expr)
	for _, name := range names {
		family := families[name]
		if family == nil {
			family = families[histogramOf.ReplaceAllString(name, "")]
			require.NotNil(t, family, "no collector has %s", name)
			assert.Equal(t, dto.MetricType_HISTOGRAM, family.GetType(), name)
		} else {
			assert.NotEqual(t, dto.MetricType_HISTOGRAM, family.GetType(), name)
		}
	}
	for _, m := range matcher.FindAllStringSubmatch(expr, -1) {
		for _, word := range strings.Split(m[3], "|") {
			known := false
			for _, metric := range families[m[1]].GetMetric() {
				for _, label := range metric.GetLabel() {
					known = known || label.GetName() == m[2] && label.GetValue() == word
				}
			}
			assert.True(t, known, "%s has no %s=%q", m[1], m[2], word)
		}
	}
}

func allFamilies(t *testing.T) map[string]*dto.MetricFamily {
	registry := prometheus.NewPedanticRegistry()
	everything(registry)
	return gather(t, registry)
}

func TestDashboardAsksForMetricsThatExist(t *testing.T) {
	t.Parallel()
	families := allFamilies(t)
	titles := map[string]bool{}
	for _, p := range panels(t) {
		assert.NotEmpty(t, p.Title)
		assert.False(t, titles[p.Title], "two panels are called %q", p.Title)
		titles[p.Title] = true
		assert.NotEmpty(t, p.Description, p.Title)
		assert.Contains(t, []string{"short", "s", "ops", "Bps", "percentunit"}, p.Unit, p.Title)
		assert.NotEmpty(t, p.Queries, p.Title)
		for _, q := range p.Queries {
			requireKnown(t, families, q.Expr)
			assert.NotEmpty(t, q.Legend, p.Title)
			for _, label := range placeholder.FindAllStringSubmatch(q.Legend, -1) {
				assert.Contains(t, q.Expr, "by ("+label[1]+")", "the legend needs the label")
			}
		}
	}
	assert.GreaterOrEqual(t, len(titles), 12)
}

// TestDashboardHasItsVariables: data source, instance and listener can be chosen, and each panel
// has the data source that was chosen.
func TestDashboardHasItsVariables(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("grafana/dsm.json")
	require.NoError(t, err)
	type dataSource struct{ Type, UID string }
	var d struct {
		SchemaVersion int
		Templating    struct {
			List []struct{ Name, Type, AllValue string }
		}
		Panels []struct {
			ID         int
			DataSource dataSource
			GridPos    struct{ X, Y, W, H int }
			Targets    []struct {
				RefID      string
				DataSource dataSource
			}
		}
	}
	require.NoError(t, json.Unmarshal(text, &d))
	assert.GreaterOrEqual(t, d.SchemaVersion, 38, "Grafana 10")
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name+" "+v.Type+" "+v.AllValue)
	}
	assert.Equal(t, []string{"datasource datasource ", "instance query .*", "listener query .*"}, variables,
		".* has a listener without a label, too")
	chosen := dataSource{"prometheus", "${datasource}"}
	ids, places := map[int]bool{}, map[string]bool{}
	for _, p := range d.Panels {
		assert.Equal(t, chosen, p.DataSource)
		assert.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				place := fmt.Sprint(p.GridPos.X+x, p.GridPos.Y+y)
				assert.False(t, places[place], "two panels are at %s", place)
				places[place] = true
			}
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			assert.Equal(t, chosen, target.DataSource)
			assert.False(t, refs[target.RefID], "two targets are %s", target.RefID)
			refs[target.RefID] = true
		}
	}
}

// TestPrometheusParsesDashboard has promtool parse each expression, as that of a rule.
func TestPrometheusParsesDashboard(t *testing.T) {
	t.Parallel()
	promtool := dtlstest.NeedCommand(t, "promtool")
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	type group struct {
		Name  string `json:"name"`
		Rules []rule `json:"rules"`
	}
	all := group{Name: "dashboard"}
	for _, p := range panels(t) {
		for _, q := range p.Queries {
			all.Rules = append(all.Rules, rule{fmt.Sprintf("expr%d", len(all.Rules)), q.Expr})
		}
	}
	text, err := json.Marshal(map[string][]group{"groups": {all}}) // JSON is YAML
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "rules.yml")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	out, _ := dtlstest.RunProcess(t, promtool, "check", "rules", file)
	assert.Contains(t, out, fmt.Sprintf("SUCCESS: %d rules found", len(all.Rules)))
}

func TestAlertsAskForMetricsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("alerts.yml")
	require.NoError(t, err)
	rules := strings.Split(string(text), "- alert: ")[1:]
	assert.Len(t, rules, 5, "a person is woken by each: see whether a new one is worth that")
	families := allFamilies(t)
	for _, rule := range rules {
		name, _, _ := strings.Cut(rule, "\n")
		expr, annotations, ok := strings.Cut(rule, "for: ")
		require.True(t, ok, "%s waits for a time", name)
		requireKnown(t, families, expr)
		for _, needed := range []string{"severity: ", "summary: ", "description: "} {
			assert.Contains(t, annotations, needed, name)
		}
		for _, label := range placeholder.FindAllStringSubmatch(annotations, -1) {
			assert.Contains(t, []string{"instance", "store"}, label[1], name)
		}
	}
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	t.Parallel()
	promtool := dtlstest.NeedCommand(t, "promtool")
	out, _ := dtlstest.RunProcess(t, promtool, "check", "rules", "alerts.yml")
	assert.Contains(t, out, "SUCCESS: 5 rules found")
	dtlstest.RunProcess(t, promtool, "test", "rules", "alerts_test.yml")
	cases, err := os.ReadFile("alerts_test.yml")
	require.NoError(t, err)
	alerts, err := os.ReadFile("alerts.yml")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(alerts), -1) {
		assert.Contains(t, string(cases), "name: "+m[1]+"\n", "the alert has a test")
	}
}
