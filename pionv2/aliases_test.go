// SPDX-License-Identifier: MIT

package pionv2

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEachNameHasAnAlias: what package dtlsserver exports has a name in aliases.go, except for what
// pion v2 has not got and what this package has itself.
func TestEachNameHasAnAlias(t *testing.T) {
	t.Parallel()
	aliases, err := os.ReadFile("aliases.go")
	require.NoError(t, err)
	files, err := filepath.Glob("../dtlsserver/*.go")
	require.NoError(t, err)
	names := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, name := range packageNames(parsed) {
			switch name {
			case "Listen", "NewListener", "AddressChange", "VerifyAddress", "TrustAddress", "RefuseAddress":
				continue
			}
			if ast.IsExported(name) {
				names++
				assert.Contains(t, string(aliases), "dtlsserver."+name, "%s", file)
			}
		}
	}
	assert.Greater(t, names, 50)
}

// packageNames returns the names that a file declares at the level of the package.
func packageNames(file *ast.File) (names []string) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					for _, n := range s.Names {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}
