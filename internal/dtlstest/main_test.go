// SPDX-License-Identifier: MIT

package dtlstest

import (
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv(leakForever) != "" {
		leakPatience = 50 * time.Millisecond
	}
	Main(m)
}
