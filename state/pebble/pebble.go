package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// Store is an ordered map on disk. It is a state.Freezer.
type Store struct {
	dir     string
	options Options
	lock    io.Closer
	db      *pebble.DB
	closed  atomic.Bool

	// expire keeps Apply out while Expire drops what it has looked at.
	expire sync.RWMutex
	freeze freezing
}

// Open empties the folder dir, which it makes, and returns a store there. A
// folder that holds something else is a Config error, one in use a Conflict.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{dir: dir, options: o.withDefaults()}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open state store %s: %w", dir, kinded(err))
	}
	return s, nil
}

func (s *Store) open() (err error) {
	if err := os.MkdirAll(s.dir, perm); err != nil {
		return err
	}
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	mark := filepath.Join(s.dir, folderMark)
	if _, err := os.Stat(mark); err != nil && len(names) > 0 {
		return errkind.New(errkind.Config, "the folder holds files that are not a state store's: it would be emptied; name another folder")
	}
	if err := os.WriteFile(mark, []byte(folderMarkText), 0o600); err != nil {
		return err
	}
	if s.lock, err = vfs.Default.Lock(filepath.Join(s.dir, "LOCK")); err != nil {
		return errkind.Errorf(errkind.Conflict, "another process uses the folder: %w", err)
	}
	defer func() {
		if err != nil {
			_ = s.lock.Close()
		}
	}()
	for _, part := range []string{s.data(), s.frozenDir()} {
		if err := os.RemoveAll(part); err != nil {
			return err
		}
	}
	s.freeze = newFreezing()
	s.db, err = pebble.Open(s.data(), s.options.pebbleOptions())
	return err
}

func (s *Store) data() string      { return filepath.Join(s.dir, "data") }
func (s *Store) frozenDir() string { return filepath.Join(s.dir, "frozen") }

func (s *Store) alive() error {
	if s.closed.Load() {
		return errkind.New(errkind.Closed, "the state store on disk is closed")
	}
	return nil
}

// kinded gives a kind to what Pebble and the disk return.
func kinded(err error) error {
	switch {
	case err == nil || errkind.Of(err) != errkind.Unknown:
		return err
	case pebble.IsCorruptionError(err):
		return errkind.Errorf(errkind.Corrupt, "%w: empty the folder, the state is restored from the changelog", err)
	case isDiskFull(err):
		return errkind.Errorf(errkind.Exhausted, "the disk is full: %w", err)
	case errors.Is(err, os.ErrPermission):
		return errkind.With(errkind.Config, err)
	}
	return errkind.With(errkind.Permanent, err)
}

// Load is in state.Driver. It seeks in the order of the keys, so that a batch
// walks the tree once.
func (s *Store) Load(keys [][]byte, found func(i int, value []byte)) error {
	if err := s.alive(); err != nil {
		return err
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		return kinded(err)
	}
	defer it.Close()
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(keys[a], keys[b]) })
	for _, i := range order {
		if !it.SeekPrefixGE(keys[i]) {
			continue // the filter said no, or the error is below
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return kinded(err)
		}
		_, value, ok := state.CutExpiry(v)
		if !ok {
			return damaged(keys[i])
		}
		found(i, value)
	}
	return kinded(it.Error())
}

func damaged(key []byte) error {
	return errkind.Errorf(errkind.Corrupt, "the value of key %x has no expiry: empty the folder, the state is restored from the changelog", key)
}

// Apply is in state.Driver.
func (s *Store) Apply(b *state.Batch) error {
	if err := s.alive(); err != nil {
		return err
	}
	s.expire.RLock()
	defer s.expire.RUnlock()
	pb := s.db.NewBatchWithSize(b.Size() + 24*b.Len())
	defer pb.Close()
	for i := range b.Len() {
		o := b.At(i)
		var err error
		switch o.Kind {
		case state.Put:
			var prefix [9]byte
			head := state.AppendExpiry(prefix[:0], o.Expires)
			d := pb.SetDeferred(len(o.Key), len(head)+len(o.Value))
			copy(d.Key, o.Key)
			copy(d.Value[copy(d.Value, head):], o.Value)
			err = d.Finish()
		case state.Delete:
			err = pb.Delete(o.Key, nil)
		case state.DeleteRange:
			if bytes.Compare(o.Key, o.Value) < 0 {
				err = pb.DeleteRange(o.Key, o.Value, nil)
			}
		}
		if err != nil {
			return kinded(err)
		}
	}
	return kinded(pb.Commit(pebble.NoSync))
}

