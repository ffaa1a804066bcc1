package feature

import (
	"encoding/binary"
	"unsafe"
)

const (
	deltaRecord    = 'd'
	snapshotRecord = 's'
)

// appendDelta writes the rows that were loaded: version, 'd', the number of
// rows, keys (as strings), times, columns.
func (w *Windows) appendDelta(dst []byte, times []int64) []byte {
	dst = append(dst, formatVersion, deltaRecord)
	dst = binary.AppendUvarint(dst, uint64(len(times)))
	w.local.begin(len(times))
	for _, k := range w.numbers[:len(times)] {
		ref, fresh := w.local.ref(k)
		dst = binary.AppendUvarint(dst, uint64(ref))
		if fresh {
			dst = appendText(dst, w.index.keys[k])
		}
	}
	dst = appendTimes(dst, times)
	return w.appendColumns(dst)
}

// ApplyDelta replays the rows of one Update. Afterwards the state is as it was
// after that Update, provided that it was as before it. On an error, of kind
// Corrupt, nothing has changed.
func (w *Windows) ApplyDelta(delta []byte) error {
	r := newReader(delta)
	d := &w.read
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
	if r.err == nil {
		d.times = resize(d.times, n)
		r.times(d.times)
		r.columns(w, n, d)
	}
	if err := r.end(); err != nil {
		return err
	}
	w.adopt(d)
	w.numbers = resize(w.numbers, len(d.keys))
	for i, key := range d.keys {
		w.numbers[i] = w.number(unsafe.String(unsafe.SliceData(key), len(key)))
	}
	for i, ref := range d.refs {
		k := w.numbers[ref-1]
		if !w.push(k, d.times[i], i) {
			w.insertLate(k, d.times[i], i, false)
		}
	}
	w.unload(n)
	clear(d.keys)
	for f := range d.texts {
		clear(d.texts[f])
	}
	return nil
}
