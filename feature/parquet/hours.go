package parquet

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	pq "github.com/apache/arrow-go/v18/parquet"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"
)

// openHours is how many hours are written at the same time.
const openHours = 4

// nsHour is an hour in nanoseconds.
const nsHour = int64(time.Hour)

// hour is an hour of event time that is being written.
type hour struct {
	start int64
	ids   map[id]struct{}
	buf   *buffer
	file  output64
	part  *part
	used  int64
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
	if h.part == nil {
		if err := w.openPart(h); err != nil {
			return false, err
		}
	}
	h.buf.appendRow(w.schema, r)
	if m := r.values[colModel]; m.set {
		// The conversion makes no string for a look-up.
		name := append(append(append(make([]byte, 0, 64), m.text...), '@'), r.values[colVersion].text...)
		if !h.part.models[string(name)] {
			h.part.models[string(name)] = true
		}
	}
	if h.buf.rows == groupRows {
		return true, w.flush(h)
	}
	return true, nil
}

// begin opens an hour; the one that was longest without a row makes room.
func (w *hours) begin(start int64) (*hour, error) {
	if len(w.open) >= openHours {
		var oldest *hour
		for _, h := range w.open {
			if oldest == nil || h.used < oldest.used {
				oldest = h
			}
		}
		if err := w.end(oldest); err != nil {
			return nil, err
		}
	}
	h := &hour{start: start, ids: map[id]struct{}{}}
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
	w.open[start] = h
	return h, nil
}

func (w *hours) openPart(h *hour) error {
	if err := os.MkdirAll(w.folder(h.start), 0o755); err != nil {
		return err
	}
	var err error
	if h.file, err = w.create(w.path(h.start, w.parts[h.start])); err != nil {
		return err
	}
	h.part, err = newPart(h.file, w.group, w.props)
	return err
}

func (w *hours) flush(h *hour) error {
	if h.buf.rows == 0 {
		return nil
	}
	if err := h.part.write(h.buf); err != nil {
		return fmt.Errorf("write %s: %w", w.path(h.start, w.parts[h.start]), err)
	}
	h.buf.reset()
	return nil
}

// end closes an hour's part.
func (w *hours) end(h *hour) error {
	delete(w.open, h.start)
	if h.part == nil { // every row was there already
		w.spare = append(w.spare, h.buf)
		return nil
	}
	err := w.flush(h)
	if err == nil {
		err = h.part.finish(w.about, w.digests)
	}
	if err == nil {
		err = h.file.Sync()
	}
	if err = cmp.Or(err, h.file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", w.path(h.start, w.parts[h.start]), err)
	}
	w.files++
	w.bytes += h.part.pq.TotalBytesWritten()
	w.parts[h.start]++
	w.spare = append(w.spare, h.buf)
	return nil
}

// finish closes all hours.
func (w *hours) finish() error {
	for len(w.open) > 0 {
		var first *hour
		for _, h := range w.open {
			if first == nil || h.start < first.start {
				first = h
			}
		}
		if err := w.end(first); err != nil {
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
