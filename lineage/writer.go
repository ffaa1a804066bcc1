package lineage

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// published is a message with when it was stored on the topic.
type published struct {
	message []byte
	at      int64
}

// take stores messages of a partition, and that everything before next was taken:
// both or neither. Messages that are none are counted.
func (s *Store) take(partition int, messages []published, next int64) (rows, unreadable int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, 0, errClosed
	}
	if next <= s.places[partition] {
		return 0, 0, nil // another has taken them
	}
	w := &writer{s: s, b: s.db.NewBatch(), changed: map[bucket]usage{}, next: s.next}
	defer w.b.Close()
	now := s.o.Now().UnixNano()
	for _, p := range messages {
		m, err := Decode(p.message)
		if err != nil {
			unreadable++
			continue
		}
		m.Published = p.at
		n, err := w.add(m, p.message, now)
		if err != nil {
			return 0, 0, s.damaged(err)
		}
		rows += n
	}
	if err := w.commit(partition, next); err != nil {
		return 0, 0, s.damaged(err)
	}
	if at := s.o.Now(); at.Sub(s.swept) > time.Minute || s.over() {
		s.swept = at
		if err := s.sweep(now); err != nil {
			return rows, unreadable, err
		}
	}
	return rows, unreadable, nil
}

// sync makes durable what was taken.
func (s *Store) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		return s.damaged(err)
	}
	return nil
}

func (s *Store) over() bool {
	bytes := int64(0)
	for _, u := range s.buckets {
		bytes += u.bytes
	}
	return bytes > s.policy.MaxBytes
}

// sweep drops the buckets that have expired, and the first to expire while the store is too large.
func (s *Store) sweep(now int64) error {
	for _, b := range s.inOrder() {
		if b.expiry > now && !s.over() {
			return nil
		}
		batch := s.db.NewBatch()
		for _, sort := range []byte{keyBucket, keyHead, keyBlock, keyID, keyResult, keyKey} {
			if err := batch.DeleteRange(b.append([]byte{sort}), (bucket{b.expiry, b.number}).after([]byte{sort}), nil); err != nil {
				return s.damaged(err)
			}
		}
		if err := batch.Commit(pebble.NoSync); err != nil {
			return s.damaged(err)
		}
		delete(s.buckets, b)
	}
	return nil
}

// after is the first key behind those of the bucket.
func (b bucket) after(k []byte) []byte {
	if b.number == math.MaxUint16 {
		return binary.BigEndian.AppendUint64(k, uint64(b.expiry)+1)
	}
	return bucket{b.expiry, b.number + 1}.append(k)
}

// writer makes one atomic change of the store.
type writer struct {
	s       *Store
	b       *pebble.Batch
	changed map[bucket]usage
	next    uint64
	keys    [][]byte // of the indexes; in order they are laid into the tree at less cost
	arena   []byte
}

// add stores the rows of m that the policy keeps.
func (w *writer) add(m *Message, message []byte, now int64) (kept int, err error) {
	byExpiry := map[int64][]int{}
	for row, at := range w.s.keep.expiries(m) {
		if at > now {
			byExpiry[at] = append(byExpiry[at], row)
		}
	}
	for at, rows := range byExpiry {
		batch, block := &m.Batch, message
		if len(rows) < m.Rows {
			batch = m.Batch.pick(rows)
			block = NewEncoder(m.Source).Append(nil, batch)
		}
		if err := w.addBlock(at, batch, block, m.Published); err != nil {
			return kept, err
		}
		kept += len(rows)
	}
	return kept, nil
}

func (w *writer) addBlock(expiry int64, b *Batch, block []byte, published int64) error {
	s := w.s
	at := bucket{expiry, s.open[expiry]}
	u, ok := w.changed[at]
	if !ok {
		u = s.buckets[at]
	}
	if u.bytes > s.policy.MaxBytes/16 && at.number < math.MaxUint16 {
		s.open[expiry]++
		at.number++
		u = w.changed[at]
	}
	w.changed[at] = usage{u.rows + int64(b.N), u.bytes + int64(len(block)) + int64(b.N)*indexBytes}
	if err := w.b.Set(blockKey(keyBlock, at, w.next), block, nil); err != nil {
		return err
	}
	var head []byte
	for _, v := range []int64{slices.Min(b.Time), slices.Max(b.Time), published, int64(b.N)} {
		head = binary.BigEndian.AppendUint64(head, uint64(v))
	}
	if err := w.b.Set(blockKey(keyHead, at, w.next), head, nil); err != nil {
		return err
	}
	for row := range b.N {
		id := b.IDs[row]
		if id == "" {
			id = placeOf(&Message{Batch: *b}, row)
		}
		w.index(keyID, at, id, row)
		if r := b.Results[row]; len(r) > 0 {
			w.index(keyResult, at, alias(r), row)
		}
		if k := b.Keys[row]; k != "" {
			w.index(keyKey, at, k, row)
		}
	}
	w.next++
	return nil
}

// index takes note of a key of an index.
func (w *writer) index(sort byte, at bucket, text string, row int) {
	const size = 1 + bucketBytes + 8 + 8 + 2
	if cap(w.arena)-len(w.arena) < size {
		w.arena = make([]byte, 0, 64<<10) // keys keep those before
	}
	from := len(w.arena)
	k := binary.BigEndian.AppendUint64(at.append(append(w.arena, sort)), xxhash.Sum64String(text))
	w.arena = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(k, w.next), uint16(row))
	w.keys = append(w.keys, w.arena[from:])
}

func (w *writer) commit(partition int, next int64) error {
	slices.SortFunc(w.keys, bytes.Compare)
	for _, k := range w.keys {
		if err := w.b.Set(k, nil, nil); err != nil {
			return err
		}
	}
	for at, u := range w.changed {
		v := binary.BigEndian.AppendUint64(nil, uint64(u.rows))
		if err := w.b.Set(at.append([]byte{keyBucket}), binary.BigEndian.AppendUint64(v, uint64(u.bytes)), nil); err != nil {
			return err
		}
	}
	if err := w.b.Set([]byte{keyNext}, binary.BigEndian.AppendUint64(nil, w.next), nil); err != nil {
		return err
	}
	if err := w.b.Set(placeKey(partition), binary.BigEndian.AppendUint64(nil, uint64(next)), nil); err != nil {
		return err
	}
	// The log keeps the order of commits, and the place goes with what was taken: a crash
	// takes back whole commits, the last first, and what they held is read again.
	if err := w.b.Commit(pebble.NoSync); err != nil {
		return err
	}
	for at, u := range w.changed {
		w.s.buckets[at] = u
	}
	w.s.next = w.next
	w.s.places[partition] = next
	return nil
}
