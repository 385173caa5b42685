// SPDX-License-Identifier: MIT

package udp

import "golang.org/x/sys/windows"

func init() { errMessageSize = windows.WSAEMSGSIZE }
