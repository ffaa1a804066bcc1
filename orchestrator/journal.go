package orchestrator

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Journal is the record of rounds: a folder of files of lines, which are only added to. An
// entry is on disk when Append returns. Several processes may add to one journal: each holds the folder's
// lock while it writes, and learns then what others have written. What a crash leaves torn at the end of
// a file stays there and is passed over, as is every other line that does not match its checksum.
// It is safe for concurrent use.
type Journal struct {
	dir  string
	o    JournalOptions
	mu   sync.Mutex
	file *os.File // the last segment, to add to
	seq  uint64   // its number
	end  int64    // how far it is known
	torn bool     // it does not end with an end of line
	last uint64   // the latest id
	// foreign are entries of others that nobody has asked for yet.
	foreign []*Entry
	closed  bool
}

// JournalOptions bounds a journal. Zero values take the defaults.
type JournalOptions struct {
	// SegmentBytes is the size from which a new file is begun: 4 MiB.
	SegmentBytes int64
	// MaxBytes is the most that the folder may hold, MaxAge how long entries are kept:
	// 256 MiB and 90 days. The oldest file goes when a new one is begun; the latest two stay.
	MaxBytes int64
	MaxAge   time.Duration
	// NoSync leaves it to the operating system when entries reach the disk: for simulated runs.
	NoSync bool
}

const (
	segmentSuffix = ".ndjson"
	lockFile      = "lock"
	// maxForeign bounds the entries of others that are kept for Poll.
	maxForeign = 256
)

// OpenJournal opens the journal in a folder, which it makes.
func OpenJournal(dir string, o JournalOptions) (*Journal, error) {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 4 << 20
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 256 << 20
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 90 * 24 * time.Hour
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, journalError(dir, err)
	}
	j := &Journal{dir: dir, o: o}
	err := j.locked(func() error {
		seqs, err := segments(dir)
		if err != nil {
			return err
		}
		// The last file may hold no whole line: then the id is in the one before.
		for i := len(seqs) - 1; i >= 0 && j.last == 0; i-- {
			if j.last, err = lastID(j.path(seqs[i])); err != nil {
				return err
			}
		}
		if len(seqs) == 0 {
			return j.begin(1)
		}
		return j.continueAt(seqs[len(seqs)-1])
	})
	if err != nil {
		j.closeFile()
		return nil, journalError(dir, err)
	}
	return j, nil
}

// Append writes an entry and returns when it is on disk. It gives the entry its ID.
func (j *Journal) Append(e *Entry) error { return j.write(e, !j.o.NoSync) }

// Answer adds what the actuator answered to an entry. It is on disk with the next Append.
func (j *Journal) Answer(of uint64, a Act) error {
	return j.write(&Entry{Kind: KindAct, Time: a.Time, Of: of, Act: &a}, false)
}

// Outcome adds what came about to an entry. It is on disk with the next Append.
func (j *Journal) Outcome(of uint64, o Outcome) error {
	return j.write(&Entry{Kind: KindOutcome, Time: o.Until, Of: of, Outcome: &o}, false)
}

// Poll returns the entries that other processes have added since the last call, oldest first.
func (j *Journal) Poll() ([]*Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, errJournalClosed
	}
	if err := j.locked(j.catchUp); err != nil {
		return nil, journalError(j.dir, err)
	}
	f := j.foreign
	j.foreign = nil
	return f, nil
}

// Close closes the journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	err := j.sync(!j.o.NoSync)
	j.closeFile()
	if err != nil {
		return journalError(j.dir, err)
	}
	return nil
}

var errJournalClosed = errkind.New(errkind.Closed, "the journal of decisions is closed")

func (j *Journal) write(e *Entry, sync bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return errJournalClosed
	}
	err := j.locked(func() error {
		if err := j.catchUp(); err != nil {
			return err
		}
		if e.Kind != KindAct && e.Kind != KindOutcome {
			e.ID = j.last + 1
		}
		line := appendLine(nil, compact(e))
		if len(line) > maxLine {
			return errkind.Errorf(errkind.Exhausted, "an entry of %d bytes is too large", len(line))
		}
		if j.end > 0 && j.end+int64(len(line)) > j.o.SegmentBytes {
			if err := j.roll(e.Time); err != nil {
				return err
			}
		}
		if j.torn {
			line = append([]byte{'\n'}, line...)
		}
		n, err := j.file.Write(line)
		j.end += int64(n)
		j.torn = n < len(line) && (n > 0 || j.torn)
		if err == nil {
			err = j.sync(sync)
		}
		if err != nil {
			return err
		}
		j.last = max(j.last, e.ID)
		return nil
	})
	if err != nil {
		e.ID = 0
		return journalError(j.dir, err)
	}
	return nil
}

