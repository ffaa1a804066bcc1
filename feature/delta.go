package feature

import (
	"encoding/binary"
	"math"
	"unsafe"
)

const (
	deltaRecord    = 'd'
	snapshotRecord = 's'
)

// appendRows writes the rows that were loaded: version, 'd', the number of
// rows, keys (as strings), times, columns.
func (w *Windows) appendRows(dst []byte, times []int64) []byte {
	dst = w.appendKeys(dst, w.numbers[:len(times)])
	dst = appendTimes(dst, times)
	return w.appendColumns(dst)
}

func (w *Windows) appendKeys(dst []byte, numbers []uint32) []byte {
	dst = append(dst, formatVersion, deltaRecord)
	dst = binary.AppendUvarint(dst, uint64(len(numbers)))
	w.local.begin(len(numbers))
	for _, k := range numbers {
		ref, fresh := w.local.ref(k)
		dst = binary.AppendUvarint(dst, uint64(ref))
		if fresh {
			dst = appendText(dst, w.index.key(k))
		}
	}
	return dst
}

// appendLabels writes the labels that found their event: their number, for each
// the row that it came before, as a difference, the two words of each id, and columns.
func (w *Windows) appendLabels(dst []byte) []byte {
	l := &w.label
	n := l.found
	dst = binary.AppendUvarint(dst, uint64(n))
	if n == 0 {
		return dst
	}
	prev := int64(0)
	for _, v := range l.before[:n] {
		dst = binary.AppendUvarint(dst, uint64(v-prev))
		prev = v
	}
	for _, ids := range l.ids {
		dst = w.appendWords(dst, asRaw, ids[:n])
	}
	for f := range w.labels {
		dst = w.appendWords(dst, formOf(w.labels[f].Kind), l.words[f][:n])
	}
	return appendNumbers(dst, l.mask[:n])
}

// appendChanges writes labels and moves: keys and times as of rows, marks of the
// moves, and the columns of the labels.
func (w *Windows) appendChanges(dst []byte) []byte {
	c := &w.changes
	dst = w.appendKeys(dst, c.keys)
	dst = appendTimes(dst, c.times)
	dst = appendNumbers(dst, c.moves)
	return w.appendColumns(dst)
}

// ApplyDelta replays the rows of one Update. Afterwards the state is as it was
// after that Update, provided that it was as before it. On an error, of kind
// Corrupt, nothing has changed.
func (w *Windows) ApplyDelta(delta []byte) error {
	r := newReader(delta)
	d := &w.read
	n := w.readDelta(&r, d)
	if err := r.end(); err != nil {
		return err
	}
	if w.pages != nil {
		w.pages.batch++
	}
	w.adopt(d, n)
	if w.ids {
		w.adoptLabels(d)
	}
	w.numbers = resize(w.numbers, len(d.keys))
	var texts [touchAhead]string
	for from := 0; from < len(d.keys); from += touchAhead {
		keys := texts[:min(touchAhead, len(d.keys)-from)]
		for i := range keys {
			key := d.keys[from+i]
			keys[i] = unsafe.String(unsafe.SliceData(key), len(key))
		}
		for i, h := range w.ahead.fetch(&w.index, keys) {
			w.numbers[from+i] = w.numberHashed(keys[i], h)
		}
	}
	w.replay(d)
	w.unload(n)
	if w.ids {
		w.unloadLabels(d.labels)
	}
	clear(d.keys)
	for _, texts := range [...][][][]byte{d.texts, d.labelTexts} {
		for f := range texts {
			clear(texts[f])
		}
	}
	return nil
}

// readDelta decodes a delta and returns the number of its entries.
func (w *Windows) readDelta(r *reader, d *decoded) int {
	r.header(deltaRecord)
	n := r.count()
	d.refs = resize(d.refs, n)
	d.keys = r.strings(d.refs, d.keys[:0])
	for _, ref := range d.refs {
		if ref == 0 {
			r.fail("row without a key")
			break
		}
	}
	if r.err != nil {
		return 0
	}
	d.times = resize(d.times, n)
	r.times(d.times)
	d.moves = resize(d.moves, n)
	if clear(d.moves); w.join == ByKey {
		r.numbers(d.moves)
		for _, m := range d.moves {
			if m > 1 {
				r.fail("neither a label nor a move")
			}
			n -= int(m & 1)
		}
	}
	if r.err != nil {
		return 0
	}
	r.columns(w, n, d)
	if w.ids && r.err == nil {
		w.readLabels(r, d, n)
	}
	return n
}

func (w *Windows) readLabels(r *reader, d *decoded, rows int) {
	d.labels = r.count()
	w.fitLabels(d.labels)
	l := &w.label
	if d.labels == 0 {
		return
	}
	prev := int64(0)
	for i := range l.before {
		v := r.uvarint()
		if v > uint64(rows) || prev+int64(v) > int64(rows) {
			r.fail("label behind the last row")
			return
		}
		prev += int64(v)
		l.before[i] = prev
	}
	for i := range l.ids {
		r.words(asRaw, l.ids[i], nil)
	}
	d.labelTexts = resize(d.labelTexts, len(w.labels))
	for f := range w.labels {
		if r.err != nil {
			return
		}
		d.labelTexts[f] = r.words(formOf(w.labels[f].Kind), l.words[f], d.labelTexts[f][:0])
	}
	r.numbers(l.mask)
}

// adoptLabels turns the references of decoded labels into numbers of the dictionary.
func (w *Windows) adoptLabels(d *decoded) {
	for f := range w.labels {
		if formOf(w.labels[f].Kind) == asStrings && d.labels > 0 {
			w.holdTexts(w.label.words[f], d.labelTexts[f])
		}
	}
}

// replay does what Update did, reading nothing out.
func (w *Windows) replay(d *decoded) {
	label, row := 0, 0
	var next [touchAhead]uint32
	for i, ref := range d.refs {
		if i%touchAhead == 0 {
			refs := d.refs[i:min(i+touchAhead, len(d.refs))]
			for j, ref := range refs {
				next[j] = w.numbers[ref-1]
			}
			w.touch(next[:len(refs)])
		}
		for ; w.ids && label < d.labels && w.label.before[label] <= int64(i); label++ {
			w.replayLabel(label)
		}
		k := w.numbers[ref-1]
		switch {
		case d.moves[i] != 0:
			w.move(k, d.times[i])
			continue
		case !w.push(k, d.times[i], row):
			w.insertLate(k, d.times[i], row, false)
		}
		row++
	}
	for ; w.ids && label < d.labels; label++ {
		w.replayLabel(label)
	}
	if w.join == ByKey {
		w.matched += uint64(row)
	}
}

func (w *Windows) replayLabel(j int) {
	if w.applyLabel(j) {
		w.matched++
	}
}

// appendMoments writes what follows from nothing else.
func appendMoments(dst []byte, m *moments) []byte {
	for _, v := range [...]float64{m.c, m.s1, m.l1, m.e1, m.s2, m.l2, m.e2} {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst
}

func (r *reader) moments() (m moments) {
	for _, v := range [...]*float64{&m.c, &m.s1, &m.l1, &m.e1, &m.s2, &m.l2, &m.e2} {
		*v = math.Float64frombits(r.fixed64())
	}
	return m
}
