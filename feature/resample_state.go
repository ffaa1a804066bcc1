package feature

import (
	"encoding/binary"
	"math"
	"slices"
	"unsafe"

	"github.com/freshet-io/freshet/event"
)

// Changes and snapshots have one form: version, kind of record, in a snapshot the
// newest time of any reading, then keys. A key is a tag, its text and, unless it
// was dropped, the time of its newest reading, which fields are known, and for
// each of those how much older its newest reading is, and the value.
const (
	seriesDelta    = 'r'
	seriesSnapshot = 'R'
)

// noCall marks keys that no call has changed.
const noCall = 1

// begin starts a call that will change keys.
func (r *Resampler) begin() {
	r.changed = r.changed[:0]
	if r.call++; r.call == 0 {
		// Marks of old calls must not look like those of this one.
		for k := range r.marks {
			r.marks[k] = min(r.marks[k], noCall)
		}
		r.call = noCall + 1
	}
}

// change notes that this call has changed the key.
func (r *Resampler) change(k uint32) {
	if r.marks[k] != r.call {
		r.marks[k] = r.call
		r.changed = append(r.changed, k)
	}
}

// add gives state to a key that the index does not know.
func (r *Resampler) add(key string) uint32 {
	k := r.index.add(key, r.index.hash(key))
	if int(k) == len(r.newest) {
		r.newest = append(r.newest, 0)
		r.known = append(r.known, 0)
		r.marks = append(r.marks, 0)
		r.times = extend(r.times, len(r.fields))
		r.words = extend(r.words, len(r.fields))
		if slices.ContainsFunc(r.fields, func(f ResampleField) bool { return f.Kind == event.String }) {
			r.texts = extend(r.texts, len(r.fields))
		}
	}
	r.known[k], r.marks[k] = 0, noCall
	return k
}

// forget drops a key.
func (r *Resampler) forget(k uint32) {
	r.index.remove(k)
	r.marks[k] = 0
	if r.texts != nil {
		clear(r.texts[int(k)*len(r.fields):][:len(r.fields)])
	}
}

// appendDelta writes the keys that this call changed, or nothing where there are none.
func (r *Resampler) appendDelta(dst []byte) []byte {
	if len(r.changed) == 0 {
		return dst
	}
	dst = append(dst, formatVersion, seriesDelta)
	for _, k := range r.changed {
		dst = r.appendKey(dst, k)
	}
	return dst
}

func (r *Resampler) appendKey(dst []byte, k uint32) []byte {
	dst = appendText(append(dst, keyState), r.index.key(k))
	dst = binary.AppendUvarint(dst, zigzag(r.newest[k]))
	dst = binary.AppendUvarint(dst, r.known[k])
	for f := range r.fields {
		if r.known[k]>>f&1 == 0 {
			continue
		}
		slot := int(k)*len(r.fields) + f
		dst = binary.AppendUvarint(dst, uint64(r.newest[k])-uint64(r.times[slot]))
		switch r.fields[f].Kind {
		case event.Float:
			dst = binary.LittleEndian.AppendUint64(dst, r.words[slot])
		case event.String:
			dst = appendText(dst, r.texts[slot])
		default:
			dst = binary.AppendUvarint(dst, zigzag(int64(r.words[slot])))
		}
	}
	return dst
}

// ApplyDelta is State.ApplyDelta.
func (r *Resampler) ApplyDelta(delta []byte) error { return r.apply(delta, seriesDelta) }

// ApplySnapshot is State.ApplySnapshot. It also drops the keys that the snapshot dropped.
func (r *Resampler) ApplySnapshot(b []byte) error { return r.apply(b, seriesSnapshot) }

func (r *Resampler) apply(b []byte, kind byte) error {
	if err := r.walk(b, kind, false); err != nil {
		return err
	}
	return r.walk(b, kind, true)
}

// walk reads a record and, if asked to, makes it the state.
func (r *Resampler) walk(b []byte, kind byte, apply bool) error {
	in := newReader(b)
	in.header(kind)
	if kind == seriesSnapshot {
		if watermark := unzigzag(in.uvarint()); apply {
			r.watermark = max(r.watermark, watermark)
		}
	}
	for in.err == nil && len(in.b) > 0 {
		tag := in.byte()
		text := in.text()
		key := unsafe.String(unsafe.SliceData(text), len(text))
		switch {
		case tag == keyState:
			r.readKey(&in, key, apply)
		case tag == keyEvicted && kind == seriesSnapshot:
			if k, ok := r.index.find(key); ok && apply {
				r.forget(k)
			}
		default:
			in.fail("unknown kind of key record")
		}
	}
	return in.end()
}

func (r *Resampler) readKey(in *reader, key string, apply bool) {
	newest := unzigzag(in.uvarint())
	known := in.uvarint()
	if len(r.fields) < maxFields && known>>len(r.fields) != 0 {
		in.fail("a field that the series does not have")
		return
	}
	k := uint32(0)
	if apply {
		var ok bool
		if k, ok = r.index.find(key); !ok {
			k = r.add(key)
		}
		r.newest[k], r.known[k] = newest, 0
		r.watermark = max(r.watermark, newest)
	}
	for f := range r.fields {
		if known>>f&1 == 0 {
			continue
		}
		age := in.uvarint()
		if age > uint64(newest)-1<<63 {
			in.fail("a reading before all time")
			return
		}
		word, text := r.readValue(in, r.fields[f].Kind)
		if apply {
			r.set(k, f, int64(uint64(newest)-age), word, text)
		}
	}
}

// readValue decodes a value; the text is the record's.
func (r *Resampler) readValue(in *reader, kind event.Kind) (word uint64, text string) {
	switch kind {
	case event.Float:
		word = in.fixed64()
		if v := math.Float64frombits(word); v-v != 0 {
			in.fail("a number that is never stored")
		}
	case event.String:
		b := in.text()
		text = unsafe.String(unsafe.SliceData(b), len(b))
	default:
		word = uint64(unzigzag(in.uvarint()))
		if kind == event.Bool && word > 1 {
			in.fail("a boolean that is neither true nor false")
		}
	}
	return word, text
}

// BeginSnapshot is State.BeginSnapshot.
func (r *Resampler) BeginSnapshot() { r.cursor, r.end = 0, r.index.size() }

// AppendSnapshot is State.AppendSnapshot. It also drops keys that have been
// silent, against the newest reading of any key, for a quarter longer than the
// limit and what is retained: no row can need them any more.
func (r *Resampler) AppendSnapshot(dst []byte, budget int) (out []byte, done bool) {
	stop := len(dst) + budget
	dst = append(dst, formatVersion, seriesSnapshot)
	dst = binary.AppendUvarint(dst, zigzag(r.watermark))
	for first := true; r.cursor < r.end && (first || len(dst) < stop); r.cursor++ {
		k := uint32(r.cursor)
		if r.marks[k] == 0 {
			continue // no key has this number now
		}
		first = false
		if silence := uint64(r.watermark) - uint64(r.newest[k]); silence-silence/5 >= r.limit+r.retain {
			dst = appendText(append(dst, keyEvicted), r.index.key(k))
			r.forget(k)
			continue
		}
		dst = r.appendKey(dst, k)
	}
	return dst, r.cursor >= r.end
}
