package journal

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// FS is the file system that a journal lives on. Names are full paths. Tests put
// one in that crashes; everybody else leaves Options.FS empty.
type FS interface {
	// OpenFile opens a file; flag is one of os.O_RDONLY, os.O_RDWR and
	// os.O_RDWR|os.O_CREATE|os.O_EXCL.
	OpenFile(name string, flag int) (File, error)
	// ReadDir lists the names in a folder, sorted.
	ReadDir(dir string) ([]string, error)
	// MkdirAll makes a folder with its parents.
	MkdirAll(dir string) error
	// Rename replaces newname by oldname, atomically.
	Rename(oldname, newname string) error
	// Remove unlinks a file.
	Remove(name string) error
	// SyncDir makes creations, renames and removals in a folder durable.
	SyncDir(dir string) error
	// Lock opens name, creating it where it is missing, and takes an exclusive
	// lock that ends with Close or with the process. A lock that another holds
	// is ErrLocked.
	Lock(name string) (File, error)
}

// File is an open file of an FS.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Truncate sets the length; growing fills with zeros.
	Truncate(size int64) error
	// Sync makes content and length durable.
	Sync() error
	// Size is the length in bytes.
	Size() (int64, error)
}

// ErrLocked is what FS.Lock returns for a lock that another process holds.
var ErrLocked = errors.New("locked by another process")

// osFS is the operating system's file system.
type osFS struct{}

type osFile struct{ *os.File }

func (osFS) OpenFile(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) MkdirAll(dir string) error            { return os.MkdirAll(dir, 0o750) }
func (osFS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }
func (osFS) Remove(name string) error             { return os.Remove(name) }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f osFile) Sync() error { return syncData(f.File) }

// readWhole reads a file that is known to be small.
func readWhole(fs FS, name string) ([]byte, error) {
	f, err := fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil && !(errors.Is(err, io.EOF) && n == 0) {
		return nil, err
	}
	return b, nil
}

// writeFile puts data under name in one step: a temporary file, synced, renamed
// over it. The folder is not synced.
func writeFile(fs FS, name string, data []byte) error {
	tmp := name + tmpSuffix
	f, err := createFile(fs, tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fs.Rename(tmp, name)
	}
	if err != nil {
		_ = fs.Remove(tmp)
	}
	return err
}

// createFile makes a new file, replacing a leftover of the same name.
func createFile(fs FS, name string) (File, error) {
	f, err := fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if errors.Is(err, os.ErrExist) {
		if err := fs.Remove(name); err != nil {
			return nil, err
		}
		f, err = fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	}
	return f, err
}

// base is the file's name without its folder, as messages show it beside the folder.
func base(name string) string { return filepath.Base(name) }
