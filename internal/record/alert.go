// SPDX-License-Identifier: MIT

package record

// Alert is an alert (RFC 5246 section 7.2).
type Alert struct{ Level, Description uint8 }

// Levels, and the descriptions that we send or look for.
const (
	LevelWarning = 1
	LevelFatal   = 2

	CloseNotify     = 0
	NoRenegotiation = 100
)

// ParseAlert reads the payload of an opened record of TypeAlert.
func ParseAlert(payload []byte) (Alert, bool) {
	if len(payload) != 2 || payload[0] != LevelWarning && payload[0] != LevelFatal {
		return Alert{}, false
	}
	return Alert{payload[0], payload[1]}, true
}

// Ends is whether the sender says that the session is over.
func (a Alert) EndsSession() bool { return a.Level == LevelFatal || a.Description == CloseNotify }

// Payload is what a record carries for the alert.
func (a Alert) Payload() []byte { return []byte{a.Level, a.Description} }
