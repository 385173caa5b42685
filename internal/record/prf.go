// SPDX-License-Identifier: MIT

package record

import (
	"crypto/hmac"
	"hash"
	"slices"
)

// pHash returns n bytes of P_hash(secret, seed), which is TLS 1.2's PRF with a seed that begins
// with the label (RFC 5246 section 5). All of its blocks come from one HMAC, whose key is hashed
// once.
func pHash(newHash func() hash.Hash, secret, seed []byte, n int) []byte {
	mac := hmac.New(newHash, secret)
	size := mac.Size()
	room := make([]byte, 0, 2*size+n)
	mac.Write(seed)
	a, out := mac.Sum(room), room[size:size] // A(1)
	for {
		mac.Reset()
		mac.Write(a)
		mac.Write(seed)
		if out = mac.Sum(out); len(out) >= n {
			return out[:n:n]
		}
		mac.Reset()
		mac.Write(a)
		a = mac.Sum(a[:0])
	}
}

// keyBlock returns the keys of both directions (RFC 5246 section 6.3).
func (s *suite) keyBlock(masterSecret []byte, client, server Random) (ofClient, ofServer directionKeys) {
	seed := slices.Concat([]byte("key expansion"), server[:], client[:])
	block := pHash(s.prf, masterSecret, seed, 2*(s.macLen+s.keyLen+s.ivLen()))
	next := func(n int) []byte {
		key := block[:n:n]
		block = block[n:]
		return key
	}
	ofClient.mac, ofServer.mac = next(s.macLen), next(s.macLen)
	ofClient.key, ofServer.key = next(s.keyLen), next(s.keyLen)
	ofClient.iv, ofServer.iv = next(s.ivLen()), next(s.ivLen())
	return ofClient, ofServer
}
