// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// extensionCase is an extension of a ClientHello.
type extensionCase struct {
	name          string
	extensionType uint16
	data          string
	ok            bool
}

// marshal returns the extension with its header.
func (e extensionCase) marshal() []byte {
	b := binary.BigEndian.AppendUint16(nil, e.extensionType)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(e.data))), e.data...)
}

// hostNameOf returns the data of a server_name extension with a host name of n bytes.
func hostNameOf(n int) string {
	b := binary.BigEndian.AppendUint16(nil, uint16(3+n))
	b = binary.BigEndian.AppendUint16(append(b, 0), uint16(n))
	return string(b) + strings.Repeat("a", n)
}

var extensionCases = []extensionCase{
	{"server_name: one name", extensionServerName, "\x00\x04\x00\x00\x01a", true},
	{"server_name: after a name of another type", extensionServerName, "\x00\x08\x01\x00\x01x\x00\x00\x01a", true},
	{"server_name: only a name of another type", extensionServerName, "\x00\x04\x01\x00\x01x", true},
	{"server_name: 255 bytes", extensionServerName, hostNameOf(255), true},
	{"server_name: 256 bytes", extensionServerName, hostNameOf(256), false},
	{"server_name: no data", extensionServerName, "", false},
	{"server_name: no name", extensionServerName, "\x00\x00", false},
	{"server_name: an empty name", extensionServerName, "\x00\x03\x00\x00\x00", false},
	{"server_name: two host names", extensionServerName, "\x00\x08\x00\x00\x01a\x00\x00\x01b", false},
	{"server_name: two names of another type", extensionServerName, "\x00\x08\x01\x00\x01a\x01\x00\x01b", false},
	{"server_name: a dot at the end", extensionServerName, "\x00\x05\x00\x00\x02a.", false},
	{"server_name: a name longer than the list", extensionServerName, "\x00\x04\x00\x00\x02a", false},
	{"server_name: a list longer than the data", extensionServerName, "\x00\x05\x00\x00\x01a", false},
	{"server_name: a byte after the list", extensionServerName, "\x00\x04\x00\x00\x01a\x00", false},
	{"server_name: a type alone", extensionServerName, "\x00\x01\x00", false},

	{"supported_groups: one", extensionSupportedGroups, "\x00\x02\x00\x1d", true},
	{"supported_groups: none", extensionSupportedGroups, "\x00\x00", false},
	{"supported_groups: no data", extensionSupportedGroups, "", false},
	{"supported_groups: one and a half", extensionSupportedGroups, "\x00\x03\x00\x1d\x00", false},
	{"supported_groups: longer than the data", extensionSupportedGroups, "\x00\x04\x00\x1d", false},
	{"supported_groups: a byte after the list", extensionSupportedGroups, "\x00\x02\x00\x1d\x00", false},

	{"signature_algorithms: one", extensionSignatureAlgorithms, "\x00\x02\x04\x03", true},
	{"signature_algorithms: none", extensionSignatureAlgorithms, "\x00\x00", false},
	{"signature_algorithms: one and a half", extensionSignatureAlgorithms, "\x00\x03\x04\x03\x04", false},
	{"signature_algorithms: bytes after the list", extensionSignatureAlgorithms, "\x00\x02\x04\x03\x05\x03", false},
	{"signature_algorithms_cert: one", extensionSignatureAlgorithmsCert, "\x00\x02\x04\x03", true},
	{"signature_algorithms_cert: none", extensionSignatureAlgorithmsCert, "\x00\x00", false},

	{"ec_point_formats: three", extensionPointFormats, "\x03\x00\x01\x02", true},
	{"ec_point_formats: none", extensionPointFormats, "\x00", false},
	{"ec_point_formats: no data", extensionPointFormats, "", false},
	{"ec_point_formats: longer than the data", extensionPointFormats, "\x02\x00", false},
	{"ec_point_formats: a byte after the list", extensionPointFormats, "\x01\x00\x00", false},

	{"use_srtp: a profile", extensionUseSRTP, "\x00\x02\x00\x01\x00", true},
	{"use_srtp: two profiles and an MKI", extensionUseSRTP, "\x00\x04\x00\x01\x00\x02\x01x", true},
	{"use_srtp: no profile", extensionUseSRTP, "\x00\x00\x00", false},
	{"use_srtp: half a profile", extensionUseSRTP, "\x00\x01\x00\x00", false},
	{"use_srtp: no MKI", extensionUseSRTP, "\x00\x02\x00\x01", false},
	{"use_srtp: MKI longer than the data", extensionUseSRTP, "\x00\x02\x00\x01\x01", false},
	{"use_srtp: a byte after the MKI", extensionUseSRTP, "\x00\x02\x00\x01\x00\x00", false},

	{"ALPN: two protocols", extensionALPN, "\x00\x08\x04coap\x02h2", true},
	{"ALPN: no protocol", extensionALPN, "\x00\x00", false},
	{"ALPN: an empty protocol", extensionALPN, "\x00\x04\x00\x02h2", false},
	{"ALPN: a protocol longer than the list", extensionALPN, "\x00\x03\x03h2", false},
	{"ALPN: a byte after the list", extensionALPN, "\x00\x03\x02h2\x00", false},

	{"extended_master_secret", extensionExtendedMasterSecret, "", true},
	{"extended_master_secret: data", extensionExtendedMasterSecret, "\x00", false},
	{"rrc", extensionRoutabilityCheck, "", true},
	{"rrc: data", extensionRoutabilityCheck, "\x00", false},

	{"renegotiation_info", extensionRenegotiationInfo, "\x00", true},
	{"renegotiation_info: no data", extensionRenegotiationInfo, "", false},
	{"renegotiation_info: of a renegotiation", extensionRenegotiationInfo, "\x0c123456789012", false},
	{"renegotiation_info: a byte after it", extensionRenegotiationInfo, "\x00\x00", false},

	{"connection_id: empty", extensionConnectionID, "\x00", true},
	{"connection_id: two bytes", extensionConnectionID, "\x02ab", true},
	{"connection_id: no data", extensionConnectionID, "", false},
	{"connection_id: longer than the data", extensionConnectionID, "\x02a", false},
	{"connection_id: a byte after it", extensionConnectionID, "\x01ab", false},

	{"supported_versions: two", extensionSupportedVersions, "\x04\xfe\xfc\xfe\xfd", true},
	{"supported_versions: none", extensionSupportedVersions, "\x00", false},
	{"supported_versions: no data", extensionSupportedVersions, "", false},
	{"supported_versions: one and a half", extensionSupportedVersions, "\x03\xfe\xfc\xfe", false},
	{"supported_versions: a byte after the list", extensionSupportedVersions, "\x02\xfe\xfc\xfe", false},

	{"session_ticket: empty", 35, "", true},
	{"session_ticket: a ticket", 35, "ticket", true},
	{"padding", 21, "\x00\x00\x00", true},
	{"key_share: anything", 51, "\xff", true},
	{"of an unknown type", 0xfafa, "anything", true},
}

