// SPDX-License-Identifier: MIT

package dtlstest

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2/pkg/crypto/prf"
)

// Resumes reports whether the server resumes the session of Hello.SessionID and Master.
func (c *ScriptedClient) Resumes() bool {
	return len(c.Hello.SessionID) > 0 && c.Server.Hello.SessionID == string(c.Hello.SessionID)
}

// serverPoint returns the public key of a ServerKeyExchange, or nil.
func (c *ScriptedClient) serverPoint(body []byte) []byte {
	if c.Server.Hello.Suite.PSK() && len(body) >= 2 { // the hint
		body = body[min(2+int(body[0])<<8+int(body[1]), len(body)):]
	}
	if !c.Server.Hello.Suite.ECDHE() || len(body) < 4 || len(body) < 4+int(body[3]) {
		return nil
	}
	return body[4:][:body[3]]
}

// KeyExchange returns the body of the ClientKeyExchange.
func (c *ScriptedClient) KeyExchange() []byte {
	var body []byte
	if c.Server.Hello.Suite.PSK() {
		body = append([]byte{byte(len(c.Identity) >> 8), byte(len(c.Identity))}, c.Identity...)
	}
	if c.Server.Hello.Suite.ECDHE() {
		point := c.key.PublicKey().Bytes()
		body = append(append(body, byte(len(point))), point...)
	}
	return body
}

// CertificateList returns the body of a Certificate message.
func CertificateList(chain [][]byte) []byte {
	body := make([]byte, 3)
	for _, der := range chain {
		body = append(append(body, byte(len(der)>>16), byte(len(der)>>8), byte(len(der))), der...)
	}
	n := len(body) - 3
	body[0], body[1], body[2] = byte(n>>16), byte(n>>8), byte(n)
	return body
}

// CertificateVerify returns the body of a CertificateVerify: a signature of the transcript
// by ECDSA with SHA-256.
func (c *ScriptedClient) CertificateVerify() []byte {
	digest := sha256.Sum256(c.Transcript)
	signature, err := c.Signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		panic(err)
	}
	return append([]byte{4, 3, byte(len(signature) >> 8), byte(len(signature))}, signature...)
}

// DeriveKeys makes the master secret and Records. The last message of the transcript is
// the ClientKeyExchange (RFC 7627 section 3).
func (c *ScriptedClient) DeriveKeys() error {
	var premaster []byte
	if c.Server.Hello.Suite.ECDHE() {
		point, err := ecdh.P256().NewPublicKey(c.Server.Point)
		if err != nil {
			return err
		}
		if premaster, err = c.key.ECDH(point); err != nil {
			return err
		}
	}
	if c.Server.Hello.Suite.PSK() {
		other := premaster
		if !c.Server.Hello.Suite.ECDHE() {
			other = make([]byte, len(c.Key)) // RFC 4279 section 2
		}
		premaster = append([]byte{byte(len(other) >> 8), byte(len(other))}, other...)
		premaster = append(append(premaster, byte(len(c.Key)>>8), byte(len(c.Key))), c.Key...)
	}
	var err error
	if c.Server.Hello.ExtendedMasterSecret {
		hash := sha256.Sum256(c.Transcript)
		c.Master, err = prf.ExtendedMasterSecret(premaster, hash[:], sha256.New)
	} else {
		c.Master, err = prf.MasterSecret(premaster, c.Hello.Random[:], c.Server.Hello.Random[:], sha256.New)
	}
	if err != nil {
		return err
	}
	return c.setKeys()
}

func (c *ScriptedClient) setKeys() (err error) {
	c.Records, err = record.New(record.Config{
		Suite: c.Server.Hello.Suite, MasterSecret: c.Master, IsClient: true, Epoch: 1,
		ClientRandom: c.Hello.Random, ServerRandom: c.Server.Hello.Random,
	})
	return err
}

// VerifyData returns the body of the client's Finished.
func (c *ScriptedClient) VerifyData() []byte {
	data, err := prf.VerifyDataClient(c.Master, c.Transcript, sha256.New)
	if err != nil {
		panic(err)
	}
	return data
}

// ChangeCipherSpec makes a record of it.
func (c *ScriptedClient) ChangeCipherSpec() []byte {
	return c.Record(record.TypeChangeCipherSpec, []byte{1})
}
