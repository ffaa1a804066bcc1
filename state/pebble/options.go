package pebble

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options are what the program passes. A zero field takes its default.
type Options struct {
	// CacheBytes bounds the cache of blocks read; 64 MiB by default.
	CacheBytes int64
	// BufferBytes bounds a buffer of changes that were not written yet, of which
	// there are up to three; 32 MiB by default.
	BufferBytes int64
	// Logger hears of what goes wrong in the background; nil is silent.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.CacheBytes <= 0 {
		o.CacheBytes = 64 << 20
	}
	if o.BufferBytes <= 0 {
		o.BufferBytes = 32 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// pebbleOptions are those of a spill: no log, no syncs, filters at every level so that
// keys that are not there cost no read, and few stalls under bursts of writes.
func (o Options) pebbleOptions() *pebble.Options {
	p := &pebble.Options{
		CacheSize:                   o.CacheBytes,
		DisableWAL:                  true,
		FS:                          unsynced{vfs.Default},
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		Logger:                      logger{o.Logger},
		MaxOpenFiles:                512,
		MemTableSize:                uint64(o.BufferBytes),
		MemTableStopWritesThreshold: 3,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               256 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
	}
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		p.Levels[i].BlockSize = 8 << 10
		p.Levels[i].IndexBlockSize = 64 << 10
	}
	return p
}

// logger passes on what is wrong.
type logger struct{ l *slog.Logger }

func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.l.Error("state store on disk", "error", fmt.Sprintf(format, args...))
}

// Fatalf must not return: Pebble calls it where its files and its memory
// disagree. What the store holds is restored from the changelog at the next start.
func (l logger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.l.Error("state store on disk cannot go on", "error", msg)
	panic("pebble: " + msg)
}

// unsynced is a file system that never waits for the disk.
type unsynced struct{ vfs.FS }

// Unwrap is in vfs.FS.
func (u unsynced) Unwrap() vfs.FS { return u.FS }

// Create is in vfs.FS.
func (u unsynced) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return lazy(u.FS.Create(name, c))
}

// OpenReadWrite is in vfs.FS.
func (u unsynced) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return lazy(u.FS.OpenReadWrite(name, c, opts...))
}

// OpenDir is in vfs.FS.
func (u unsynced) OpenDir(name string) (vfs.File, error) { return lazy(u.FS.OpenDir(name)) }

// ReuseForWrite is in vfs.FS.
func (u unsynced) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return lazy(u.FS.ReuseForWrite(from, to, c))
}

func lazy(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return lazyFile{f}, nil
}

type lazyFile struct{ vfs.File }

func (lazyFile) Sync() error                { return nil }
func (lazyFile) SyncData() error            { return nil }
func (lazyFile) SyncTo(int64) (bool, error) { return false, nil }

// folderMark says that a folder is ours to empty.
const folderMark = "FRESHET-STATE"

const folderMarkText = "A state store of Freshet keeps what does not fit into memory here. It is emptied at every start.\n"

// perm is that of folders: state is the user's data.
const perm os.FileMode = 0o700
