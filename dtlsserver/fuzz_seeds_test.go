// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"math/rand/v2"
	"slices"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
)

// What a program finds in the first place: see newFuzzWorld. The client's last flight of a
// stalled handshake was not sent, and neither was the second ClientHello of the first one.
const (
	session, otherSession = 0, 1
	withoutCookie         = 2 // a peer that has sent its first ClientHello alone
	withCookie            = 3
	keyExchanged          = 4
	idle                  = 5
	stranger              = 6 // the first one; there are fuzzPeers of them
	foreigner             = 9 // the first one in another network
)

// The indices of what clients have sent, for fromClient.
const (
	keyExchangedFlight = iota
	keyExchangedSecond
	keyExchangedFirst
	withCookieFlight
	withCookieSecond
	withCookieFirst
	withoutCookieSecond
	withoutCookieFirst
	otherSessionText
	otherSessionFlight
	otherSessionSecond
	otherSessionFirst
	sessionText
	sessionFlight
	sessionSecond
	sessionFirst
)

// inject returns the operation that sends a template after up to three mutations.
func inject(source byte, template []byte, mutations ...[]byte) []byte {
	op := slices.Concat([]byte{opInject, source}, template, []byte{byte(len(mutations))})
	return slices.Concat(op, slices.Concat(mutations...))
}

// fuzzSeeds returns programs that reach every operation, template and mutation, against
// each kind of listener.
func fuzzSeeds() [][]byte {
	var seeds [][]byte
	for kind := range byte(2 * fuzzTight) {
		for _, steps := range [][][]byte{
			seedLives(), seedTemplates(), seedMutations(), seedFragments(), seedBodies(), seedFlood(), seedPressure(), seedKeys(), seedHostile(),
		} {
			seeds = append(seeds, slices.Concat([]byte{kind}, slices.Concat(steps...)))
		}
	}
	for n := range 32 {
		seeds = append(seeds, randomProgram(uint64(n)))
	}
	return seeds
}

// seedLives has clients come and go in every way. A client returns to its port, and
// resumes its session where it can, while its handshake stalls after each of its records.
func seedLives() [][]byte {
	ops := [][]byte{
		{opRelease, withoutCookie, rankFinished - 1}, {opRelease, withCookie, rankFinished - 1}, {opSleep, 1}, {opSleep, 1},
		{opLeave, withoutCookie}, {opEnd, withCookie}, {opEnd, withCookie},
		{opEcho, session}, {opSleep, 3}, {opEcho, otherSession}, // the ciphers were released
		{opKill, session}, {opConnect, session, rankFinished - 1}, {opEcho, session},
	}
	for rank := byte(rankFirstHello); rank <= rankFinished; rank++ {
		ops = append(ops, []byte{opConnect, idle, rank - 1}, []byte{opSleep, 1}, inject(idle, []byte{fromClient, 0}), []byte{opEcho, idle})
	}
	return append(ops, []byte{opConnect, session, rankFirstHello - 1}, []byte{opSleep, 2}, []byte{opSleep, 2},
		[]byte{opConnect, otherSession, rankHello - 1}, []byte{opKill, otherSession}, []byte{opSleep, 2})
}

// seedTemplates has every template come from a session's address, from those of stalled
// handshakes and from a stranger's.
func seedTemplates() [][]byte {
	var ops [][]byte
	for _, source := range []byte{session, withoutCookie, withCookie, keyExchanged, stranger} {
		for _, template := range [][]byte{
			{fromClient, sessionText}, {fromClient, sessionFlight}, {fromClient, withoutCookieFirst},
			{fromServer, 0}, {fromServer, 2}, {firstHello, source}, {secondHello, source, 3, 1, 2, 3},
			{message, record.MessageCertificate, 2, 3, 0, 0, 0}, {plainRecord, byte(record.TypeAlert), 2, 2, 40},
			{epochRecord, byte(record.TypeApplicationData), 1, 3, 1, 2, 3}, {literalBytes, 3, 22, 254, 253}, {literalBytes, 0},
		} {
			ops = append(ops, inject(source, template))
		}
	}
	return append(ops, []byte{opSleep, 1}, []byte{opSleep, 1}, []byte{opSleep, 1}) // the fatal alerts are believed
}

