package state

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/freshet-io/freshet/errkind"
)

// Config is what a store may take. A zero field takes its default.
type Config struct {
	// MaxKeyBytes bounds a key; 4 KiB by default.
	MaxKeyBytes int
	// MaxValueBytes bounds a value; 64 MiB by default.
	MaxValueBytes int
	// MaxBytes bounds the store on disk and in memory together; 0 is no bound.
	// It is looked at once for every 16 MiB applied, so it can be passed by that much.
	MaxBytes int64
}

// sizeCheckBytes is how much is applied between two looks at the store's size.
const sizeCheckBytes = 16 << 20

// Store is the face of a Driver that its callers hold: it divides the keys
// among the steps of tasks, keeps limits, and counts. It is safe for concurrent use.
//
// A key of the driver is either 0x00 and a space's name, with its number as the
// value, or 0x01, a space's number (4 bytes, big-endian) and the key in the space.
type Store struct {
	driver Driver
	config Config

	mu     sync.Mutex
	spaces map[string]*Space // the open ones
	ids    map[string]uint32 // every space that is in the driver
	next   uint32
	closed atomic.Bool

	unchecked atomic.Int64 // bytes applied since the last look at the size
	full      atomic.Bool
}

// New returns a store on d, which it owns from then on: Close closes it. The
// spaces that d holds already, after Thaw, are found again by their names.
func New(d Driver, c Config) (*Store, error) {
	if c.MaxKeyBytes <= 0 {
		c.MaxKeyBytes = 4 << 10
	}
	if c.MaxValueBytes <= 0 {
		c.MaxValueBytes = 64 << 20
	}
	s := &Store{driver: d, config: c, spaces: map[string]*Space{}, ids: map[string]uint32{}}
	bad := false
	err := d.Scan([]byte{0}, []byte{1}, func(key, value []byte) bool {
		if bad = len(value) != 4; bad {
			return false
		}
		id := binary.BigEndian.Uint32(value)
		s.ids[string(key[1:])] = id
		s.next = max(s.next, id+1)
		return true
	})
	if err == nil && bad {
		err = errkind.New(errkind.Corrupt, "the list of spaces is damaged: wipe the store, its state is restored from the changelog")
	}
	if err != nil {
		return nil, fmt.Errorf("open state store: %w", err)
	}
	return s, nil
}

// Space opens the part of the store that belongs to one step of a task. A space
// that is open already is a Conflict; one that an earlier process left, after
// Thaw, is given with its keys.
func (s *Store) Space(task, step string) (*Space, error) {
	if strings.IndexByte(task, 0) >= 0 || strings.IndexByte(step, 0) >= 0 {
		return nil, errkind.Errorf(errkind.Invalid, "open state space %q of %q: a name has a zero byte", step, task)
	}
	name := task + "\x00" + step
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return nil, err
	}
	if s.spaces[name] != nil {
		return nil, errkind.Errorf(errkind.Conflict, "open state space %q of %q: it is open already", step, task)
	}
	id, known := s.ids[name]
	if !known {
		id = s.next
		var b Batch
		b.Put(append([]byte{0}, name...), binary.BigEndian.AppendUint32(nil, id), 0)
		if err := s.driver.Apply(&b); err != nil {
			return nil, fmt.Errorf("open state space %q of %q: %w", step, task, err)
		}
		s.next++
		s.ids[name] = id
	}
	p := &Space{store: s, Task: task, Step: step, name: name, prefix: binary.BigEndian.AppendUint32([]byte{1}, id)}
	p.end = AfterPrefix(p.prefix)
	s.spaces[name] = p
	return p, nil
}

// Spaces lists the open spaces, by task and step.
func (s *Store) Spaces() []*Space {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Space, 0, len(s.spaces))
	for _, p := range s.spaces {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Space) int { return strings.Compare(a.name, b.name) })
	return all
}

// Stats is the size of the whole store.
func (s *Store) Stats() (Stats, error) {
	if err := s.alive(); err != nil {
		return Stats{}, err
	}
	return s.driver.Stats(nil, nil)
}

// Close closes the driver. Spaces are of no use any more; a second Close returns nil.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Swap(true) {
		return nil
	}
	if err := s.driver.Close(); err != nil {
		return fmt.Errorf("close state store: %w", err)
	}
	return nil
}

func (s *Store) alive() error {
	if s.closed.Load() {
		return errkind.New(errkind.Closed, "the state store is closed")
	}
	return nil
}

// room says whether n more bytes may be applied.
func (s *Store) room(n int) error {
	if s.config.MaxBytes <= 0 {
		return nil
	}
	if s.full.Load() || s.unchecked.Add(int64(n)) > sizeCheckBytes {
		s.unchecked.Store(int64(n))
		st, err := s.driver.Stats(nil, nil)
		if err != nil {
			return err
		}
		size := st.MemoryBytes + st.DiskBytes
		s.full.Store(size >= s.config.MaxBytes)
		if size >= s.config.MaxBytes {
			return errkind.Errorf(errkind.Exhausted,
				"the state store holds %d bytes of %d: give it more room, let keys expire sooner, or spread the partitions over more processes", size, s.config.MaxBytes)
		}
	}
	return nil
}
