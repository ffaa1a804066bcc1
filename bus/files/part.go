package files

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

const (
	openSuffix = ".open" // of the file of what is not in a finished one yet
	tempSuffix = ".temp" // of a file in the making
)

// part is what is being written of one partition.
type part struct {
	partKey
	dir    string
	format format

	mu     sync.Mutex
	file   *os.File // nil until the first record
	size   int64    // of what is valid in file
	rows   int
	first  int64     // position of the first record in file
	last   int64     // of the last one that is safe, in file or in a finished one; −1 at the beginning
	since  time.Time // of the first record in file
	broken error     // a sync failed, so that nobody knows what is on the disk
	buffer []byte
}

func (s *Sender) newPart(k partKey) *part {
	return &part{partKey: k, dir: s.dir, format: s.format, last: -1}
}

// escape makes a topic's name the beginning of a file's.
func escape(topic string) string {
	e := url.QueryEscape(topic)
	if strings.HasPrefix(e, ".") {
		e = "%2E" + e[1:]
	}
	return e
}

func (p *part) openName() string {
	return filepath.Join(p.dir, fmt.Sprintf(".%s-%05d%s", escape(p.topic), p.partition, openSuffix))
}

func (p *part) finishedName() string {
	return filepath.Join(p.dir, fmt.Sprintf("%s-%05d-%020d-%020d.%s", escape(p.topic), p.partition, p.first, p.last, p.format))
}

