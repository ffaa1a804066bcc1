package memory

import (
	"sync"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// Store is an ordered map in memory. It is a state.Freezer.
type Store struct {
	mu     sync.RWMutex
	t      tree
	closed bool
	layers layers
}

// Open returns an empty store.
func Open() *Store { return &Store{layers: newLayers()} }

func (s *Store) alive() error {
	if s.closed {
		return errkind.New(errkind.Closed, "the store in memory is closed")
	}
	return nil
}

// view returns the tree as it is now, which does not change any more.
func (s *Store) view() (*node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return nil, err
	}
	return s.t.share(), nil
}

// Load is in state.Driver.
func (s *Store) Load(keys [][]byte, found func(i int, value []byte)) error {
	values := make([][]byte, len(keys))
	s.mu.RLock()
	err := s.alive()
	if err == nil {
		for i, k := range keys {
			if it := s.t.root.get(string(k)); it != nil {
				values[i] = it.value
			}
		}
	}
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	for i, v := range values {
		if v != nil {
			found(i, v)
		}
	}
	return nil
}

// Apply is in state.Driver.
func (s *Store) Apply(b *state.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return err
	}
	for i := range b.Len() {
		o := b.At(i)
		switch o.Kind {
		case state.Put:
			key := string(o.Key)
			s.t.put(item{key: key, value: append(make([]byte, 0, len(o.Value)), o.Value...), expires: o.Expires})
			s.layers.touch(key)
		case state.Delete:
			s.remove(string(o.Key))
		case state.DeleteRange:
			var keys []string
			if string(o.Key) < string(o.Value) {
				s.t.root.ascend(string(o.Key), string(o.Value), func(it *item) bool {
					keys = append(keys, it.key)
					return true
				})
			}
			for _, k := range keys {
				s.remove(k)
			}
		}
	}
	return nil
}

func (s *Store) remove(key string) {
	s.t.remove(key)
	s.layers.touch(key)
}

// Scan is in state.Driver.
func (s *Store) Scan(from, to []byte, visit func(key, value []byte) bool) error {
	root, err := s.view()
	if err != nil {
		return err
	}
	var key []byte
	root.ascend(string(from), string(to), func(it *item) bool {
		key = append(key[:0], it.key...)
		return visit(key, it.value)
	})
	return nil
}

// Expire is in state.Driver.
func (s *Store) Expire(from, to []byte, now int64, limit int) (next []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return nil, err
	}
	var gone []string
	s.t.root.ascend(string(from), string(to), func(it *item) bool {
		if limit <= 0 {
			next = []byte(it.key)
			return false
		}
		limit--
		if it.expires != 0 && it.expires <= now {
			gone = append(gone, it.key)
		}
		return true
	})
	for _, k := range gone {
		s.remove(k)
	}
	return next, nil
}

// Stats is in state.Driver; it counts.
func (s *Store) Stats(from, to []byte) (st state.Stats, err error) {
	s.mu.Lock()
	if err := s.alive(); err != nil {
		s.mu.Unlock()
		return st, err
	}
	if from == nil && to == nil {
		st = state.Stats{Keys: s.t.keys, MemoryBytes: s.t.bytes}
		s.mu.Unlock()
		return st, nil
	}
	root := s.t.share()
	s.mu.Unlock()
	root.ascend(string(from), string(to), func(it *item) bool {
		st.Keys++
		st.MemoryBytes += it.bytes()
		return true
	})
	return st, nil
}

// Close is in state.Driver.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.t = tree{}
	return nil
}
