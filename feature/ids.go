package feature

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// idIndex finds the entries of an event by the first half of its id's hash. An
// entry leaves it with the ring, so it is as large as the entries kept.
type idIndex struct {
	slots []idSlot
	n     int
}

// idSlot says that key has an entry with the hash at sequence number seq or,
// after older rows came in late, behind it.
type idSlot struct {
	hash uint64
	key  uint32 // number + 1; 0 is an empty slot
	seq  uint32
}

func newIDIndex() idIndex { return idIndex{slots: make([]idSlot, 16)} }

func (x *idIndex) put(hash uint64, key, seq uint32) {
	if (x.n+1)*4 > len(x.slots)*3 {
		old := x.slots
		x.slots = make([]idSlot, 2*len(old))
		for i := range old {
			if old[i].key != 0 {
				x.place(old[i])
			}
		}
	}
	x.place(idSlot{hash, key + 1, seq})
	x.n++
}

func (x *idIndex) place(s idSlot) {
	mask := len(x.slots) - 1
	i := int(s.hash) & mask
	for x.slots[i].key != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = s
}

// remove takes out the key's oldest entry with the hash; the key's ring begins at start.
func (x *idIndex) remove(hash uint64, key, start uint32) {
	mask := len(x.slots) - 1
	hole := -1
	for i := int(hash) & mask; x.slots[i].key != 0; i = (i + 1) & mask {
		s := &x.slots[i]
		if s.hash == hash && s.key == key+1 && (hole < 0 || int32(s.seq-x.slots[hole].seq) < 0) {
			hole = i
		}
	}
	if hole < 0 {
		return
	}
	for i := (hole + 1) & mask; x.slots[i].key != 0; i = (i + 1) & mask {
		if home := int(x.slots[i].hash) & mask; (i-home)&mask >= (i-hole)&mask {
			x.slots[hole] = x.slots[i]
			hole = i
		}
	}
	x.slots[hole] = idSlot{}
	x.n--
}

// hashID gives an event's id two words that stand for it from then on, in memory,
// deltas and snapshots: 128 bits, so that among 2⁴⁰ labels and 2³⁰ entries one label
// finds a stranger with a probability below 2⁻⁵⁸. Each word is a chain of
// multiplications whose 128-bit products are folded (after Wang Yi's wyhash), with constants of its own.
func hashID(id string) (a, b uint64) {
	const (
		a1, a2 = 0xa0761d6478bd642f, 0xe7037ed1a0b428db
		b1, b2 = 0x8ebc6af09c88c6e3, 0x589965cc75374cc3
	)
	a, b = a1^uint64(len(id)), b1^uint64(len(id))
	p := unsafe.Slice(unsafe.StringData(id), len(id))
	for len(p) > 16 {
		x, y := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
		a, b = fold(x^a2, y^a), fold(x^b, y^b2)
		p = p[16:]
	}
	var last [16]byte
	copy(last[:], p)
	x, y := binary.LittleEndian.Uint64(last[:]), binary.LittleEndian.Uint64(last[8:])
	a, b = fold(x^a2, y^a), fold(x^b, y^b2)
	return fold(a^a1, b2), fold(b^b1, a2)
}

func fold(x, y uint64) uint64 {
	hi, lo := bits.Mul64(x, y)
	return hi ^ lo
}
