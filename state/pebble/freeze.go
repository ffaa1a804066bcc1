package pebble

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// A frozen file is named TOKEN/NAME: the name is Pebble's, and the token, 16 random
// bytes, is of the store that wrote the file. Pebble numbers its tables and never
// uses a number twice, also after a checkpoint was opened elsewhere; what two
// stores make of one checkpoint is told apart by their tokens. Files other than
// tables are small and change: they carry the number of the Freeze in the token.
type freezing struct {
	token string
	n     int
	names map[string]string // of tables that came by Thaw, by Pebble's name
	out   *frozen
}

func newFreezing() freezing {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return freezing{token: hex.EncodeToString(b[:]), names: map[string]string{}}
}

type frozen struct {
	s     *Store
	dir   string
	files []state.FrozenFile
}

// Freeze is in state.Freezer: buffers are written out, and all tables linked
// into a folder of their own.
func (s *Store) Freeze() (state.Frozen, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	if s.freeze.out != nil {
		return nil, errkind.New(errkind.Conflict, "freeze the state store on disk: the last state frozen is not released")
	}
	f := &frozen{s: s, dir: s.frozenDir()}
	if err := f.fill(); err != nil {
		_ = os.RemoveAll(f.dir)
		return nil, fmt.Errorf("freeze the state store on disk: %w", kinded(err))
	}
	s.freeze.out = f
	return f, nil
}

func (f *frozen) fill() error {
	s := f.s
	if err := s.db.Flush(); err != nil {
		return err
	}
	if err := os.RemoveAll(f.dir); err != nil {
		return err
	}
	if err := s.db.Checkpoint(f.dir); err != nil {
		return err
	}
	s.freeze.n++
	list, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			return err
		}
		base := e.Name()
		if info.IsDir() || strings.HasSuffix(base, ".log") {
			continue // nothing is logged
		}
		name, ok := s.freeze.names[base]
		switch {
		case ok:
		case strings.HasSuffix(base, ".sst"):
			name = s.freeze.token + "/" + base
		default:
			name = fmt.Sprintf("%s-%d/%s", s.freeze.token, s.freeze.n, base)
		}
		f.files = append(f.files, state.FrozenFile{Name: name, Size: info.Size()})
	}
	return nil
}

func (f *frozen) Files() []state.FrozenFile { return f.files }

func (f *frozen) Open(name string) (io.ReadCloser, error) {
	r, err := os.Open(filepath.Join(f.dir, filepath.Base(name)))
	if err != nil {
		return nil, errkind.Errorf(errkind.Permanent, "open a frozen table: %w", err)
	}
	return r, nil
}

func (f *frozen) Release(bool) error {
	if f.s.freeze.out != f {
		return nil
	}
	f.s.freeze.out = nil
	if err := os.RemoveAll(f.dir); err != nil {
		return errkind.Errorf(errkind.Permanent, "release a frozen state: %w", err)
	}
	return nil
}

// Thaw is in state.Freezer. No other call may overlap with it.
func (s *Store) Thaw(ctx context.Context, names []string, open func(name string) (io.ReadCloser, error)) error {
	if err := s.alive(); err != nil {
		return err
	}
	empty := true
	if err := s.Scan(nil, nil, func(_, _ []byte) bool { empty = false; return false }); err != nil {
		return err
	}
	if !empty || s.freeze.out != nil {
		return errkind.New(errkind.Conflict, "thaw a state into the store on disk: it is not empty")
	}
	if err := s.db.Close(); err != nil {
		return kinded(err)
	}
	err := s.refill(ctx, names, open)
	if err != nil { // an empty store is better than none
		s.freeze = newFreezing()
		_ = os.RemoveAll(s.data())
	}
	db, oerr := pebble.Open(s.data(), s.options.pebbleOptions())
	if oerr != nil && err == nil { // what came is no checkpoint
		err = errkind.Errorf(errkind.Corrupt, "open what was thawed: %w", oerr)
		s.freeze = newFreezing()
		_ = os.RemoveAll(s.data())
		db, oerr = pebble.Open(s.data(), s.options.pebbleOptions())
	}
	if oerr != nil {
		s.closed.Store(true)
		return kinded(oerr)
	}
	s.db = db
	return err
}

func (s *Store) refill(ctx context.Context, names []string, open func(name string) (io.ReadCloser, error)) error {
	if err := os.RemoveAll(s.data()); err != nil {
		return kinded(err)
	}
	if err := os.MkdirAll(s.data(), perm); err != nil {
		return kinded(err)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		base := filepath.Base(name)
		if _, after, ok := strings.Cut(name, "/"); !ok || after != base || strings.HasPrefix(base, ".") {
			return errkind.Errorf(errkind.Corrupt, "a frozen file cannot be called %q", name)
		}
		if err := s.copyIn(name, base, open); err != nil {
			return fmt.Errorf("thaw table %s: %w", name, kinded(err))
		}
		if strings.HasSuffix(base, ".sst") {
			s.freeze.names[base] = name
		}
	}
	return nil
}

func (s *Store) copyIn(name, base string, open func(name string) (io.ReadCloser, error)) error {
	r, err := open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(filepath.Join(s.data(), base), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		_ = w.Close()
		return err
	}
	return w.Close()
}
