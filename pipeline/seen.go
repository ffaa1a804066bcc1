package pipeline

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/feature"
)

// seen knows the ids of the events of a partition that were stored lately, so
// that one that was stored twice is processed once. Ids are kept as the first 128
// bits of their SHA-256, by the generation in which their record was stored: the
// newest generation and the one before, so for at least a window and at most two.
type seen struct {
	window int64 // length of a generation, in nanoseconds
	newest int64 // number of the newest generation
	ids    [2]generation
	// cycle is how many ids a running snapshot has taken of each generation, by number.
	cycle map[int64]int
}

type digest [16]byte

// generation is the ids of one generation, in the order of their coming.
type generation struct {
	number int64
	order  []digest
	set    map[digest]struct{}
}

func newSeen(window time.Duration) *seen {
	return &seen{window: int64(window), newest: -1, cycle: map[int64]int{}}
}

// at returns a generation, making it where it is the newest; nil where it is forgotten.
func (s *seen) at(number int64) *generation {
	if number < s.newest-1 || number < 0 {
		return nil
	}
	g := &s.ids[number&1]
	if g.set == nil || g.number != number {
		*g = generation{number: number, set: map[digest]struct{}{}}
	}
	if number > s.newest {
		if old := &s.ids[(number-1)&1]; old.number != number-1 {
			*old = generation{}
		}
		s.newest = number
	}
	return g
}

// repeat reports whether an id has come before, and appends it to delta where not.
func (s *seen) repeat(id string, stored int64, delta []byte) ([]byte, bool) {
	d := digestOf(id)
	number := max(stored/s.window, s.newest-1, 0)
	if s.has(d, number) {
		return delta, true
	}
	s.at(number).add(d)
	return appendIDs(delta, number, []digest{d}), false
}

func digestOf(id string) digest {
	sum := sha256.Sum256([]byte(id))
	return digest(sum[:16])
}

// has reports whether an id is known to an event of a generation.
func (s *seen) has(d digest, number int64) bool {
	for i := range s.ids {
		if g := &s.ids[i]; g.set != nil && g.number >= max(s.newest, number)-1 {
			if _, ok := g.set[d]; ok {
				return true
			}
		}
	}
	return false
}

func (g *generation) add(d digest) {
	if _, ok := g.set[d]; !ok {
		g.set[d] = struct{}{}
		g.order = append(g.order, d)
	}
}

// Changes and snapshots are runs of ids: the generation (uvarint), how many
// (uvarint), and each (16 bytes).
func appendIDs(b []byte, number int64, ids []digest) []byte {
	b = binary.AppendUvarint(b, uint64(number))
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for i := range ids {
		b = append(b, ids[i][:]...)
	}
	return b
}

func (s *seen) Fingerprint() uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "seen %d", s.window)
	return h.Sum64()
}

func (s *seen) Keys() int { return len(s.ids[0].order) + len(s.ids[1].order) }

// Bytes counts an id in its list and in its set.
func (s *seen) Bytes() int64 { return int64(s.Keys()) * 48 }

func (s *seen) ApplyDelta(b []byte) error {
	c := cursor{b: b}
	for len(c.b) > 0 {
		number, n := c.uvarint(), c.uvarint()
		if c.bad || number > 1<<62 || n > uint64(len(c.b))/16 {
			return errkind.New(errkind.Corrupt, "the ids of events are cut short")
		}
		g := s.at(int64(number))
		for range n {
			if g != nil {
				g.add(digest(c.b[:16]))
			}
			c.b = c.b[16:]
		}
	}
	return nil
}

func (s *seen) BeginSnapshot() { clear(s.cycle) }

func (s *seen) AppendSnapshot(b []byte, budget int) (out []byte, done bool) {
	from := len(b)
	for number := max(s.newest-1, 0); number <= s.newest; number++ {
		g := s.at(number)
		if g == nil {
			continue
		}
		taken := s.cycle[number]
		n := min(len(g.order)-taken, max(1, (budget-(len(b)-from))/16))
		if n > 0 {
			b = appendIDs(b, number, g.order[taken:taken+n])
			s.cycle[number] = taken + n
		}
		if s.cycle[number] < len(g.order) {
			return b, false
		}
	}
	return b, true
}

func (s *seen) ApplySnapshot(b []byte) error { return s.ApplyDelta(b) }

// seenStep keeps the ids that a task's source has seen.
type seenStep struct {
	window time.Duration
	ids    *seen
	delta  []byte
}

func newSeenStep(window time.Duration) *seenStep {
	return &seenStep{window: window, ids: newSeen(window)}
}

// begin forgets the change of the frame before.
func (s *seenStep) begin() {
	if s != nil {
		s.delta = s.delta[:0]
	}
}

// repeat reports whether an event has come before; those without an id never have.
func (s *seenStep) repeat(id string, stored int64) (again bool) {
	if s == nil || id == "" {
		return false
	}
	s.delta, again = s.ids.repeat(id, stored, s.delta)
	return again
}

func (s *seenStep) keyed() feature.State { return s.ids }
func (s *seenStep) change() []byte       { return s.delta }
func (s *seenStep) definition() []byte   { return fmt.Appendf(nil, "seen %d", s.window) }
func (s *seenStep) pages() *pager        { return nil }
func (s *seenStep) name() string         { return "source.deduplicate" }

func (s *seenStep) fresh() (feature.State, error) { return newSeen(s.window), nil }

func (s *seenStep) reset() error {
	s.ids = newSeen(s.window)
	return nil
}
