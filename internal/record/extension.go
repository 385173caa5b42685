// SPDX-License-Identifier: MIT

package record

import (
	"encoding/binary"
	"slices"
)

// The extensions that are parsed (IANA's TLS ExtensionType Values). The data of all
// others may be anything.
const (
	extensionServerName              = 0
	extensionSupportedGroups         = 10
	extensionPointFormats            = 11
	extensionSignatureAlgorithms     = 13
	extensionUseSRTP                 = 14
	extensionALPN                    = 16
	extensionExtendedMasterSecret    = 23
	extensionSupportedVersions       = 43
	extensionSignatureAlgorithmsCert = 50
	extensionConnectionID            = 54
	extensionRoutabilityCheck        = 61
	extensionRenegotiationInfo       = 0xff01
)

// usualExtensions is the number of extensions of a hello that are parsed without an
// allocation. Clients send fewer.
const usualExtensions = 32

// parseExtensions parses the extensions at the end of a hello, of which there may be
// none, to the last byte. It calls parse for each extension, and reports false if a call
// does, or if two extensions have the same type (RFC 5246 section 7.4.1.4).
func parseExtensions(b []byte, parse func(extensionType uint16, data []byte) bool) bool {
	if len(b) == 0 {
		return true
	}
	list, ok := ReadVector16(&b)
	if !ok || len(b) != 0 {
		return false
	}
	types := make([]uint16, 0, usualExtensions)
	for len(list) > 0 {
		if len(list) < 2 {
			return false
		}
		extensionType := binary.BigEndian.Uint16(list)
		list = list[2:]
		data, ok := ReadVector16(&list)
		if !ok || !parse(extensionType, data) {
			return false
		}
		types = append(types, extensionType)
	}
	return !hasDuplicate(types)
}

// hasDuplicate reports whether two of the types are equal. It sorts them: a ClientHello
// of 16 KB has room for 4000 empty extensions, too many to compare each with each.
func hasDuplicate(types []uint16) bool {
	slices.Sort(types)
	for i := 1; i < len(types); i++ {
		if types[i-1] == types[i] {
			return true
		}
	}
	return false
}

// parseExtension parses the data of an extension of a ClientHello to the last byte, and
// sets the fields of h that it is for.
func (h *ClientHello) parseExtension(extensionType uint16, data []byte) (ok bool) {
	switch extensionType {
	case extensionServerName:
		h.ServerName, ok = parseServerName(data)
		return ok
	case extensionExtendedMasterSecret: // RFC 7627 section 5.1
		h.ExtendedMasterSecret = true
		return len(data) == 0
	case extensionRoutabilityCheck: // RFC 9853
		h.RoutabilityCheck = true
		return len(data) == 0
	case extensionSupportedGroups, // RFC 8422 section 5.1.1
		extensionSignatureAlgorithms,     // RFC 5246 section 7.4.1.4.1
		extensionSignatureAlgorithmsCert: // RFC 8446 section 4.2.3
		_, ok = ReadUint16List(&data)
		return ok && len(data) == 0
	case extensionPointFormats: // RFC 8422 section 5.1.2
		formats, ok := ReadVector8(&data)
		return ok && len(formats) > 0 && len(data) == 0
	case extensionUseSRTP: // RFC 5764 section 4.1.1: the profiles, the MKI
		_, profilesOK := ReadUint16List(&data)
		_, mkiOK := ReadVector8(&data)
		return profilesOK && mkiOK && len(data) == 0
	case extensionALPN:
		_, ok = parseProtocols(data)
		return ok
	case extensionSupportedVersions: // RFC 8446 section 4.2.1
		h.versions, ok = ReadVector8(&data)
		return ok && len(h.versions) > 0 && len(h.versions)%2 == 0 && len(data) == 0
	case extensionConnectionID:
		h.ConnectionID, ok = parseConnectionID(data)
		h.HasConnectionID = true
		return ok
	case extensionRenegotiationInfo:
		// In an initial handshake renegotiated_connection is empty (RFC 5746
		// section 3.4).
		connection, ok := ReadVector8(&data)
		return ok && len(connection) == 0 && len(data) == 0
	default:
		return true
	}
}

// maxHostName bounds a name of a server_name extension, in bytes, as RFC 1035 section
// 2.3.4 bounds a DNS name.
const maxHostName = 255

// parseServerName parses the data of a server_name extension: a list of names, not more
// than one of a type (RFC 6066 section 3). It returns the DNS name, or nil if all names
// have other types.
func parseServerName(data []byte) (hostName []byte, ok bool) {
	const typeHostName = 0
	list, ok := ReadVector16(&data)
	if !ok || len(list) == 0 || len(data) != 0 {
		return nil, false
	}
	var seen [256]bool
	for len(list) > 0 {
		nameType := list[0]
		list = list[1:]
		name, ok := ReadVector16(&list)
		if !ok || len(name) == 0 || seen[nameType] {
			return nil, false
		}
		seen[nameType] = true
		if nameType == typeHostName {
			if len(name) > maxHostName || name[len(name)-1] == '.' {
				return nil, false
			}
			hostName = name
		}
	}
	return hostName, true
}

// parseConnectionID parses the data of a connection_id extension: one connection ID, which
// may be empty (RFC 9146 section 3).
func parseConnectionID(data []byte) (id []byte, ok bool) {
	id, ok = ReadVector8(&data)
	return id, ok && len(data) == 0
}

// parseProtocols parses the data of an ALPN extension: a list of protocol names, none of
// them empty (RFC 7301 section 3.1). It returns the list.
func parseProtocols(data []byte) (list []byte, ok bool) {
	list, ok = ReadVector16(&data)
	if !ok || len(list) == 0 || len(data) != 0 {
		return nil, false
	}
	for rest := list; len(rest) > 0; {
		if name, ok := ReadVector8(&rest); !ok || len(name) == 0 {
			return nil, false
		}
	}
	return list, true
}