// seedMutations has every mutation of the flights that the stalled clients send next, and
// then these themselves.
func seedMutations() [][]byte {
	var ops [][]byte
	for _, c := range []struct{ source, index byte }{
		{withoutCookie, withoutCookieSecond}, {withCookie, withCookieFlight}, {keyExchanged, keyExchangedFlight},
	} {
		for _, mutation := range [][]byte{
			// These first: the flight is not accepted.
			{msgHeader, 0, 1, 0, 200}, {msgHeader, 0, 1, 127, 0}, {msgHeader, 0, 2, 0, 3}, {msgHeader, 0, 3, 0, 1}, {msgHeader, 0, 3, 4, 0},
			{msgHeader, 0, 4, 0, 1}, {msgHeader, 0, 5, 1, 0}, {header, 0, 0, 0, 4}, {header, 0, 2, 0, 1}, {header, 0, 5, 0, 20}, {cut, 0, 30},
			{flip, 0, 26, 2}, {flip, 0, 40, 1}, {header, 1, 2, 0, 2}, {flip, 0, 200, 128}, {splice, 0, 60, 1},
			{coalesce, sessionFirst}, {extend, 3, 1, 2, 3}, {repeat, 3},
		} {
			ops = append(ops, inject(c.source, []byte{fromClient, c.index}, mutation))
		}
		ops = append(ops, inject(c.source, []byte{fromClient, c.index}))
	}
	return ops
}

// seedFragments has messages come in fragments, in every order, and begin handshakes.
func seedFragments() [][]byte {
	var ops [][]byte
	for order := range byte(16) {
		ops = append(ops, inject(stranger+order%fuzzPeers, []byte{firstHello, order}, []byte{refragment, 0, 0, 10, order}))
	}
	for _, size := range []byte{1, 7, 100} {
		for _, order := range []byte{5, 1, 2, 3} {
			ops = append(ops,
				inject(withoutCookie, []byte{fromClient, withoutCookieSecond}, []byte{refragment, 0, 0, size, order}),
				inject(withCookie, []byte{fromClient, withCookieFlight}, []byte{refragment, 0, 0, size, order}, []byte{refragment, 1, 0, size, order}))
		}
	}
	return append(ops, inject(session, []byte{firstHello, 77}, []byte{refragment, 0, 0, 9, 0}), []byte{opSleep, 1}, []byte{opEcho, session})
}

// seedBodies has messages whose bodies are shorter, longer and other than they should be.
func seedBodies() [][]byte {
	var ops [][]byte
	change := func(source byte, template []byte, at, removed byte, added ...byte) {
		ops = append(ops, inject(source, template, slices.Concat([]byte{edit, 0, 0, at, removed, byte(len(added))}, added)))
	}
	for n := range byte(16) {
		at := (8 + n) % 16 // a ClientKeyExchange without the point in it comes first
		change(stranger+at%fuzzPeers, []byte{firstHello, at}, 32+2*at, 2, 0, 1, 255)
		for _, c := range []struct{ source, index byte }{{withCookie, withCookieFlight}, {keyExchanged, keyExchangedFlight}} {
			change(c.source, []byte{fromClient, c.index}, at, 255) // it ends there
		}
		change(withCookie, []byte{fromClient, withCookieFlight}, at, 1, 0, 200)
	}
	return append(ops, inject(withCookie, []byte{fromClient, withCookieFlight}))
}

// seedFlood has strangers take all handshakes, and begin them anew.
func seedFlood() [][]byte {
	var ops [][]byte
	for n := range byte(24) {
		ops = append(ops, inject(stranger+n%fuzzPeers, []byte{firstHello, n}))
		if n%8 == 7 {
			ops = append(ops, []byte{opSleep, n / 8}, []byte{opConnect, idle, rankKeyExchange - 1}, inject(idle, []byte{firstHello, n}))
		}
	}
	dtls10 := inject(foreigner, []byte{firstHello, 99}, []byte{flip, 0, 26, 2})
	ops = append(ops, []byte{opSleep, 2}, dtls10, []byte{opSleep, 1}, dtls10, []byte{opSleep, 1}, inject(foreigner, []byte{fromServer, 0}))
	return append(ops, []byte{opSleep, 0}, []byte{opSleep, 0}, inject(idle, []byte{fromClient, 0}), []byte{opRelease, idle, rankFinished - 1})
}

