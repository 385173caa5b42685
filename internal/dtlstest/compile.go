// SPDX-License-Identifier: MIT

package dtlstest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// CompileC compiles a C program that needs a library, and returns its path. header is one
// of the library's, such as "mbedtls/ssl.h", and libraries are the names that the linker
// knows, without -l. If the compiler or the header is not installed, it skips the test, or
// fails it in CI. The program is removed when the test ends.
func CompileC(t testing.TB, source, header string, libraries ...string) string {
	t.Helper()
	cc := NeedCommand(t, "cc", "gcc", "clang")
	check := exec.Command(cc, "-E", "-x", "c", "-")
	check.Stdin = strings.NewReader("#include <" + header + ">\n")
	if err := check.Run(); err != nil {
		missing(t, "the header "+header)
	}
	program := filepath.Join(t.TempDir(), strings.TrimSuffix(filepath.Base(source), ".c"))
	args := []string{"-Wall", "-Wextra", "-Werror", "-o", program, source}
	for _, library := range libraries {
		args = append(args, "-l"+library)
	}
	RunProcess(t, cc, args...)
	return program
}
