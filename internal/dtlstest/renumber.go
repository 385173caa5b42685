// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"

	"github.com/go-dsm/dsm/internal/record"
)

// renumberLocked returns a datagram of pion's with the sequence numbers that are left
// after those of repeated records.
func (b *Backoff) renumberLocked(datagram []byte) []byte {
	return b.rewriteLocked(datagram, func(r record.Record) uint64 { return r.Sequence + b.shift })
}

// repeatedLocked returns a datagram of the current flight with new sequence numbers.
func (b *Backoff) repeatedLocked(datagram []byte) []byte {
	return b.rewriteLocked(datagram, func(r record.Record) uint64 {
		if !b.haveKeysLocked() {
			return r.Sequence
		}
		b.shift++
		return r.Sequence + b.shift
	})
}

// rewriteLocked gives all plaintext records the next sequence numbers, and protected ones
// those that protected says. Bytes that are no record stay as they are.
func (b *Backoff) rewriteLocked(datagram []byte, protected func(r record.Record) uint64) []byte {
	out := make([]byte, 0, len(datagram)+1)
	parsed := 0
	for _, r := range Records(datagram) {
		parsed += len(r.Raw)
		if r.Epoch == 0 {
			raw := bytes.Clone(r.Raw)
			record.PutHeader(raw, r.Type, 0, b.sequence, len(r.Fragment()))
			b.sequence++
			out = append(out, raw...)
			continue
		}
		out = append(out, b.resealLocked(r, protected(r))...)
	}
	return append(out, datagram[parsed:]...)
}

// resealLocked returns a protected record of the client with another sequence number.
func (b *Backoff) resealLocked(r record.Record, sequence uint64) []byte {
	if sequence == r.Sequence || !b.haveKeysLocked() {
		return r.Raw
	}
	payload, t, err := b.client.OpenOwn(r)
	if err != nil {
		return r.Raw
	}
	b.client.SetNextSequence(sequence)
	raw, err := b.client.Seal(nil, t, payload)
	if err != nil {
		return r.Raw
	}
	return raw
}

// haveKeysLocked reports whether the keys are there, and makes the record layer.
func (b *Backoff) haveKeysLocked() bool {
	if b.client != nil {
		return true
	}
	client, err := record.New(record.Config{
		Suite: b.suite, MasterSecret: b.masterSecret, IsClient: true, Epoch: 1,
		ClientRandom: b.clientRandom, ServerRandom: b.serverRandom,
	})
	if err == nil {
		b.client = client
	}
	return err == nil
}
