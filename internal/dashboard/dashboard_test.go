// SPDX-License-Identifier: MIT

package dashboard_test

import (
	"testing"

	"github.com/go-dsm/dsm/internal/dashboard"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const example = `{"title": "all", "panels": [{"id": 1, "title": "Sessions", "description": "How many.",
	"fieldConfig": {"defaults": {"unit": "short"}},
	"targets": [{"legendFormat": "{{job}}", "expr": "rate(a{b=\"$b\"}[$window])"}, {"expr": "c"}]}]}`

func TestParseReplacesVariables(t *testing.T) {
	t.Parallel()
	panels, err := dashboard.Parse([]byte(example), map[string]string{"$b": ".*", "$window": "5m"})
	require.NoError(t, err)
	assert.Equal(t, []dashboard.Panel{{
		Title: "Sessions", Description: "How many.", Unit: "short",
		Queries: []dashboard.Query{{Legend: "{{job}}", Expr: `rate(a{b=".*"}[5m])`}, {Expr: "c"}},
	}}, panels)
}

func TestParseRefusesUnknownVariable(t *testing.T) {
	t.Parallel()
	_, err := dashboard.Parse([]byte(example), map[string]string{"$b": ".*"})
	assert.ErrorContains(t, err, `panel "Sessions" has an unknown variable`)
	_, err = dashboard.Parse([]byte("{"), nil)
	assert.Error(t, err)
}
