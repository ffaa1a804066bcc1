package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// Names that begin with a dot are no object names, so a file in the making is
// never listed. One this old was left by a process that died.
const (
	temporary    = ".making-"
	temporaryAge = 24 * time.Hour
)

// Folder is a state.Objects.
type Folder struct {
	root   string
	closed atomic.Bool
}

// Open returns the objects in the folder root, which it makes.
func Open(root string) (*Folder, error) {
	if root == "" {
		return nil, errkind.New(errkind.Config, "open object folder: it has no name; write file:///path")
	}
	abs, err := filepath.Abs(root)
	if err == nil {
		err = os.MkdirAll(abs, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("open object folder %s: %w", root, kinded(err))
	}
	return &Folder{root: abs}, nil
}

func (f *Folder) alive(ctx context.Context) error {
	if f.closed.Load() {
		return errkind.Errorf(errkind.Closed, "the object folder %s is closed", f.root)
	}
	return ctx.Err()
}

func kinded(err error) error {
	switch {
	case err == nil || errkind.Of(err) != errkind.Unknown:
		return err
	case errors.Is(err, fs.ErrNotExist):
		return errkind.With(errkind.NotFound, err)
	case errors.Is(err, fs.ErrExist):
		return errkind.With(errkind.Conflict, err)
	case errors.Is(err, fs.ErrPermission):
		return errkind.With(errkind.Config, err)
	case isDiskFull(err):
		return errkind.Errorf(errkind.Exhausted, "the disk is full: %w", err)
	case errors.Is(err, errors.ErrUnsupported):
		return errkind.With(errkind.Unsupported, err)
	}
	return errkind.With(errkind.Permanent, err)
}

func (f *Folder) path(name string) (string, error) {
	if err := state.CheckName(name); err != nil {
		return "", err
	}
	return filepath.Join(f.root, filepath.FromSlash(name)), nil
}

// Put is in state.Objects.
func (f *Folder) Put(ctx context.Context, name string, size int64, r io.Reader) error {
	return f.write(ctx, name, size, r, os.Rename)
}

// Create is in state.Objects: a hard link is the one operation that names a
// whole file and fails where the name is taken.
func (f *Folder) Create(ctx context.Context, name string, data []byte) error {
	return f.write(ctx, name, int64(len(data)), strings.NewReader(string(data)), os.Link)
}

func (f *Folder) write(ctx context.Context, name string, size int64, r io.Reader, publish func(from, to string) error) (err error) {
	if err := f.alive(ctx); err != nil {
		return err
	}
	path, err := f.path(name)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := f.makeDir(dir); err != nil {
		return kinded(err)
	}
	tmp, err := os.CreateTemp(dir, temporary+"*")
	if err != nil {
		return kinded(err)
	}
	defer func() {
		_ = tmp.Close()
		_ = os.Remove(tmp.Name()) // gone already where it was renamed
	}()
	n, err := io.Copy(tmp, &stoppable{ctx: ctx, r: io.LimitReader(r, size)})
	if err != nil {
		return kinded(err)
	}
	if n != size {
		return errkind.Errorf(errkind.Invalid, "object %s is to have %d bytes, its reader gave %d", name, size, n)
	}
	if err := tmp.Sync(); err != nil {
		return kinded(err)
	}
	if err := tmp.Close(); err != nil {
		return kinded(err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := publish(tmp.Name(), path); err != nil {
		return kinded(err)
	}
	return kinded(syncDir(dir))
}

// makeDir makes dir and those above it, durably, down from the root.
func (f *Folder) makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if dir != f.root {
		if err := f.makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// stoppable ends a copy soon after its context.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s *stoppable) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(b)
}

// Get is in state.Objects.
func (f *Folder) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := f.alive(ctx); err != nil {
		return nil, err
	}
	path, err := f.path(name)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, kinded(err)
	}
	if info, err := file.Stat(); err != nil || info.IsDir() {
		_ = file.Close()
		if err == nil {
			err = errkind.Errorf(errkind.NotFound, "object %s is a folder", name)
		}
		return nil, kinded(err)
	}
	return &reader{stoppable{ctx, file}, file}, nil
}

type reader struct {
	stoppable
	file *os.File
}

func (r *reader) Close() error { return r.file.Close() }

// List is in state.Objects. It removes old files that were never finished.
func (f *Folder) List(ctx context.Context, prefix string) ([]state.Object, error) {
	if err := f.alive(ctx); err != nil {
		return nil, err
	}
	if strings.Contains(prefix, "..") {
		return nil, errkind.Errorf(errkind.Invalid, "list %q: no object name contains '..'", prefix)
	}
	start := f.root
	if i := strings.LastIndexByte(prefix, '/'); i > 0 {
		start = filepath.Join(f.root, filepath.FromSlash(prefix[:i]))
	}
	var all []state.Object
	err := filepath.WalkDir(start, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(f.root, path)
		if err != nil || d.IsDir() {
			return err
		}
		name := filepath.ToSlash(rel)
		made := strings.HasPrefix(d.Name(), temporary)
		if !made && (!strings.HasPrefix(name, prefix) || state.CheckName(name) != nil) {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if made {
			if time.Since(info.ModTime()) > temporaryAge {
				_ = os.Remove(path)
			}
			return nil
		}
		all = append(all, state.Object{Name: name, Size: info.Size()})
		return nil
	})
	if err != nil {
		return nil, kinded(err)
	}
	slices.SortFunc(all, func(a, b state.Object) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Delete is in state.Objects.
func (f *Folder) Delete(ctx context.Context, name string) error {
	if err := f.alive(ctx); err != nil {
		return err
	}
	path, err := f.path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return kinded(err)
	}
	return nil
}

// Close is in state.Objects.
func (f *Folder) Close() error {
	f.closed.Store(true)
	return nil
}