func TestParseClientHelloChecksDataOfExtensions(t *testing.T) {
	for _, e := range extensionCases {
		_, ok := ParseClientHelloBody(clientHelloBody(e.marshal()))
		assert.Equal(t, e.ok, ok, e.name)
	}
}

func TestParseServerNameReturnsHostName(t *testing.T) {
	for data, want := range map[string]string{
		"\x00\x08\x01\x00\x01x\x00\x00\x01a": "a",
		"\x00\x08\x00\x00\x01a\x01\x00\x01x": "a",
		"\x00\x04\x01\x00\x01x":              "",
	} {
		name, ok := parseServerName([]byte(data))
		require.True(t, ok)
		assert.Equal(t, want, string(name))
	}
}

func TestParseClientHelloRejectsSecondExtensionOfType(t *testing.T) {
	empty := func(extensionType uint16) []byte { return extensionCase{extensionType: extensionType}.marshal() }
	apart := func(extensionType uint16, distance int) []byte {
		extensions := empty(extensionType)
		for i := range distance {
			extensions = append(extensions, empty(uint16(1000+i))...)
		}
		return append(extensions, empty(extensionType)...)
	}
	for _, extensionType := range []uint16{extensionExtendedMasterSecret, 35, 0xffff} {
		_, ok := ParseClientHelloBody(clientHelloBody(empty(extensionType)))
		require.True(t, ok)
		for _, distance := range []int{0, 1, usualExtensions, 4000} {
			extensions := apart(extensionType, distance)
			_, ok := ParseClientHelloBody(clientHelloBody(extensions))
			assert.False(t, ok, "type %d, %d extensions between", extensionType, distance)
			_, ok = ParseClientHelloBody(clientHelloBody(extensions[4:]))
			assert.True(t, ok, "the second one alone")
		}
	}
}

// TestParseClientHelloIsExact adds a byte to each end: of the extensions, and of the
// body.
func TestParseClientHelloIsExact(t *testing.T) {
	groups := extensionCase{extensionType: extensionSupportedGroups, data: "\x00\x02\x00\x1d"}.marshal()
	for n := 1; n < 4; n++ {
		_, ok := ParseClientHelloBody(clientHelloBody(append(bytes.Clone(groups), make([]byte, n)...)))
		assert.False(t, ok, "%d bytes of another extension", n)
		_, ok = ParseClientHelloBody(append(clientHelloBody(groups), make([]byte, n)...))
		assert.False(t, ok, "%d bytes after the extensions", n)
	}
}