// bounds are those of an iterator over from ≤ key < to.
func bounds(from, to []byte) *pebble.IterOptions {
	o := &pebble.IterOptions{}
	if len(from) > 0 {
		o.LowerBound = from
	}
	if len(to) > 0 {
		o.UpperBound = to
	}
	return o
}

// Scan is in state.Driver.
func (s *Store) Scan(from, to []byte, visit func(key, value []byte) bool) error {
	if err := s.alive(); err != nil {
		return err
	}
	it, err := s.db.NewIter(bounds(from, to))
	if err != nil {
		return kinded(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return kinded(err)
		}
		_, value, fine := state.CutExpiry(v)
		if !fine {
			return damaged(it.Key())
		}
		if !visit(it.Key(), value) {
			break
		}
	}
	return kinded(it.Error())
}

// Expire is in state.Driver.
func (s *Store) Expire(from, to []byte, now int64, limit int) (next []byte, err error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	s.expire.Lock()
	defer s.expire.Unlock()
	it, err := s.db.NewIter(bounds(from, to))
	if err != nil {
		return nil, kinded(err)
	}
	defer it.Close()
	gone := s.db.NewBatch()
	defer gone.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if limit <= 0 {
			next = bytes.Clone(it.Key())
			break
		}
		limit--
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, kinded(err)
		}
		expires, _, fine := state.CutExpiry(v)
		if !fine {
			return nil, damaged(it.Key())
		}
		if expires != 0 && expires <= now {
			if err := gone.Delete(it.Key(), nil); err != nil {
				return nil, kinded(err)
			}
		}
	}
	if err := it.Error(); err != nil {
		return nil, kinded(err)
	}
	if gone.Empty() {
		return next, nil
	}
	return next, kinded(gone.Commit(pebble.NoSync))
}

// Stats is in state.Driver. Keys are those of the tables that reach into the
// range, with earlier versions that are not compacted yet and without what is
// still in buffers.
func (s *Store) Stats(from, to []byte) (st state.Stats, err error) {
	if err := s.alive(); err != nil {
		return st, err
	}
	m := s.db.Metrics()
	st.MemoryBytes = m.BlockCache.Size + int64(m.MemTable.Size) + int64(m.MemTable.ZombieSize)
	opts := []pebble.SSTablesOption{pebble.WithProperties()}
	if len(from) > 0 || len(to) > 0 {
		if to == nil {
			to = bytes.Repeat([]byte{0xff}, 16)
		}
		disk, err := s.db.EstimateDiskUsage(from, to)
		if err != nil {
			return st, kinded(err)
		}
		st.DiskBytes = int64(disk)
		opts = append(opts, pebble.WithKeyRangeFilter(from, to))
	} else {
		st.DiskBytes = int64(m.DiskSpaceUsage())
	}
	levels, err := s.db.SSTables(opts...)
	if err != nil {
		return st, kinded(err)
	}
	for _, level := range levels {
		for _, t := range level {
			st.Keys += int64(t.Properties.NumEntries) - 2*int64(t.Properties.NumDeletions)
		}
	}
	st.Keys = max(st.Keys, 0)
	return st, nil
}

// Close is in state.Driver; what the folder holds is of no use any more.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.db.Close()
	_ = os.RemoveAll(s.data()) // the next Open does it otherwise
	_ = os.RemoveAll(s.frozenDir())
	return kinded(errors.Join(err, s.lock.Close()))
}
