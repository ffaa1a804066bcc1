package lookup

import (
	"sync"

	"github.com/freshet-io/freshet/event"
)

// layout says where a field's value lies in a cached row: in nums or in texts.
type layout struct {
	kinds       []event.Kind
	at          []int // index among the row's numbers, or among its texts
	nums, texts int
	nullWords   int
}

func newLayout(fields []Field) layout {
	l := layout{nullWords: (len(fields) + 63) / 64}
	for _, f := range fields {
		l.kinds = append(l.kinds, f.Kind)
		if f.Kind == event.String {
			l.at = append(l.at, l.texts)
			l.texts++
		} else {
			l.at = append(l.at, l.nums)
			l.nums++
		}
	}
	return l
}

// shard is a part of the cache with the requests under way for its keys. Rows
// lie in slots, columnar where they are read together; index finds a key's
// slot by linear probing; the hand goes round the slots and evicts the first
// that was not read since it came by last (the CLOCK rule).
type shard struct {
	mu      sync.Mutex
	layout  layout
	pending map[string]place

	maxRows  int
	maxBytes int64
	bytes    int64
	used     int

	slots []slot
	nums  []uint64
	texts []string
	nulls []uint64
	free  []int32
	index []int32 // slot + 1; 0 is empty
	hand  int
}

type slot struct {
	hash    uint64
	key     string
	at      int64
	expires int64 // Unix nanoseconds
	bytes   int64
	live    bool
	found   bool // the server has the row; otherwise it is known to be missing
	read    bool // since the hand came by
}

// place is where a key's answer will be.
type place struct {
	f *flight
	i int32
}

// home is where the probing for a hash begins. The low bits chose the shard.
func (s *shard) home(hash uint64) int { return int(hash>>16) & (len(s.index) - 1) }

// find returns the key's slot, or −1.
func (s *shard) find(hash uint64, key string) int {
	if s.used == 0 {
		return -1
	}
	for p := s.home(hash); s.index[p] != 0; p = (p + 1) & (len(s.index) - 1) {
		at := int(s.index[p] - 1)
		if sl := &s.slots[at]; sl.hash == hash && sl.key == key {
			return at
		}
	}
	return -1
}

// put stores row i of rows under key, which it keeps, and returns how many rows had to go for it.
func (s *shard) put(hash uint64, key string, rows *Rows, i int, expires int64) (evicted int) {
	if s.maxRows == 0 {
		return 0
	}
	if at := s.find(hash, key); at >= 0 {
		s.remove(at)
	}
	size := int64(len(key))
	found := rows.IsFound(i)
	if found {
		for j := range rows.Columns {
			if c := &rows.Columns[j]; c.Kind == event.String {
				size += int64(len(c.Strings[i]))
			}
		}
	}
	if size > s.maxBytes {
		return 0
	}
	for s.used >= s.maxRows || s.bytes+size > s.maxBytes {
		s.evict()
		evicted++
	}
	at := s.take()
	s.slots[at] = slot{hash: hash, key: key, at: Unknown, expires: expires, bytes: size, live: true, found: found}
	if found {
		s.slots[at].at = rows.At[i]
		s.fill(at, rows, i)
	}
	s.bytes += size
	s.used++
	s.link(at)
	return evicted
}

// fill copies row i's values into the slot.
func (s *shard) fill(at int, rows *Rows, i int) {
	nums := s.nums[at*s.layout.nums:]
	texts := s.texts[at*s.layout.texts:]
	nulls := s.nulls[at*s.layout.nullWords:]
	clear(nulls[:s.layout.nullWords])
	for j := range rows.Columns {
		c := &rows.Columns[j]
		to := s.layout.at[j]
		switch c.Kind {
		case event.String:
			texts[to] = c.Strings[i]
		default:
			nums[to] = bitsOf(c, i)
		}
		if c.IsNull(i) {
			nulls[j>>6] |= 1 << (j & 63)
		}
	}
}

// readInto copies the slot's values into row i of out.
func (s *shard) readInto(at int, out []*event.Column, i int) {
	nums := s.nums[at*s.layout.nums:]
	texts := s.texts[at*s.layout.texts:]
	nulls := s.nulls[at*s.layout.nullWords:]
	for j, c := range out {
		if nulls[j>>6]>>(j&63)&1 != 0 {
			c.SetNull(i)
			continue
		}
		from := s.layout.at[j]
		if c.Kind == event.String {
			c.Strings[i] = texts[from]
		} else {
			setBits(c, i, nums[from])
		}
	}
}

// take finds a free slot.
func (s *shard) take() int {
	if n := len(s.free); n > 0 {
		at := s.free[n-1]
		s.free = s.free[:n-1]
		return int(at)
	}
	s.slots = append(s.slots, slot{})
	s.nums = append(s.nums, make([]uint64, s.layout.nums)...)
	s.texts = append(s.texts, make([]string, s.layout.texts)...)
	s.nulls = append(s.nulls, make([]uint64, s.layout.nullWords)...)
	return len(s.slots) - 1
}

// evict removes the first row from the hand on that was not read lately. There is one.
func (s *shard) evict() {
	for {
		if s.hand >= len(s.slots) {
			s.hand = 0
		}
		at := s.hand
		s.hand++
		switch sl := &s.slots[at]; {
		case !sl.live:
		case sl.read:
			sl.read = false
		default:
			s.remove(at)
			return
		}
	}
}

// remove empties a live slot.
func (s *shard) remove(at int) {
	s.unlink(at)
	s.bytes -= s.slots[at].bytes
	s.used--
	s.slots[at] = slot{}
	clear(s.texts[at*s.layout.texts : (at+1)*s.layout.texts])
	s.free = append(s.free, int32(at))
}

func (s *shard) link(at int) {
	if 2*s.used > len(s.index) {
		s.index = make([]int32, max(16, 2*len(s.index)))
		for i := range s.slots {
			if s.slots[i].live && i != at {
				s.insert(i)
			}
		}
	}
	s.insert(at)
}

func (s *shard) insert(at int) {
	p := s.home(s.slots[at].hash)
	for s.index[p] != 0 {
		p = (p + 1) & (len(s.index) - 1)
	}
	s.index[p] = int32(at + 1)
}

// unlink takes a slot out of the index and moves up what probing had pushed behind it.
func (s *shard) unlink(at int) {
	mask := len(s.index) - 1
	gap := s.home(s.slots[at].hash)
	for s.index[gap] != int32(at+1) {
		gap = (gap + 1) & mask
	}
	for p := (gap + 1) & mask; s.index[p] != 0; p = (p + 1) & mask {
		home := s.home(s.slots[s.index[p]-1].hash)
		if (p-home)&mask >= (p-gap)&mask {
			s.index[gap] = s.index[p]
			gap = p
		}
	}
	s.index[gap] = 0
}
