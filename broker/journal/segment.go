package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/freshet-io/freshet/errkind"
)

const (
	segmentSuffix = ".seg"
	indexSuffix   = ".idx"
	tmpSuffix     = ".tmp"
)

// segment is one file of the log. Its bytes have the log offsets from base on;
// the next segment's base is its base plus its size.
type segment struct {
	base uint64
	path string

	// Under Journal.view.
	size    int64 // durable bytes; final once sealed
	sealed  bool
	removed bool
	// active is the index while the segment is written to, and until its index
	// file exists.
	active segIndex

	// Under segmentCache.mu.
	file  File
	refs  int
	index segIndex // of a sealed segment, where loaded
	bytes int64    // memory of index
	used  uint64   // tick of the last use
	gone  bool     // removed: let go when the last reader leaves
}

func segmentName(base uint64) string { return fmt.Sprintf("%016x%s", base, segmentSuffix) }

// segmentBase is the inverse of segmentName.
func segmentBase(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	base, err := strconv.ParseUint(hex, 16, 64)
	return base, err == nil && segmentName(base) == name
}

func newSegment(dir string, base uint64) *segment {
	return &segment{base: base, path: filepath.Join(dir, segmentName(base))}
}

func (s *segment) indexPath() string { return strings.TrimSuffix(s.path, segmentSuffix) + indexSuffix }

// corrupt words damage at off of the segment's file.
func (s *segment) corrupt(off int64, reason error) error { return corruptAt(s.path, off, reason) }

func corruptAt(path string, off int64, reason error) error {
	return errkind.Errorf(errkind.Corrupt,
		"journal file %s is damaged at offset %d: %w: restore the folder from a copy, or see `freshet journal check`", path, off, reason)
}

// segmentCache keeps a bounded number of segment files open and of their
// indexes in memory. The active segment is held by the writer.
type segmentCache struct {
	fs       FS
	maxFiles int
	maxBytes int64

	mu     sync.Mutex
	closed bool
	loaded map[*segment]struct{}
	bytes  int64
	tick   uint64
}

// acquire returns the segment's open file, which stays open until release.
func (c *segmentCache) acquire(s *segment) (File, error) {
	c.mu.Lock()
	if s.file == nil {
		c.mu.Unlock()
		f, err := c.fs.OpenFile(s.path, os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		if s.file == nil {
			s.file = f
			c.note(s)
		} else {
			_ = f.Close()
		}
	}
	defer c.mu.Unlock()
	s.refs++
	c.tick++
	s.used = c.tick
	return s.file, nil
}

func (c *segmentCache) release(s *segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.refs--
	if s.refs == 0 && (c.closed || s.gone) {
		c.drop(s)
		return
	}
	c.evict()
}

// adopt takes the writer's file of a segment that has just been made; the writer
// holds it until it releases the segment.
func (c *segmentCache) adopt(s *segment, f File) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.file, s.refs = f, 1
	c.note(s)
}

// indexOf returns the index of a sealed segment, read from its file or rebuilt.
func (c *segmentCache) indexOf(s *segment) (segIndex, error) {
	c.mu.Lock()
	c.tick++
	s.used = c.tick
	x := s.index
	c.mu.Unlock()
	if x != nil {
		return x, nil
	}
	x, err := loadIndex(c.fs, s)
	if err != nil {
		return nil, err
	}
	c.putIndex(s, x)
	return x, nil
}

func (c *segmentCache) putIndex(s *segment, x segIndex) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.index != nil {
		return
	}
	s.index, s.bytes = x, x.memory()
	c.bytes += s.bytes
	c.note(s)
	c.evict()
}

func (c *segmentCache) note(s *segment) { c.loaded[s] = struct{}{} }

// evict lets go of the segments used longest ago until the bounds hold.
func (c *segmentCache) evict() {
	for len(c.loaded) > c.maxFiles || c.bytes > c.maxBytes {
		var oldest *segment
		for s := range c.loaded {
			if s.refs == 0 && (oldest == nil || s.used < oldest.used) {
				oldest = s
			}
		}
		if oldest == nil {
			return
		}
		c.drop(oldest)
	}
}

func (c *segmentCache) drop(s *segment) {
	if s.file != nil {
		_ = s.file.Close() // opened for reading, or synced before it came here
		s.file = nil
	}
	c.bytes -= s.bytes
	s.index, s.bytes = nil, 0
	delete(c.loaded, s)
}

// forget drops a segment that has been removed; a reader in it keeps its file to the end.
func (c *segmentCache) forget(s *segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.gone = true
	if s.refs == 0 {
		c.drop(s)
	}
}

// closeAll closes every file; those that a reader is in when it leaves.
func (c *segmentCache) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for s := range c.loaded {
		if s.refs == 0 {
			c.drop(s)
		}
	}
}

// loadIndex reads the index file of a sealed segment; where it is missing or
// bad the segment is read instead.
func loadIndex(fs FS, s *segment) (segIndex, error) {
	b, err := readWhole(fs, s.indexPath())
	if err == nil {
		if x, err := decodeIndex(b, s.base, s.size); err == nil {
			return x, nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read index %s: %w", s.indexPath(), err)
	}
	return rebuildIndex(fs, s)
}

func rebuildIndex(fs FS, s *segment) (segIndex, error) {
	f, err := fs.OpenFile(s.path, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	defer f.Close()
	sc := newScanner(f, s.base, s.size)
	x := segIndex{}
	for {
		at, h, body, err := sc.next()
		if err != nil {
			return nil, s.corrupt(at, err)
		}
		if body == nil {
			if at != s.size {
				return nil, s.corrupt(at, errFrameHead)
			}
			return x, nil
		}
		err = walkFrame(h, body, func(off int, b blockHead, _ []byte) error {
			if b.kind == kindRecords {
				x.add(keyOf(b.topic, b.partition), &b, at+frameHeader+int64(off))
			}
			return nil
		})
		if err != nil {
			return nil, s.corrupt(at, err)
		}
	}
}