var (
	finishedNames = regexp.MustCompile(`^([^.].*)-(\d{5,9})-(\d{20})-(\d{20})\.(?:jsonl|parquet)$`)
	openNames     = regexp.MustCompile(`^\.(.+)-(\d{5,9})\` + openSuffix + `$`)
)

// A frame is a record in an open file: the length of the rest, the checksum of what follows
// it, the position, the length of the ID, the ID and the line.
const frameHead = 4 + 4 + 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendFrame(b []byte, position int64, id, line []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, frameHead)...)
	b = binary.AppendUvarint(b, uint64(len(id)))
	b = append(append(b, id...), line...)
	f := b[start:]
	binary.LittleEndian.PutUint32(f, uint32(len(f)-8))
	binary.LittleEndian.PutUint64(f[8:], uint64(position))
	binary.LittleEndian.PutUint32(f[4:], crc32.Checksum(f[8:], castagnoli))
	return b
}

// frame is a record read back. Its slices alias what it was read from.
type frame struct {
	position int64
	id, line []byte
}

// cutFrame takes the first frame off b; ok is false at the end and where b is torn.
func cutFrame(b []byte) (f frame, rest []byte, ok bool) {
	if len(b) < frameHead {
		return f, b, false
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	if n < 8 || n > uint64(len(b)-8) {
		return f, b, false
	}
	body := b[8 : 8+n]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return f, b, false
	}
	f.position = int64(binary.LittleEndian.Uint64(body))
	length, w := binary.Uvarint(body[8:])
	if w <= 0 || length > uint64(len(body)-8-w) {
		return f, b, false
	}
	start := 8 + w
	f.id, f.line = body[start:start+int(length)], body[start+int(length):]
	return f, b[8+n:], true
}

// append makes the frames of buffer, up to the position last, safe.
func (p *part) append(last int64) error {
	if p.broken != nil {
		return errkind.Errorf(errkind.Permanent, "an earlier write could not be synced to disk (%w): start again, so that what is there is read", p.broken)
	}
	if p.file == nil {
		f, err := os.OpenFile(p.openName(), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(0), syncFolder(p.dir)); err != nil {
			_ = f.Close()
			return err
		}
		p.file, p.size, p.rows = f, 0, 0
	}
	if _, err := p.file.WriteAt(p.buffer, p.size); err != nil {
		return errors.Join(err, p.file.Truncate(p.size))
	}
	if err := p.file.Sync(); err != nil {
		p.broken = err
		return errkind.With(errkind.Permanent, err)
	}
	for b, more := p.buffer, true; more; {
		var f frame
		if f, b, more = cutFrame(b); more {
			if p.rows == 0 {
				p.first, p.since = f.position, time.Now()
			}
			p.rows++
		}
	}
	p.size += int64(len(p.buffer))
	p.last = last
	return nil
}

// finish makes a finished file of the open one, and empties that.
func (p *part) finish() error {
	if p.rows == 0 || p.broken != nil {
		return p.broken
	}
	frames := make([]byte, p.size)
	if _, err := p.file.ReadAt(frames, 0); err != nil {
		return err
	}
	name := p.finishedName()
	temp := filepath.Join(p.dir, "."+filepath.Base(name)+tempSuffix)
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if p.format == parquet {
		err = writeParquet(out, frames)
	} else {
		err = writeLines(out, frames)
	}
	if err = errors.Join(err, out.Sync(), out.Close()); err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		_ = os.Remove(temp)
		return err
	}
	if err := syncFolder(p.dir); err != nil {
		p.broken = err // whether the file is there is known at the next start
		return err
	}
	// From here on the open file only repeats the finished one.
	if err := errors.Join(p.file.Truncate(0), p.file.Sync()); err != nil {
		p.broken = err
		return err
	}
	p.size, p.rows = 0, 0
	return nil
}

// close gives the open file up, and removes it where it is empty.
func (p *part) close() error {
	if p.file == nil {
		return nil
	}
	err := p.file.Close()
	if p.size == 0 {
		err = errors.Join(err, os.Remove(p.openName()))
	}
	p.file = nil
	return err
}

func writeLines(out *os.File, frames []byte) error {
	lines := make([]byte, 0, len(frames))
	for more := true; more; {
		var f frame
		if f, frames, more = cutFrame(frames); more {
			lines = append(append(lines, f.line...), '\n')
		}
	}
	_, err := out.Write(lines)
	return err
}

// oneLine is JSON text without line ends, which stand between values only.
func oneLine(b []byte) []byte {
	if bytes.IndexByte(b, '\n') < 0 && bytes.IndexByte(b, '\r') < 0 {
		return b
	}
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return b
	}
	return out.Bytes()
}

// recover learns from the folder how far each partition has been written.
func (s *Sender) recover() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return s.failed("open folder", err)
	}
	find := func(topic, partition string) *part {
		name, err := url.QueryUnescape(topic)
		n, err2 := strconv.Atoi(partition)
		if err != nil || err2 != nil {
			return nil
		}
		k := partKey{name, n}
		if s.parts[k] == nil {
			s.parts[k] = s.newPart(k)
		}
		return s.parts[k]
	}
	var open []*part
	for _, e := range entries {
		name := e.Name()
		if m := finishedNames.FindStringSubmatch(name); m != nil {
			last, err := strconv.ParseInt(m[4], 10, 64)
			if p := find(m[1], m[2]); p != nil && err == nil {
				p.last = max(p.last, last)
			}
		} else if m := openNames.FindStringSubmatch(name); m != nil {
			if p := find(m[1], m[2]); p != nil {
				open = append(open, p)
			}
		} else if strings.HasPrefix(name, ".") && strings.HasSuffix(name, tempSuffix) {
			if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return s.failed("open folder", err)
			}
		}
	}
	for _, p := range open {
		if err := p.reopen(); err != nil {
			return s.failed("open folder", fmt.Errorf("recover topic %q partition %d: %w", p.topic, p.partition, err))
		}
	}
	return nil
}

// reopen takes over an open file of an earlier sender.
func (p *part) reopen() error {
	b, err := os.ReadFile(p.openName())
	if err != nil {
		return err
	}
	p.buffer = p.buffer[:0]
	last := p.last
	for more := true; more; {
		var f frame
		if f, b, more = cutFrame(b); more && f.position > last {
			p.buffer = appendFrame(p.buffer, f.position, f.id, f.line)
			last = f.position
		}
	}
	if p.file, err = os.OpenFile(p.openName(), os.O_RDWR, 0o644); err != nil {
		return err
	}
	if len(p.buffer) == 0 { // all of it is in a finished file, or torn
		p.size, p.rows = 0, 0
		return errors.Join(p.file.Truncate(0), p.file.Sync())
	}
	// A finished file has all of an open one or nothing: so what is written here is what stands there.
	if err := p.append(last); err != nil {
		return err
	}
	return errors.Join(p.file.Truncate(p.size), p.file.Sync())
}

// syncFolder makes the names in a folder safe.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(syncDir(d), d.Close())
}
