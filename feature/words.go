package feature

import (
	"math"

	"github.com/freshet-io/freshet/event"
)

// load turns the rows' columns into words, holding a reference to each string
// until unload. Columns of labels begin as rows without a label do.
func (w *Windows) load(fields []*event.Column, n int) {
	w.fillWords(n)
	mask := w.maskWords()
	for f := range w.columns {
		c := &w.columns[f]
		if c.label == (w.join == ByKey) {
			w.loadColumn(w.words[f], fields[c.source], c.Kind, mask, f)
		}
	}
}

// fillWords makes room for n entries and fills in labels as they begin.
func (w *Windows) fillWords(n int) {
	for f := range w.words {
		w.words[f] = resize(w.words[f], n)
	}
	mask := w.maskWords()
	clear(mask)
	if !w.ids {
		return
	}
	for f := range w.columns {
		c := &w.columns[f]
		if !c.label {
			continue
		}
		for i := range w.words[f] {
			w.words[f][i] = c.begin
		}
		if c.null && needsMask(c.Kind) {
			for i := range mask {
				mask[i] |= 1 << f
			}
		}
	}
}

// maskWords are the null marks among the words, or nil.
func (w *Windows) maskWords() []uint64 {
	if !w.masked {
		return nil
	}
	return w.words[w.maskAt-1]
}

// loadColumn turns len(dst) values into words; nulls of kinds that need it are bit f of the mask.
func (w *Windows) loadColumn(dst []uint64, c *event.Column, kind event.Kind, mask []uint64, f int) {
	switch kind {
	case event.Float:
		loadFloats(dst, c)
	case event.Int, event.Time:
		for i, v := range c.Ints[:len(dst)] {
			dst[i] = uint64(v)
		}
	case event.Bool:
		for i, v := range c.Bools[:len(dst)] {
			dst[i] = 0
			if v {
				dst[i] = 1
			}
		}
	case event.String:
		for i, v := range c.Strings[:len(dst)] {
			if dst[i] = 0; !c.IsNull(i) {
				dst[i] = w.dict.hold(v)
			}
		}
	}
	if c.Null == nil {
		return
	}
	for i, null := range c.Null[:len(dst)] {
		switch {
		case !null:
		case kind == event.Float:
			dst[i] = nullFloat
		case kind != event.String:
			dst[i] = 0
			mask[i] |= 1 << f
		}
	}
}

// unload gives back the references of n loaded entries.
func (w *Windows) unload(n int) {
	if !w.strings {
		return
	}
	for f := range w.columns {
		if w.columns[f].Kind == event.String {
			for _, id := range w.words[f][:n] {
				w.dict.drop(id)
			}
		}
	}
}

// write copies loaded row i into an entry.
func (w *Windows) write(e []uint64, t int64, i int) {
	e[0] = uint64(t)
	for f := range w.words {
		e[1+f] = w.words[f][i]
	}
}

// loadFloats takes integers and truth values as numbers too.
func loadFloats(dst []uint64, c *event.Column) {
	switch c.Kind {
	case event.Int:
		for i, v := range c.Ints[:len(dst)] {
			dst[i] = floatWord(float64(v))
		}
	case event.Bool:
		for i, v := range c.Bools[:len(dst)] {
			dst[i] = 0
			if v {
				dst[i] = math.Float64bits(1)
			}
		}
	default:
		for i, v := range c.Floats[:len(dst)] {
			dst[i] = floatWord(v)
		}
	}
}

// floatWord is a value as entries hold it: one null for NaN and the infinities,
// one zero.
func floatWord(v float64) uint64 {
	if v-v != 0 {
		return nullFloat
	}
	return math.Float64bits(v + 0)
}

// valid reports whether the entry has a value in the column.
func (w *Windows) valid(e []uint64, col int) bool {
	switch v := e[1+col]; w.columns[col].Kind {
	case event.Float:
		return v != nullFloat
	case event.String:
		return v != 0
	default:
		return e[w.maskAt]>>col&1 == 0
	}
}