func (j *Journal) sync(really bool) error {
	if !really || j.file == nil {
		return nil
	}
	return j.file.Sync()
}

// catchUp reads what others have written behind what is known. The lock is held.
func (j *Journal) catchUp() error {
	if j.file == nil { // a new one could not be begun
		if err := j.openSegment(j.seq, os.O_CREATE); err != nil {
			return err
		}
	}
	for {
		st, err := os.Stat(j.path(j.seq))
		if errors.Is(err, fs.ErrNotExist) {
			// Somebody has emptied the folder.
			j.closeFile()
			return j.begin(j.seq + 1)
		}
		if err != nil {
			return err
		}
		if st.Size() < j.end {
			j.end = st.Size() // cut by somebody: go on at its end
		}
		if st.Size() > j.end {
			if err := j.readForeign(j.path(j.seq)); err != nil {
				return err
			}
		}
		if _, err := os.Stat(j.path(j.seq + 1)); err != nil {
			return nil
		}
		j.closeFile()
		if err := j.openSegment(j.seq+1, 0); err != nil {
			return err
		}
		j.end, j.torn = 0, false
	}
}

func (j *Journal) readForeign(path string) error {
	end, torn, err := scanFile(path, j.end, func(e *Entry) error {
		j.last = max(j.last, e.ID)
		if len(j.foreign) < maxForeign {
			j.foreign = append(j.foreign, e)
		}
		return nil
	}, nil)
	if err != nil {
		return err
	}
	j.end, j.torn = end, torn
	return nil
}

// roll begins a new file and lets the oldest go.
func (j *Journal) roll(now time.Time) error {
	if err := j.sync(!j.o.NoSync); err != nil {
		return err
	}
	j.closeFile()
	if err := j.begin(j.seq + 1); err != nil {
		return err
	}
	seqs, err := segments(j.dir)
	if err != nil {
		return err
	}
	total := int64(0)
	for i, seq := range slices.Backward(seqs) {
		st, err := os.Stat(j.path(seq))
		if err != nil {
			continue
		}
		total += st.Size()
		if i < len(seqs)-2 && (total > j.o.MaxBytes || now.Sub(st.ModTime()) > j.o.MaxAge) {
			if err := os.Remove(j.path(seq)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// begin makes a file.
func (j *Journal) begin(seq uint64) error {
	if err := j.openSegment(seq, os.O_CREATE); err != nil {
		return err
	}
	j.end, j.torn = 0, false
	if j.o.NoSync {
		return nil
	}
	return syncDir(j.dir)
}

// continueAt goes on at the end of a file.
func (j *Journal) continueAt(seq uint64) error {
	if err := j.openSegment(seq, 0); err != nil {
		return err
	}
	end, err := j.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	j.end, j.torn = end, false
	if end > 0 {
		b := make([]byte, 1)
		if _, err := j.file.ReadAt(b, end-1); err != nil {
			return err
		}
		j.torn = b[0] != '\n'
	}
	return nil
}

func (j *Journal) openSegment(seq uint64, flag int) error {
	f, err := os.OpenFile(j.path(seq), os.O_RDWR|os.O_APPEND|flag, 0o640)
	if err != nil {
		return err
	}
	j.file, j.seq = f, seq
	return nil
}

func (j *Journal) closeFile() {
	if j.file != nil {
		_ = j.file.Close() // everything was synced before
		j.file = nil
	}
}

func (j *Journal) path(seq uint64) string { return segmentPath(j.dir, seq) }

func segmentPath(dir string, seq uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%08d%s", seq, segmentSuffix))
}

// locked calls f while no other process writes.
func (j *Journal) locked(f func() error) error {
	unlock, err := lockDir(filepath.Join(j.dir, lockFile))
	if err != nil {
		return err
	}
	err = f()
	if uerr := unlock(); err == nil {
		err = uerr
	}
	return err
}
