// SPDX-License-Identifier: MIT

package dtlstest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCompileC(t *testing.T) {
	NeedCommand(t, "cc", "gcc", "clang")
	source := filepath.Join(t.TempDir(), "program.c")
	require.NoError(t, os.WriteFile(source, []byte("#include <math.h>\n#include <stdio.h>\n"+
		"int main(int argc, char **argv) { (void)argv; return puts(floor(argc + .5) == 1 ? \"compiled\" : \"\") < 0; }\n"), 0o600))
	out, _ := RunProcess(t, CompileC(t, source, "math.h", "m"))
	assert.Equal(t, "compiled", out)

	t.Setenv("CI", "")
	r := &recorder{TB: t}
	r.record(func() { CompileC(r, source, "no/such.h") })
	assert.Equal(t, "the header no/such.h is not installed: not tested against it", r.skipped)
	t.Setenv("CI", "true")
	r = &recorder{TB: t}
	r.record(func() { CompileC(r, source, "no/such.h") })
	assert.Equal(t, "the header no/such.h is not installed, and CI must have it", r.failed)
	r = &recorder{TB: t}
	r.record(func() { CompileC(r, source+".missing", "math.h") })
	assert.Contains(t, r.failed, "program.c.missing")
}
