package feature

import "hash/maphash"

// index maps keys to dense numbers. Numbers of removed keys are used again.
type index struct {
	seed  maphash.Seed
	slots []uint64 // upper half: the hash's upper half; lower half: number + 1; 0 is empty
	keys  []string
	free  []uint32
	bytes int // of all keys
}

func newIndex() index {
	return index{seed: maphash.MakeSeed(), slots: make([]uint64, 16)}
}

func (x *index) len() int { return len(x.keys) - len(x.free) }

// find returns the key's slot and number; ok is false, and slot a free one, where it is absent.
func (x *index) find(key string) (slot int, number uint32, ok bool) {
	h := maphash.String(x.seed, key)
	mask := len(x.slots) - 1
	for i := int(h) & mask; ; i = (i + 1) & mask {
		s := x.slots[i]
		if s == 0 {
			return i, 0, false
		}
		if s>>32 == h>>32 && x.keys[uint32(s)-1] == key {
			return i, uint32(s) - 1, true
		}
	}
}

// add enters a key that find did not know. The caller hands over a string that
// it will not change.
func (x *index) add(key string) uint32 {
	if (x.len()+1)*4 > len(x.slots)*3 {
		x.grow()
	}
	slot, _, _ := x.find(key)
	var n uint32
	if f := len(x.free); f > 0 {
		n = x.free[f-1]
		x.free = x.free[:f-1]
		x.keys[n] = key
	} else {
		n = uint32(len(x.keys))
		x.keys = append(x.keys, key)
	}
	x.slots[slot] = maphash.String(x.seed, key)>>32<<32 | uint64(n+1)
	x.bytes += len(key)
	return n
}

func (x *index) grow() {
	old := x.slots
	x.slots = make([]uint64, 2*len(old))
	mask := len(x.slots) - 1
	for _, s := range old {
		if s == 0 {
			continue
		}
		i := int(maphash.String(x.seed, x.keys[uint32(s)-1])) & mask
		for x.slots[i] != 0 {
			i = (i + 1) & mask
		}
		x.slots[i] = s
	}
}

// remove deletes the key with this number.
func (x *index) remove(number uint32) {
	hole, _, ok := x.find(x.keys[number])
	if !ok {
		return
	}
	x.bytes -= len(x.keys[number])
	mask := len(x.slots) - 1
	// Move later members of the run back, so that no probe ends early.
	for i := (hole + 1) & mask; x.slots[i] != 0; i = (i + 1) & mask {
		home := int(maphash.String(x.seed, x.keys[uint32(x.slots[i])-1])) & mask
		if (i-home)&mask >= (i-hole)&mask {
			x.slots[hole] = x.slots[i]
			hole = i
		}
	}
	x.slots[hole] = 0
	x.keys[number] = ""
	x.free = append(x.free, number)
}
