package parquet

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	pq "github.com/apache/arrow-go/v18/parquet"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"
)

// Results of several tasks lie in their topics in runs of some thousands, so
// that hours come again and again until all tasks have passed them. Hours stay open
// until this many rows are in memory, this many hours are open, or they have this many ids.
const (
	heldRows  = 1 << 17
	openHours = 1 << 10
	knownIDs  = 1 << 22
)

// nsHour is an hour in nanoseconds.
const nsHour = int64(time.Hour)

// hour is an hour of event time that is being written.
type hour struct {
	start int64
	ids   map[id]struct{}
	buf   *buffer
	// file and part are there once rows were flushed.
	file output64
	part *part
	// models are those that scored the part's rows.
	models map[string]bool
	used   int64
}

// output64 is what is asked of a file.
type output64 interface {
	io.Writer
	Sync() error
	Close() error
}

// hours writes rows into the files of their hours.
type hours struct {
	dir     string
	schema  *schema
	group   *pqschema.GroupNode
	props   *pq.WriterProperties
	about   [][2]string
	digests map[string]string
	create  func(path string) (output64, error)

	open  map[int64]*hour
	parts map[int64]int // that were finished, by the hour's start
	spare []*buffer
	most  int // rows of a row group
	limit int // of held
	held  int // rows in memory
	known int // ids of open hours
	clock int64
	files int
	bytes int64
}

func hourOf(t int64) int64 {
	h := t / nsHour
	if t%nsHour < 0 {
		h--
	}
	return h * nsHour
}

// folder is where the hour's parts lie.
func (w *hours) folder(start int64) string {
	t := time.Unix(0, start).UTC()
	return filepath.Join(w.dir, t.Format("date=2006-01-02"), t.Format("hour=15"))
}

func (w *hours) path(start int64, part int) string {
	return filepath.Join(w.folder(start), fmt.Sprintf("part-%d.parquet", part))
}

// add writes a row unless its id is in its hour already.
func (w *hours) add(r *row) (fresh bool, err error) {
	start := hourOf(r.time())
	h := w.open[start]
	if h == nil {
		if h, err = w.begin(start); err != nil {
			return false, err
		}
	}
	w.clock++
	h.used = w.clock
	key := hashID(r.values[colID].text)
	if _, twice := h.ids[key]; twice {
		return false, nil
	}
	h.ids[key] = struct{}{}
	w.known++
	h.buf.appendRow(w.schema, r)
	w.held++
	if m := r.values[colModel]; m.set {
		// The conversion makes no string for a look-up.
		name := append(append(append(make([]byte, 0, 64), m.text...), '@'), r.values[colVersion].text...)
		if !h.models[string(name)] {
			h.models[string(name)] = true
		}
	}
	switch {
	case h.buf.rows >= w.most:
		return true, w.flush(h)
	case w.held > w.limit, w.known > knownIDs && len(w.open) > 1:
		return true, w.endOldest()
	}
	return true, nil
}

// endOldest closes the hour that was longest without a row.
func (w *hours) endOldest() error {
	var oldest *hour
	for _, h := range w.open {
		if oldest == nil || h.used < oldest.used {
			oldest = h
		}
	}
	return w.end(oldest)
}

// begin opens an hour.
func (w *hours) begin(start int64) (*hour, error) {
	if len(w.open) >= openHours {
		if err := w.endOldest(); err != nil {
			return nil, err
		}
	}
	h := &hour{start: start, ids: map[id]struct{}{}, models: map[string]bool{}}
	if k := len(w.spare); k > 0 {
		h.buf, w.spare = w.spare[k-1], w.spare[:k-1]
	} else {
		h.buf = &buffer{columns: make([]columnBuffer, len(w.schema.columns))}
	}
	for p := range w.parts[start] {
		if err := readIDs(w.path(start, p), func(i id) { h.ids[i] = struct{}{} }); err != nil {
			return nil, fmt.Errorf("read back %s: %w", w.path(start, p), err)
		}
	}
	w.known += len(h.ids)
	w.open[start] = h
	return h, nil
}

func (w *hours) openPart(h *hour) error {
	if err := os.MkdirAll(w.folder(h.start), 0o755); err != nil {
		return err
	}
	f, err := w.create(w.path(h.start, w.parts[h.start]))
	if err != nil {
		return err
	}
	h.file = f
	h.part, err = newPart(h.file, w.group, w.props)
	return err
}

func (w *hours) flush(h *hour) error {
	if h.buf.rows == 0 {
		return nil
	}
	if h.part == nil {
		if err := w.openPart(h); err != nil {
			return err
		}
	}
	if err := h.part.write(h.buf); err != nil {
		return fmt.Errorf("write %s: %w", w.path(h.start, w.parts[h.start]), err)
	}
	w.held -= h.buf.rows
	h.buf.reset()
	return nil
}

// end closes an hour's part.
func (w *hours) end(h *hour) error {
	err := w.flush(h)
	delete(w.open, h.start)
	w.known -= len(h.ids)
	switch {
	case h.file == nil: // it could not be made, or every row was there already
		w.spare = append(w.spare, h.buf)
		return err
	case err == nil:
		err = h.part.finish(w.about, h.models, w.digests)
	}
	if err == nil {
		err = h.file.Sync()
	}
	if err = errors.Join(err, h.file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", w.path(h.start, w.parts[h.start]), err)
	}
	w.files++
	w.bytes += h.part.pq.TotalBytesWritten()
	w.parts[h.start]++
	w.spare = append(w.spare, h.buf)
	return nil
}

// finish closes all hours, in order.
func (w *hours) finish() error {
	for _, start := range slices.Sorted(maps.Keys(w.open)) {
		if err := w.end(w.open[start]); err != nil {
			return err
		}
	}
	return nil
}

// abandon closes the files as they are.
func (w *hours) abandon() {
	for _, h := range w.open {
		if h.file != nil {
			_ = h.file.Close() // the folder goes away
		}
	}
	w.open = nil
}
