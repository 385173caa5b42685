// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecordingAsText(t *testing.T) {
	r := Recording{
		Client: "client 1.2", Suite: "TLS_PSK_WITH_AES_128_CCM", ClientRandom: RandomOf(1), MasterSecret: bytes.Repeat([]byte{2}, 48),
		Datagrams: []RecordedDatagram{{true, []byte{22, 254}}, {false, []byte{3}}, {true, []byte{4, 5}}},
	}
	text := string(r.Text("a comment", "another"))
	assert.Equal(t, "# client 1.2, TLS_PSK_WITH_AES_128_CCM\n# a comment\n# another\nsecret "+
		strings.Repeat("01", 32)+" "+strings.Repeat("02", 48)+"\n> 16fe\n< 03\n> 0405\n", text)
	path := filepath.Join(t.TempDir(), "client-psk.txt")
	read := func(text string) (Recording, error) {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return ReadRecording(path)
	}
	got, err := read(text)
	require.NoError(t, err)
	assert.Equal(t, r, got)

	for why, broken := range map[string]string{
		`line 1: not "# client version, suite"`:                    strings.Replace(text, ", ", " ", 1),
		`line 1: not "# client version, suite" `:                   text[2:],
		"line 5: encoding/hex":                                     strings.Replace(text, "> 16fe", "> 16f", 1),
		"line 6: an empty datagram":                                strings.Replace(text, "< 03", "<", 1),
		`line 6: "<<": neither a comment, a secret nor a datagram`: strings.Replace(text, "< 03", "<< 03", 1),
		`line 6: "": neither a comment, a secret nor a datagram`:   strings.Replace(text, "< 03", "", 1),
		"line 4: 31 bytes: want 32":                                strings.Replace(text, "secret 01", "secret ", 1),
		"line 4: 47 bytes: want 48":                                strings.Replace(text, " 0202", " 02", 1),
		"no secret":                                                strings.Replace(text, "secret", "# secret", 1),
		"no datagram":                                              text[:strings.Index(text, ">")],
	} {
		_, err := read(broken)
		assert.ErrorContains(t, err, strings.TrimSpace(why))
		assert.ErrorContains(t, err, path)
	}
	_, err = ReadRecording(path + ".missing")
	assert.ErrorIs(t, err, os.ErrNotExist)
}
