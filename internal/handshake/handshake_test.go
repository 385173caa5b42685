// SPDX-License-Identifier: MIT

package handshake

import (
	"fmt"
	"testing"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
)

func TestVerdictOfRecordErrors(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]Verdict{
		nil: Accepted, record.ErrReplay: Replayed, record.ErrEpoch: WrongEpoch, record.ErrNotAuthentic: NotAuthentic,
		fmt.Errorf("wrapped: %w", record.ErrReplay): Replayed, record.ErrTooLong: NotAuthentic,
	} {
		assert.Equal(t, want, VerdictOf(err), "%v", err)
	}
}

func TestCloneOfIdentitySharesNoMemory(t *testing.T) {
	t.Parallel()
	who := Identity{PSKIdentity: []byte("device"), Certificates: [][]byte{{1, 2}, {3}}, Protocol: "coap"}
	clone := who.Clone()
	assert.Equal(t, who, clone)
	who.PSKIdentity[0], who.Certificates[0][0], who.Certificates[1] = 'x', 9, nil
	assert.Equal(t, Identity{PSKIdentity: []byte("device"), Certificates: [][]byte{{1, 2}, {3}}, Protocol: "coap"}, clone)
	assert.Equal(t, Identity{}, Identity{}.Clone())
}
