// SPDX-License-Identifier: MIT

package redisstore

import (
	"testing"

	"github.com/go-dsm/dsm/resume"
	"github.com/go-dsm/dsm/resume/resumetest"
	"github.com/stretchr/testify/require"
)

func TestConformance(t *testing.T) {
	s := startServer(t)
	client := newClient(t, Options(s.addr()))
	resumetest.Run(t, func(t *testing.T) resume.Backend {
		require.NoError(t, client.FlushAll(t.Context()).Err())
		return newBackend(t, Config{Client: client, Keys: []Key{testKey(1)}})
	})
}
