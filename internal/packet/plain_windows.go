// SPDX-License-Identifier: MIT

package packet

import "golang.org/x/sys/windows"

func init() { errTooLong = windows.WSAEMSGSIZE }