// seedPressure has clients with validated addresses take their network's share, which
// strangers want, and then all handshakes.
func seedPressure() [][]byte {
	ops := [][]byte{{opRelease, withoutCookie, rankHello - 1}, {opSleep, 0}, {opSleep, 0}, {opSleep, 0}, {opSleep, 0}, {opSleep, 0}}
	for _, peer := range []byte{withoutCookie, withCookie, keyExchanged, idle, session, otherSession} {
		ops = append(ops, []byte{opConnect, peer, rankHello - 1})
	}
	for n := range byte(fuzzPeers) {
		ops = append(ops, inject(stranger+n, []byte{firstHello, n}))
	}
	ops = append(ops, inject(session, []byte{firstHello, 9}), []byte{opSleep, 1}, []byte{opSleep, 1}, []byte{opSleep, 1})
	for n := range byte(fuzzPeers) {
		ops = append(ops, inject(stranger+n, []byte{firstHello, n}))
	}
	for _, peer := range []byte{withoutCookie, withCookie, keyExchanged, idle} {
		ops = append(ops, []byte{opRelease, peer, rankFinished - 1})
	}
	return append(ops, []byte{opSleep, 2})
}

// seedKeys has clients with a wrong key, others whose Finished comes among many records
// that are none, and others that miss the server's last flight.
func seedKeys() [][]byte {
	early := slices.Concat([]byte{epochRecord, byte(record.TypeHandshake), 1, 120}, make([]byte, 120))
	early4 := []byte{repeat, 3}
	return [][]byte{
		{opWrongKey, idle, rankFinished - 1}, {opSleep, 1}, {opSleep, 1},
		inject(withCookie, early, early4, early4), inject(withCookie, early, early4, early4), inject(withCookie, early, early4, early4),
		{opRelease, withCookie, rankFinished - 1}, {opSleep, 1}, {opSleep, 1},
		inject(keyExchanged, []byte{epochRecord, byte(record.TypeHandshake), 1, 3, 1, 2, 3}),
		inject(keyExchanged, []byte{epochRecord, byte(record.TypeHandshake), 2, 3, 1, 2, 3}),
		{opDeafen, keyExchanged}, {opRelease, keyExchanged, rankFinished - 1}, {opSleep, 1}, {opDeafen, keyExchanged}, {opSleep, 1}, {opEcho, keyExchanged},
		{opDeafen, session}, {opEcho, session}, {opDeafen, session}, {opEcho, session},
		{opDeafen, session}, {opConnect, session, rankFinished - 1}, {opSleep, 1}, {opDeafen, session}, {opSleep, 1}, {opEcho, session},
	}
}

// seedHostile has clients with the right keys misbehave.
func seedHostile() [][]byte {
	handshake, data, alert := byte(record.TypeHandshake), byte(record.TypeApplicationData), byte(record.TypeAlert)
	seal := func(op, peer, kind byte, payload ...byte) []byte {
		return slices.Concat([]byte{op, peer, kind, byte(len(payload))}, payload)
	}
	var ops [][]byte
	for _, payload := range [][]byte{{}, {1}, dtlstest.Message(record.MessageClientHello, 0, 1, 2, 3), dtlstest.Message(0, 0)} {
		ops = append(ops, seal(opSealed, session, handshake, payload...), seal(opSealed, session, data, payload...), seal(opSealed, session, alert, payload...))
	}
	ops = append(ops, seal(opSealed, session, byte(record.TypeChangeCipherSpec), 1), seal(opSealed, session, alert, 1, 90),
		seal(opSealed, session, alert, 2, 40), seal(opSealed, otherSession, alert, 1, 0))
	for _, seq := range []uint16{3, 5} { // of the Finished with a key, and with a certificate
		first := append(dtlstest.FragmentHeader(record.MessageFinished, seq, 12, 0, 5), make([]byte, 5)...)
		for _, payload := range [][]byte{
			dtlstest.Message(record.MessageFinished, seq, make([]byte, 12)...), dtlstest.Message(record.MessageFinished, seq, make([]byte, 11)...),
			dtlstest.Message(record.MessageClientHello, seq, make([]byte, 12)...), first, {1, 2},
		} {
			ops = append(ops, seal(opForge, idle, handshake, payload...), []byte{opSleep, 1})
		}
	}
	return append(ops, seal(opForge, idle, data, 1), seal(opForge, idle, alert, 2, 40), seal(opForge, idle, 0), []byte{opSleep, 2})
}

// randomProgram returns a program of random bytes.
func randomProgram(seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	program := []byte{byte(seed)}
	for range 300 {
		program = append(program, byte(random.Uint32()))
	}
	return program
}
