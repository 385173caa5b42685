// SPDX-License-Identifier: MIT

package record

// Alert is an alert message (RFC 5246 section 7.2).
type Alert struct{ Level, Description uint8 }

// The alert levels, and the descriptions that a server sends or has to recognize.
const (
	LevelWarning = 1
	LevelFatal   = 2

	CloseNotify        = 0
	BadRecordMAC       = 20
	HandshakeFailure   = 40
	AccessDenied       = 49
	DecryptError       = 51
	ProtocolVersion    = 70
	InternalError      = 80
	NoRenegotiation    = 100
	UnknownPSKIdentity = 115
)

// ParseAlert parses the payload of an opened record of TypeAlert.
func ParseAlert(payload []byte) (Alert, bool) {
	if len(payload) != 2 || payload[0] != LevelWarning && payload[0] != LevelFatal {
		return Alert{}, false
	}
	return Alert{payload[0], payload[1]}, true
}

// EndsSession reports whether the alert ends the session: a fatal alert or
// close_notify.
func (a Alert) EndsSession() bool { return a.Level == LevelFatal || a.Description == CloseNotify }

// Payload returns the payload of a record with the alert.
func (a Alert) Payload() []byte { return []byte{a.Level, a.Description} }
