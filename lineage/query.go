package lineage

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/freshet-io/freshet/errkind"
)

// Query says which predictions are wanted. The zero value is all.
type Query struct {
	// From and To bound the event time: From is in, To is out. A zero time is no bound.
	From, To time.Time
	// Key is the events' key; "" is any.
	Key string
	// Where is a CEL condition over a prediction; "" is all. docs/lineage.md lists its names.
	Where string
	// Limit is how many are wanted, the newest; 0 is all.
	Limit int
}

// bounds are the event times wanted, both in, in Unix nanoseconds.
func (q *Query) bounds() (from, to int64) {
	from, to = math.MinInt64, math.MaxInt64
	if !q.From.IsZero() {
		from = q.From.UnixNano()
	}
	if !q.To.IsZero() {
		to = q.To.UnixNano() - 1
	}
	return from, to
}

// Records answers questions about the predictions of a pipeline.
type Records interface {
	// Event returns the predictions for an event, or the prediction whose result has
	// this id, the latest published first. None at all is NotFound.
	Event(ctx context.Context, id string) ([]Prediction, error)
	// Search calls visit for the predictions that q asks for, by falling event time
	// (roughly, where there are many of about the same time), until it returns false. A condition that names what no prediction has is a Config error.
	Search(ctx context.Context, q Query, visit func(Prediction) bool) error
}

// notFound says that an event has no record.
func notFound(id string) error {
	return errkind.Errorf(errkind.NotFound, "no prediction for the event %q, nor a result with this id: it was not scored, or its record is kept no longer", id)
}

// Event implements Records.
func (s *Store) Event(ctx context.Context, id string) ([]Prediction, error) {
	s.life.RLock()
	defer s.life.RUnlock()
	var found []Prediction
	for _, sort := range []byte{keyID, keyResult} {
		err := s.lookup(ctx, sort, id, func(m *Message, row int) {
			name := m.Batch.IDs[row]
			if name == "" {
				name = placeOf(m, row)
			}
			if sort == keyID && name == id || sort == keyResult && string(m.Batch.Results[row]) == id {
				found = append(found, m.At(row))
			}
		})
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			break
		}
	}
	if len(found) == 0 {
		return nil, notFound(id)
	}
	newestFirst(found)
	return found, nil
}

func newestFirst(ps []Prediction) {
	slices.SortStableFunc(ps, func(a, b Prediction) int {
		return cmp.Or(cmp.Compare(b.Published, a.Published), cmp.Compare(b.Time, a.Time))
	})
}

