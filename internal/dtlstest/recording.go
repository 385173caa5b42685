// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/go-dsm/dsm/internal/record"
)

// Recording is one handshake as it went over the network, from the first ClientHello to
// the Finished that ends it: the server's, or the client's in an abbreviated handshake
// (RFC 5246 section 7.3). No flight is repeated in it.
//
// As text the first line is "# client version, suite". A line "secret" has the client's
// random and the master secret. A line ">" has a datagram of the client, a line "<" one of
// the server. All bytes are hexadecimal. Other lines that begin with "#" are comments.
type Recording struct {
	Client       string // with its version
	Suite        string // as pion names it
	ClientRandom record.Random
	MasterSecret []byte // 48 bytes
	Datagrams    []RecordedDatagram
}

// RecordedDatagram is a datagram of a Recording.
type RecordedDatagram struct {
	FromClient bool
	Data       []byte
}

// masterSecretSize is the size of a master secret in bytes (RFC 5246 section 8.1).
const masterSecretSize = 48

// Text returns the Recording as text, with comments below the first line.
func (r Recording) Text(comments ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s, %s\n", r.Client, r.Suite)
	for _, comment := range comments {
		fmt.Fprintf(&b, "# %s\n", comment)
	}
	fmt.Fprintf(&b, "secret %x %x\n", r.ClientRandom, r.MasterSecret)
	for _, d := range r.Datagrams {
		direction := "<"
		if d.FromClient {
			direction = ">"
		}
		fmt.Fprintf(&b, "%s %x\n", direction, d.Data)
	}
	return b.Bytes()
}

// ReadRecording reads a file that Recording.Text has written. It does not look into the
// datagrams.
func ReadRecording(path string) (Recording, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Recording{}, err
	}
	r, err := parseRecording(string(text))
	if err != nil {
		return Recording{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func parseRecording(text string) (Recording, error) {
	var r Recording
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if err := r.parseLine(n, line); err != nil {
			return Recording{}, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	switch {
	case r.MasterSecret == nil:
		return Recording{}, errors.New("no secret")
	case len(r.Datagrams) == 0:
		return Recording{}, errors.New("no datagram")
	}
	return r, nil
}

func (r *Recording) parseLine(n int, line string) error {
	if n == 0 {
		var found bool
		if r.Client, r.Suite, found = strings.Cut(strings.TrimPrefix(line, "# "), ", "); !found || line[0] != '#' {
			return errors.New(`not "# client version, suite"`)
		}
		return nil
	}
	kind, values, _ := strings.Cut(line, " ")
	switch kind {
	case "#":
		return nil
	case "secret":
		random, secret, _ := strings.Cut(values, " ")
		clientRandom, err := decodeHex(random, len(record.Random{}))
		if err != nil {
			return err
		}
		r.ClientRandom = record.Random(clientRandom)
		r.MasterSecret, err = decodeHex(secret, masterSecretSize)
		return err
	case ">", "<":
		data, err := hex.DecodeString(values)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			return errors.New("an empty datagram")
		}
		r.Datagrams = append(r.Datagrams, RecordedDatagram{kind == ">", data})
		return nil
	}
	return fmt.Errorf("%q: neither a comment, a secret nor a datagram", kind)
}

func decodeHex(text string, size int) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err == nil && len(b) != size {
		err = fmt.Errorf("%d bytes: want %d", len(b), size)
	}
	return b, err
}
