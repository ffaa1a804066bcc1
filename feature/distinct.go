package feature

import (
	"hash/maphash"
	"strings"
)

// lastSeen remembers, for every key, field and value among the entries kept,
// the sequence number of the newest entry that has it. One such table serves all
// window lengths: a value is new to a window when its last entry lies before the
// window's head, and leaves it when the head passes its last entry.
type lastSeen struct {
	seed  uint64
	slots []seenSlot
	n     int
}

type seenSlot struct {
	value uint64
	key   uint32
	field uint32 // number + 1; 0 is an empty slot
	last  uint32
}

func newLastSeen() lastSeen {
	return lastSeen{seed: maphash.Bytes(maphash.MakeSeed(), nil), slots: make([]seenSlot, 16)}
}

func (t *lastSeen) home(key, field uint32, value uint64) int {
	h := t.seed ^ value*0x9e3779b97f4a7c15
	h ^= h >> 32
	h = (h ^ uint64(key)<<8 ^ uint64(field)) * 0xd6e8feb86659fd93
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return int((h ^ h>>32) & uint64(len(t.slots)-1))
}

// find returns the slot of the value, or nil.
func (t *lastSeen) find(key, field uint32, value uint64) *seenSlot {
	field++
	mask := len(t.slots) - 1
	for i := t.home(key, field, value); ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.field == 0 {
			return nil
		}
		if s.value == value && s.key == key && s.field == field {
			return s
		}
	}
}

// put enters a value that find did not know.
func (t *lastSeen) put(key, field uint32, value uint64, last uint32) {
	if (t.n+1)*4 > len(t.slots)*3 {
		old := t.slots
		t.slots = make([]seenSlot, 2*len(old))
		for i := range old {
			if old[i].field != 0 {
				t.place(old[i])
			}
		}
	}
	t.place(seenSlot{value: value, key: key, field: field + 1, last: last})
	t.n++
}

func (t *lastSeen) place(s seenSlot) {
	mask := len(t.slots) - 1
	i := t.home(s.key, s.field, s.value)
	for t.slots[i].field != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

// remove deletes the value; a value that is absent is left so.
func (t *lastSeen) remove(key, field uint32, value uint64) {
	field++
	mask := len(t.slots) - 1
	hole := t.home(key, field, value)
	for {
		s := &t.slots[hole]
		if s.field == 0 {
			return
		}
		if s.value == value && s.key == key && s.field == field {
			break
		}
		hole = (hole + 1) & mask
	}
	for i := (hole + 1) & mask; t.slots[i].field != 0; i = (i + 1) & mask {
		s := &t.slots[i]
		if home := t.home(s.key, s.field, s.value); (i-home)&mask >= (i-hole)&mask {
			t.slots[hole] = *s
			hole = i
		}
	}
	t.slots[hole] = seenSlot{}
	t.n--
}

// dictionary numbers the strings that entries hold; 0 stands for null. A string
// goes when the last entry with it does.
type dictionary struct {
	ids   map[string]uint32
	text  []string
	refs  []uint32
	free  []uint32
	bytes int
}

func newDictionary() dictionary {
	return dictionary{ids: map[string]uint32{}, text: []string{""}, refs: []uint32{1}}
}

// hold returns the string's number and counts one reference to it. The string
// is copied when it is new.
func (d *dictionary) hold(s string) uint64 {
	if id, ok := d.ids[s]; ok {
		d.refs[id]++
		return uint64(id)
	}
	s = strings.Clone(s)
	var id uint32
	if n := len(d.free); n > 0 {
		id = d.free[n-1]
		d.free = d.free[:n-1]
		d.text[id] = s
	} else {
		id = uint32(len(d.text))
		d.text = append(d.text, s)
		d.refs = append(d.refs, 0)
	}
	d.refs[id] = 1
	d.ids[s] = id
	d.bytes += len(s)
	return uint64(id)
}

func (d *dictionary) retain(id uint64) {
	if id != 0 {
		d.refs[id]++
	}
}

func (d *dictionary) drop(id uint64) {
	if id == 0 {
		return
	}
	d.refs[id]--
	if d.refs[id] == 0 {
		s := d.text[id]
		delete(d.ids, s)
		d.text[id] = ""
		d.free = append(d.free, uint32(id))
		d.bytes -= len(s)
	}
}