// lookup visits the rows that have text's hash in an index.
func (s *Store) lookup(ctx context.Context, sort byte, text string, visit func(m *Message, row int)) error {
	s.mu.Lock()
	buckets, closed := s.inOrder(), s.closed
	s.mu.Unlock()
	if closed {
		return errClosed
	}
	hash := xxhash.Sum64String(text)
	for _, at := range buckets {
		if err := ctx.Err(); err != nil {
			return err
		}
		type place struct {
			block uint64
			row   int
		}
		var places []place
		from := binary.BigEndian.AppendUint64(at.append([]byte{sort}), hash)
		to := append(slices.Clone(from), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
		err := s.each(from, to, func(k, _ []byte) bool {
			if k = k[len(from):]; len(k) == 10 {
				places = append(places, place{binary.BigEndian.Uint64(k), int(binary.BigEndian.Uint16(k[8:]))})
			}
			return true
		})
		if err != nil {
			return err
		}
		var m *Message
		for i, p := range places {
			if i == 0 || p.block != places[i-1].block {
				if m, err = s.block(at, p.block); err != nil {
					return err
				}
			}
			if m != nil && p.row < m.Rows {
				visit(m, p.row)
			}
		}
	}
	return nil
}

// block reads a block; nil where it has expired meanwhile.
func (s *Store) block(at bucket, number uint64) (*Message, error) {
	head, err := s.get(blockKey(keyHead, at, number))
	if err != nil || len(head) != 32 {
		return nil, err
	}
	message, err := s.get(blockKey(keyBlock, at, number))
	if err != nil || message == nil {
		return nil, err
	}
	m, err := Decode(message)
	if err != nil {
		return nil, s.damaged(err)
	}
	m.Published = int64(binary.BigEndian.Uint64(head[16:]))
	return m, nil
}

// extent is a block and its event times.
type extent struct {
	at       bucket
	number   uint64
	from, to int64
}

// Search implements Records.
func (s *Store) Search(ctx context.Context, q Query, visit func(Prediction) bool) error {
	s.life.RLock()
	defer s.life.RUnlock()
	from, to := q.bounds()
	s.mu.Lock()
	buckets, closed := s.inOrder(), s.closed
	s.mu.Unlock()
	if closed {
		return errClosed
	}
	var spans []extent
	for _, at := range buckets {
		blocks := map[uint64]bool{}
		if q.Key != "" { // only the blocks that hold the key
			lo := binary.BigEndian.AppendUint64(at.append([]byte{keyKey}), xxhash.Sum64String(q.Key))
			hi := append(slices.Clone(lo), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
			err := s.each(lo, hi, func(k, _ []byte) bool {
				if k = k[len(lo):]; len(k) == 10 {
					blocks[binary.BigEndian.Uint64(k)] = true
				}
				return true
			})
			if err != nil {
				return err
			}
		}
		err := s.each(at.append([]byte{keyHead}), at.after([]byte{keyHead}), func(k, v []byte) bool {
			if len(k) != 1+bucketBytes+8 || len(v) != 32 {
				return true
			}
			sp := extent{at, binary.BigEndian.Uint64(k[1+bucketBytes:]), int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))}
			if sp.from <= to && sp.to >= from && (q.Key == "" || blocks[sp.number]) {
				spans = append(spans, sp)
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(spans, func(a, b extent) int { return cmp.Or(cmp.Compare(b.to, a.to), cmp.Compare(b.number, a.number)) })
	f := newFinder(q)
	for _, sp := range spans {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !f.before(sp.to, visit) {
			return nil
		}
		m, err := s.block(sp.at, sp.number)
		if err != nil {
			return err
		}
		if m != nil {
			f.add(m)
		}
	}
	if err := f.where.fault(); err != nil {
		return searchFault(err)
	}
	f.before(math.MinInt64, visit)
	return nil
}

func searchFault(err error) error {
	return errkind.Errorf(errkind.Config, "condition: %w", err)
}

// finder finds rows in messages and gives them out by falling event time.
type finder struct {
	q        Query
	from, to int64
	where    *condition
	held     held
	given    int
}

// mostHeld is how many predictions wait at most for their turn. With more of them at
// once the order is only roughly that of time.
const mostHeld = 20_000

func newFinder(q Query) *finder {
	f := &finder{q: q, where: newCondition(q.Where)}
	f.from, f.to = q.bounds()
	return f
}

// add takes the rows of m that are wanted.
func (f *finder) add(m *Message) {
	holds := f.where.rows(m)
	for row, h := range holds {
		t := m.Batch.Time[row]
		if !h || t < f.from || t > f.to || f.q.Key != "" && m.Batch.Keys[row] != f.q.Key {
			continue
		}
		heap.Push(&f.held, m.At(row).clone())
	}
	if n := f.q.Limit - f.given; f.q.Limit > 0 && len(f.held) > 2*n+1000 {
		slices.SortFunc(f.held, func(a, b Prediction) int {
			switch {
			case later(&a, &b):
				return -1
			case later(&b, &a):
				return 1
			}
			return 0
		})
		clear(f.held[n:])
		f.held = f.held[:n] // what is in order is a heap
	}
}

// before gives out those later than t, of which no more come; false when no more are wanted.
func (f *finder) before(t int64, visit func(Prediction) bool) bool {
	for len(f.held) > 0 && (f.held[0].Time > t || t == math.MinInt64 || len(f.held) > mostHeld) {
		p := heap.Pop(&f.held).(Prediction)
		f.given++
		if !visit(p) || f.q.Limit > 0 && f.given >= f.q.Limit {
			return false
		}
	}
	return true
}

// held is a heap, the latest first.
type held []Prediction

// later orders by event time, then by publication, then by place.
func later(a, b *Prediction) bool {
	switch {
	case a.Time != b.Time:
		return a.Time > b.Time
	case a.Published != b.Published:
		return a.Published > b.Published
	case a.Partition != b.Partition:
		return a.Partition > b.Partition
	}
	return a.Position > b.Position
}

func (h held) Len() int           { return len(h) }
func (h held) Less(i, j int) bool { return later(&h[i], &h[j]) }
func (h held) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *held) Push(x any)        { *h = append(*h, x.(Prediction)) }
func (h *held) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = Prediction{}
	*h = old[:len(old)-1]
	return x
}
