// SPDX-License-Identifier: MIT

package record

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestFatalAlertAndCloseNotifyEndSession(t *testing.T) {
	for _, tc := range []struct {
		payload         []byte
		want            Alert
		ok, endsSession bool
	}{
		{[]byte{1, 0}, Alert{LevelWarning, CloseNotify}, true, true},
		{[]byte{2, 0}, Alert{LevelFatal, CloseNotify}, true, true},
		{[]byte{2, 40}, Alert{LevelFatal, 40}, true, true},
		{[]byte{1, 100}, Alert{LevelWarning, NoRenegotiation}, true, false},
		{[]byte{3, 0}, Alert{}, false, false},
		{[]byte{1}, Alert{}, false, false},
		{[]byte{1, 0, 0}, Alert{}, false, false},
	} {
		a, ok := ParseAlert(tc.payload)
		assert.Equal(t, tc.want, a)
		assert.Equal(t, tc.ok, ok)
		if ok {
			assert.Equal(t, tc.endsSession, a.EndsSession())
			assert.Equal(t, tc.payload, a.Payload())
		}
	}
}
