// SPDX-License-Identifier: MIT

package dsm

import "math/bits"

const (
	// New reserves room for minSocks socks, and for one more for each slotsPerSock
	// slots. Room for more is allocated when more socks have sessions at one time.
	minSocks     = 64
	slotsPerSock = 64
	// segmentSocks is the number of entries that are allocated together: 1536 bytes.
	segmentSocks = 64
)

// sockEntry is a sock that has sessions in the table. Entries are allocated in
// segments and never move, so that no call copies all of them. An entry whose last
// session was removed is free and is reused; it is not given back to the collector.
//
// The entries are also the buckets of a hash table by Sock.id, one bucket in each
// entry, free entries and entry 0 included. Each new entry therefore adds one bucket,
// and takes the entries that belong to it from one other bucket (linear hashing). The
// hash table has at least as many buckets as socks, and no call rehashes all of it.
type sockEntry struct {
	id       uint64 // Sock.id
	oldest   uint32 // the list of its established sessions; 0: the list is empty
	sessions uint32 // the number of its sessions in either state; 0: the entry is free
	next     uint32 // the next entry of the same bucket, or the next free entry
	bucket   uint32 // the first entry of the bucket with the number of this entry; 0: the bucket is empty
}

// sockSegment is the entries with the numbers from a multiple of segmentSocks.
type sockSegment [segmentSocks]sockEntry

// newSockSegments returns room for as many segments as n socks can need. It allocates
// the first ones.
func newSockSegments(n int) []*sockSegment {
	segments := make([]*sockSegment, n/segmentSocks+1) // Entry 0 makes one more.
	for i := range min(n, minSocks+n/slotsPerSock)/segmentSocks + 1 {
		segments[i] = new(sockSegment)
	}
	return segments
}

// sockEntry returns entry n, which must be below s.numSocks.
func (s *slots) sockEntry(n uint32) *sockEntry {
	return &s.socks[n/segmentSocks][n%segmentSocks]
}

// sockBucket returns the first entry of the bucket for a Sock.id. The low bits of the
// hash select the bucket: as many as give the number of any bucket, or one bit less if
// they give a number that no bucket has yet.
//
// NewSock counts the ids up, but the socks that remain after others are closed can
// have ids of any pattern, for example every 1024th one. The factors are secret and
// odd. One multiplication alone would leave such a pattern a pattern.
func (s *slots) sockBucket(id uint64) *uint32 {
	id *= s.secret[1]
	id = (id ^ id>>32) * s.secret[2]
	mask := uint32(1)<<bits.Len32(s.numSocks-1) - 1
	n := uint32(id>>32) & mask
	if n >= s.numSocks {
		n &= mask >> 1
	}
	return &s.sockEntry(n).bucket
}

// findSock returns the entry of sock, or 0 if sock has no sessions. It is inlined, and
// needs no search for the sock that was looked up last: most servers have one sock.
func (s *slots) findSock(sock Sock) uint32 {
	if sock == s.lastSock {
		return s.lastEntry
	}
	return s.searchSock(sock)
}

// searchSock is findSock for a sock that was not looked up last.
func (s *slots) searchSock(sock Sock) uint32 {
	n := *s.sockBucket(sock.id)
	for n != 0 && s.sockEntry(n).id != sock.id {
		n = s.sockEntry(n).next
	}
	s.lastSock, s.lastEntry = sock, n
	return n
}

// acquireSock returns the entry of sock, which it adds if necessary, and counts one
// more session of it.
func (s *slots) acquireSock(sock Sock) uint32 {
	n := s.findSock(sock)
	if n == 0 {
		if n = s.firstFreeSock; n != 0 {
			s.firstFreeSock = s.sockEntry(n).next
		} else {
			n = s.growSocks()
		}
		s.sockEntry(n).id = sock.id
		s.linkSock(n)
		s.lastEntry = n // findSock has set s.lastSock.
	}
	s.sockEntry(n).sessions++
	return n
}

// linkSock adds entry n to the bucket for its id.
func (s *slots) linkSock(n uint32) {
	entry := s.sockEntry(n)
	bucket := s.sockBucket(entry.id)
	entry.next, *bucket = *bucket, n
}

// growSocks adds an entry, which is in no bucket, and with it a bucket.
func (s *slots) growSocks() uint32 {
	n := s.numSocks
	if segment := &s.socks[n/segmentSocks]; *segment == nil {
		*segment = new(sockSegment)
	}
	s.numSocks++
	// The entries for the new bucket are in the bucket whose number is n without its
	// highest bit. The other entries of that bucket stay in it.
	split := &s.sockEntry(n ^ 1<<(bits.Len32(n)-1)).bucket
	at := *split
	*split = 0
	for at != 0 {
		next := s.sockEntry(at).next
		s.linkSock(at)
		at = next
	}
	return n
}

// releaseSock counts one session less of the sock in entry n, and frees the entry
// after the last session.
func (s *slots) releaseSock(n uint32) {
	if s.sockEntry(n).sessions--; s.sockEntry(n).sessions == 0 {
		s.freeSock(n)
	}
}

// freeSock frees entry n. The bucket with the number of the entry stays.
func (s *slots) freeSock(n uint32) {
	entry := s.sockEntry(n)
	link := s.sockBucket(entry.id)
	for *link != n {
		link = &s.sockEntry(*link).next
	}
	*link = entry.next
	*entry = sockEntry{next: s.firstFreeSock, bucket: entry.bucket}
	s.firstFreeSock = n
	if s.lastEntry == n {
		s.lastEntry = 0
	}
}
