package inference

import (
	"bytes"
	"hash/maphash"
	"sync"
	"time"
)

// cache keeps answers by the bytes of their rows. A hash finds the place and the
// bytes are compared in full, so rows that differ in one bit never share an
// answer, whatever their hashes. It holds as many rows as it may and then gives up those not
// asked for since the hand last came by (CLOCK, Corbató 1968).
type cache struct {
	seed   maphash.Seed
	began  time.Time
	ttl    time.Duration
	stale  time.Duration
	shards []shard
}

// maxRowBytes bounds one row with its answer; larger ones are not kept.
const maxRowBytes = 64 << 10

type shard struct {
	mu    sync.Mutex
	at    map[uint64]int32
	slots []slot
	most  int
	hand  int
}

// slot is one row: its bytes, then its answer's.
type slot struct {
	hash   uint64
	stored time.Duration // since began
	data   []byte
	key    int32
	asked  bool
}

func newCache(c Cache) *cache {
	n := 16
	if c.Rows < 64*n {
		n = 1
	}
	s := &cache{seed: maphash.MakeSeed(), began: time.Now(), ttl: c.TTL, stale: c.Stale, shards: make([]shard, n)}
	for i := range s.shards {
		s.shards[i].at = map[uint64]int32{}
		s.shards[i].most = c.Rows / n
	}
	return s
}

func (c *cache) hash(key []byte) uint64 { return maphash.Bytes(c.seed, key) }

func (c *cache) shard(hash uint64) *shard { return &c.shards[hash>>60%uint64(len(c.shards))] }

// get lets use read the answer for key, if there is one no older than age; use
// says whether it fits. The answer's bytes are only lent.
func (c *cache) get(hash uint64, key []byte, age time.Duration, use func(answer []byte) bool) bool {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.at[hash]
	if !ok {
		return false
	}
	e := &s.slots[i]
	if !bytes.Equal(e.data[:e.key], key) || time.Since(c.began)-e.stored >= age {
		return false
	}
	e.asked = true
	return use(e.data[e.key:])
}

// put keeps the answer that fill appends to the key.
func (c *cache) put(hash uint64, key []byte, fill func(dst []byte) []byte) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.at[hash]
	switch {
	case ok: // the same row again, or another with the same hash, which it replaces
	case len(s.slots) < s.most:
		i = int32(len(s.slots))
		s.slots = append(s.slots, slot{})
	default:
		for s.slots[s.hand].asked {
			s.slots[s.hand].asked = false
			s.hand = (s.hand + 1) % len(s.slots)
		}
		i = int32(s.hand)
		s.hand = (s.hand + 1) % len(s.slots)
		if h := s.slots[i].hash; s.at[h] == i {
			delete(s.at, h)
		}
	}
	e := &s.slots[i]
	data := fill(append(e.data[:0], key...))
	if len(data) > maxRowBytes {
		// The place stays empty.
		*e = slot{hash: hash}
		delete(s.at, hash)
		return
	}
	s.at[hash] = i
	*e = slot{hash: hash, stored: time.Since(c.began), data: data, key: int32(len(key)), asked: e.asked && ok}
}

func (c *cache) len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += len(s.at)
		s.mu.Unlock()
	}
	return n
}
