// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPackageImportsNoPion keeps the server independent of pion and of its major
// versions, which are the adapters' to know: the files import nothing of pion's.
func TestPackageImportsNoPion(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	checked := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		checked++
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range parsed.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			assert.False(t, strings.HasPrefix(path, "github.com/pion/"), "%s imports %s", file, path)
			assert.NotContains(t, path, "/dsm/pionv", "%s imports an adapter", file)
		}
	}
	assert.Positive(t, checked)
}

// pionRoot matches the root package of a major version of pion/dtls.
var pionRoot = regexp.MustCompile(`^github\.com/pion/dtls(/v[0-9]+)?$`)

// TestPackageDependsOnNoPionRoot looks at everything that is compiled into the package:
// nothing of it does a handshake.
func TestPackageDependsOnNoPionRoot(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	assert.Contains(t, deps, "github.com/go-dsm/dsm/internal/record", "the list is of this package")
	for _, path := range deps {
		assert.False(t, pionRoot.MatchString(path), path)
		assert.NotContains(t, path, "/dsm/pionv", "an adapter")
	}
	assert.True(t, pionRoot.MatchString("github.com/pion/dtls/v2"))
	assert.True(t, pionRoot.MatchString("github.com/pion/dtls"))
	assert.False(t, pionRoot.MatchString("github.com/pion/dtls/v2/pkg/crypto/prf"))
}
