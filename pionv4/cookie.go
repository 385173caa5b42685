// SPDX-License-Identifier: MIT

package pionv4

import (
	"reflect"
	"unsafe"

	"github.com/pion/dtls/v4"
)

// cookieOf returns where pion has the cookie that it expects of the client, in a handshake that
// has been started and has got no ClientHello. It returns nil if this version of pion has no such
// place.
//
// Pion has no option for that: see docs/upstream-cookie.md. The second ClientHello, with the
// cookie in it, is part of the handshake's transcript, so it cannot be changed to what pion
// expects. What pion expects can. The test of this file fails if pion changes.
func cookieOf(conn *dtls.DetachedConn) *[]byte {
	at := reflect.ValueOf(conn)
	for _, name := range []string{"conn", "state", "Cookie"} {
		for at.Kind() == reflect.Pointer || at.Kind() == reflect.Interface {
			at = at.Elem()
		}
		if at.Kind() != reflect.Struct {
			return nil
		}
		at = at.FieldByName(name)
	}
	if !at.IsValid() || at.Type() != reflect.TypeFor[[]byte]() || !at.CanAddr() {
		return nil
	}
	return (*[]byte)(unsafe.Pointer(at.UnsafeAddr()))
}
