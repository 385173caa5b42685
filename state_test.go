// SPDX-License-Identifier: MIT

package dsm

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestStateStringIsRIOTsWord(t *testing.T) {
	for state, want := range map[State]string{
		NoSpace: "NO_SPACE", StateNone: "NONE", StateHandshake: "HANDSHAKE", StateEstablished: "ESTABLISHED", 7: "State(7)",
	} {
		assert.Equal(t, want, state.String())
	}
}
