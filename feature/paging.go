package feature

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"
)

// State larger than memory is paged by who owns the Windows, between calls:
//
//	Evict    hands over the coldest keys' state, to be stored, and drops it
//	Missing  and LabelKeys tell what a batch needs, to be brought back by Load before Update
//	DeltaKeys  the same before ApplyDelta
//
// A key brought back goes on bit for bit. Snapshots hold only keys in memory,
// and only those are dropped with age: the rest is the store's.

// paging is what is known of keys for the sake of paging.
type paging struct {
	batch uint32
	last  []uint32 // per key number: the batch that used it
	again []bool   // per key number: used since the hand came by
	hand  int
	away  index   // keys evicted; their ids are found by this number
	ids   idIndex // ids of their entries
}

func (p *paging) bytes() int {
	return 5*len(p.last) + p.away.memory() + p.ids.n*int(unsafe.Sizeof(idSlot{}))*3/2
}

func (p *paging) use(k uint32) {
	for int(k) >= len(p.last) {
		p.last, p.again = append(p.last, 0), append(p.again, false)
	}
	p.last[k], p.again[k] = p.batch, true
}

func (w *Windows) startPaging() *paging {
	if w.pages == nil {
		w.pages = &paging{batch: 1, away: newIndex(0), ids: newIDIndex()}
	}
	return w.pages
}

// Missing appends the rows whose key has no state in memory.
func (w *Windows) Missing(keys []string, dst []int32) []int32 {
	for i, key := range keys {
		if _, ok := w.index.find(key); !ok {
			dst = append(dst, int32(i))
		}
	}
	return dst
}

// LabelKeys appends the keys of evicted state that the labels may be about; it
// names one that they are not about where two ids have the same 64-bit hash.
// Joined ByKey, these are the labels' keys that are not in memory.
func (w *Windows) LabelKeys(b *Labels, dst []string) []string {
	for _, id := range b.IDs {
		switch {
		case w.join == ByKey:
			if _, ok := w.index.find(id); !ok {
				dst = append(dst, id)
			}
		case w.ids && w.pages != nil:
			hash, _ := hashID(id)
			dst = w.pages.keysOf(hash, dst)
		}
	}
	return dst
}

// keysOf appends the evicted keys with an entry of the hash.
func (p *paging) keysOf(hash uint64, dst []string) []string {
	mask := len(p.ids.slots) - 1
	for i := int(hash) & mask; p.ids.slots[i].key != 0; i = (i + 1) & mask {
		if s := p.ids.slots[i]; s.hash == hash && !slices.Contains(dst, p.away.key(s.key-1)) {
			dst = append(dst, strings.Clone(p.away.key(s.key-1)))
		}
	}
	return dst
}

// DeltaKeys appends the keys that must be in memory, if they have state at all,
// before the delta is applied. An error is of kind Corrupt.
func (w *Windows) DeltaKeys(delta []byte, dst []string) ([]string, error) {
	r := newReader(delta)
	d := &w.read
	w.readDelta(&r, d)
	if err := r.end(); err != nil {
		return dst, err
	}
	for _, key := range d.keys {
		if _, ok := w.index.find(unsafe.String(unsafe.SliceData(key), len(key))); !ok {
			dst = append(dst, string(key))
		}
	}
	if w.ids && w.pages != nil {
		for _, hash := range w.label.ids[0][:d.labels] {
			dst = w.pages.keysOf(hash, dst)
		}
	}
	return dst, nil
}

// AppendKey appends the state of a key, as a snapshot holds it; ok is false
// where it has none in memory.
func (w *Windows) AppendKey(dst []byte, key string) (out []byte, ok bool) {
	k, ok := w.index.find(key)
	if !ok || w.ring(k).start == w.ring(k).tail {
		return dst, false
	}
	return w.appendKey(append(dst, formatVersion), k), true
}

// readState decodes what AppendKey wrote.
func (w *Windows) readState(state []byte) (key string, err error) {
	r := newReader(state)
	if r.byte() != formatVersion || r.byte() != keyState {
		r.fail("no state of a key that this program reads")
	}
	text := r.text()
	if r.err == nil {
		w.readKey(&r)
	}
	if w.ids && r.err == nil {
		w.hashes = w.hashes[:0]
		for i := w.idAt; i < len(w.read.block); i += w.stride {
			w.hashes = append(w.hashes, w.read.block[i])
		}
	}
	return unsafe.String(unsafe.SliceData(text), len(text)), r.end()
}

// Load brings back the state of a key, replacing what it has. On an error, of
// kind Corrupt, nothing has changed.
func (w *Windows) Load(state []byte) error {
	key, err := w.readState(state)
	if err != nil {
		return err
	}
	w.unlist(key)
	w.restore(key)
	return nil
}

// Enlist makes the ids in a state that is not in memory known to LabelKeys, as
// Evict did: after a restart. On an error, of kind Corrupt, nothing has changed.
func (w *Windows) Enlist(state []byte) error {
	key, err := w.readState(state)
	if err != nil {
		return err
	}
	w.startPaging()
	w.unlist(key)
	if w.ids {
		w.enlist(key)
	}
	return nil
}

// Discard forgets what LabelKeys knows of a state that has been dropped from
// the store. On an error, of kind Corrupt, nothing has changed.
func (w *Windows) Discard(state []byte) error {
	key, err := w.readState(state)
	if err != nil {
		return err
	}
	w.unlist(key)
	return nil
}

// enlist makes the ids of a key that is away known.
func (w *Windows) enlist(key string) {
	p := w.pages
	n := p.away.add(key, p.away.hash(key))
	for _, h := range w.hashes {
		p.ids.put(h, n, 0)
	}
}

// unlist takes the ids of the state just read out of those that are away.
func (w *Windows) unlist(key string) {
	if w.pages == nil || !w.ids {
		return
	}
	p := w.pages
	if n, ok := p.away.find(key); ok {
		for _, h := range w.hashes {
			p.ids.remove(h, n, 0)
		}
		p.away.remove(n)
	}
}

// Evict takes the coldest keys out of memory until Bytes is at most budget or
// all that is left was used by the last Update, and hands the state of each to
// visit, which must not keep the slice and not call back. It ends at visit's first error; that
// key stays. Keys are chosen by a second-chance clock.
func (w *Windows) Evict(budget int64, visit func(key string, state []byte) error) error {
	p := w.startPaging()
	var state []byte
	// Twice round: the first time takes the second chances away.
	for steps := 2 * w.index.size(); steps > 0 && w.Bytes() > budget; steps-- {
		if p.hand >= w.index.size() {
			p.hand = 0
		}
		k := uint32(p.hand)
		p.hand++
		r := w.ring(k)
		if !r.used() || int(k) < len(p.last) && p.last[k] == p.batch {
			continue
		}
		if int(k) < len(p.last) && p.again[k] {
			p.again[k] = false
			continue
		}
		if r.start != r.tail {
			key := strings.Clone(w.index.key(k)) // visit may keep it
			state = w.appendKey(append(state[:0], formatVersion), k)
			if err := visit(key, state); err != nil {
				return fmt.Errorf("evict key %q: %w", key, err)
			}
			if w.ids {
				v := w.view(r)
				w.hashes = w.hashes[:0]
				for s := r.start; s != r.tail; s++ {
					w.hashes = append(w.hashes, v.at(s)[w.idAt])
				}
				w.enlist(key)
			}
		}
		w.forget(k)
	}
	return nil
}
