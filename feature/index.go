package feature

import (
	"hash/maphash"
	"math"
	"unsafe"
)

// index maps keys to dense numbers, which name their records: rows of words, a
// keyText first, then what the index's owner keeps of the key. Numbers of removed
// keys are used again. It has no pointers for the garbage collector to follow.
type index struct {
	seed    maphash.Seed
	slots   []uint64 // upper half: 32 bits of the hash; lower half: number + 1; 0 is empty
	records rows
	long    arena[uint64]
	free    []uint32
	bytes   int // of keys too long for keyText
}

// keyText is a key of up to 23 bytes, or where a longer one lies.
type keyText struct {
	block uint64 // of a longer key; else the first bytes
	size  uint32
	class uint8
	_     [10]byte
	short uint8 // length + 1, 0 for a longer key
}

const (
	keyTextWords = 3
	shortKey     = 8*keyTextWords - 1 // bytes
)

// newIndex makes an index whose owner keeps so many words of each key.
func newIndex(words int) index {
	return index{seed: maphash.MakeSeed(), slots: make([]uint64, 16), records: rows{size: keyTextWords + words}, long: arena[uint64]{stride: 1}}
}

func (x *index) len() int { return x.records.n - len(x.free) }

// size is one more than the greatest number given so far.
func (x *index) size() int { return x.records.n }

// memory is the bytes that the keys and their records take.
func (x *index) memory() int { return x.len()*(8*x.records.size+12) + x.bytes }

// key returns the key with a number, valid until the number is removed; "" of one that was.
func (x *index) key(number uint32) string {
	row := x.records.row(number)
	t := (*keyText)(unsafe.Pointer(&row[0]))
	if t.short > 0 {
		return unsafe.String((*byte)(unsafe.Pointer(t)), int(t.short)-1)
	}
	return unsafe.String((*byte)(unsafe.Pointer(&x.long.block(t.block, t.class)[0])), int(t.size))
}

func (x *index) hash(key string) uint32 { return uint32(maphash.String(x.seed, key)) }

// find returns the key's number; ok is false where it is absent.
func (x *index) find(key string) (number uint32, ok bool) { return x.lookup(key, x.hash(key)) }

// lookup is find for a key whose hash is known.
func (x *index) lookup(key string, h uint32) (number uint32, ok bool) {
	mask := uint32(len(x.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		s := x.slots[i]
		if s == 0 {
			return 0, false
		}
		if s>>32 == uint64(h) && x.key(uint32(s)-1) == key {
			return uint32(s) - 1, true
		}
	}
}

// add enters a copy of a key that lookup did not know, with a record of zeros. Records may move.
func (x *index) add(key string, h uint32) uint32 {
	if (x.len()+1)*4 > len(x.slots)*3 {
		x.grow()
	}
	var n uint32
	if f := len(x.free); f > 0 {
		n = x.free[f-1]
		x.free = x.free[:f-1]
	} else {
		n = uint32(x.records.n)
		x.records.add()
	}
	x.set(n, key)
	x.place(uint64(h)<<32 | uint64(n+1))
	return n
}

func (x *index) place(s uint64) {
	mask := uint32(len(x.slots) - 1)
	i := uint32(s>>32) & mask
	for x.slots[i] != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = s
}

// set stores a key's text.
func (x *index) set(number uint32, key string) {
	row := x.records.row(number)
	t := (*keyText)(unsafe.Pointer(&row[0]))
	if *t = (keyText{}); len(key) <= shortKey {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(t)), shortKey), key)
		t.short = uint8(len(key) + 1)
		return
	}
	words := uint32((len(key) + 7) / 8)
	for capacity(t.class) < words {
		t.class++
	}
	t.block, t.size = x.long.alloc(t.class), uint32(len(key))
	block := x.long.block(t.block, t.class)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&block[0])), 8*len(block)), key)
	x.bytes += 8 * len(block)
}

func (x *index) grow() {
	old := x.slots
	x.slots = make([]uint64, 2*len(old))
	for _, s := range old {
		if s != 0 {
			x.place(s)
		}
	}
}

// remove deletes the key with this number.
func (x *index) remove(number uint32) {
	mask := uint32(len(x.slots) - 1)
	hole := x.hash(x.key(number)) & mask
	for x.slots[hole]&math.MaxUint32 != uint64(number)+1 {
		if x.slots[hole] == 0 {
			return
		}
		hole = (hole + 1) & mask
	}
	// Move later members of the run back, so that no probe ends early.
	for i := (hole + 1) & mask; x.slots[i] != 0; i = (i + 1) & mask {
		if home := uint32(x.slots[i]>>32) & mask; (i-home)&mask >= (i-hole)&mask {
			x.slots[hole] = x.slots[i]
			hole = i
		}
	}
	x.slots[hole] = 0
	row := x.records.row(number)
	t := (*keyText)(unsafe.Pointer(&row[0]))
	if t.short == 0 {
		x.long.release(t.block, t.class)
		x.bytes -= 8 * int(capacity(t.class))
	}
	clear(row)
	t.short = 1 // the empty key
	x.free = append(x.free, number)
}

// prefetch is the numbers of a batch's keys on their way: with many keys each step
// waits for main memory, so that each is taken for several keys at once.
type prefetch struct {
	hashes  [touchAhead]uint32
	touched uint64 // keeps the compiler from dropping reads
}

// fetch hashes up to touchAhead keys and reads what finding them will need.
func (p *prefetch) fetch(x *index, keys []string) []uint32 {
	hashes := p.hashes[:len(keys)]
	mask := uint32(len(x.slots) - 1)
	sum := uint64(0)
	for i, key := range keys {
		hashes[i] = x.hash(key)
		sum ^= x.slots[hashes[i]&mask]
	}
	if x.records.n > chunkRows {
		for _, h := range hashes {
			if s := x.slots[h&mask]; s != 0 {
				sum ^= x.records.row(uint32(s) - 1)[0]
			}
		}
	}
	p.touched = sum
	return hashes
}
