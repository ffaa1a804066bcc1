package feature

import "math/bits"

// Sets, sketches and digests lie in blocks. Their slot has two words: the block
// and, of the second, the block's class + 1 in the lowest byte (0: no block), a
// flag in the next, and a number of members from bit 16 on.
//
// A set is a hash table of words with 0 for a free place; whether 0 itself is a
// member is its flag. A sketch's flag says that it is dense. A digest has none.

const slotFlag = 1 << 8

func blockCount(h []uint64) int { return int(h[1] >> 16) }

func setCount(h []uint64, n int) { h[1] = h[1]&0xffff | uint64(n)<<16 }

// block returns the whole block of a slot, nil for none.
func (s *Sums) block(h []uint64) []uint64 {
	if h[1]&0xff == 0 {
		return nil
	}
	return s.blocks.block(h[0], uint8(h[1])-1)
}

// freeBlock gives the block back and empties the slot.
func (s *Sums) freeBlock(h []uint64) {
	if c := uint8(h[1]); c > 0 {
		s.blocks.release(h[0], c-1)
		s.live -= 8 * int64(capacity(c-1))
	}
	h[0], h[1] = 0, 0
}

// newBlock gives the slot a block of the class, all zero. The block that it had
// is the caller's to free.
func (s *Sums) newBlock(h []uint64, class uint8) []uint64 {
	h[0] = s.blocks.alloc(class)
	h[1] = h[1]&^0xff | uint64(class+1)
	s.live += 8 * int64(capacity(class))
	b := s.blocks.block(h[0], class)
	clear(b)
	return b
}

// growBlock moves the slot's contents to a block of the class.
func (s *Sums) growBlock(h []uint64, class uint8) []uint64 {
	old := [2]uint64{h[0], h[1] & 0xff}
	b := s.newBlock(h, class)
	copy(b, s.block(old[:]))
	s.freeBlock(old[:])
	return b
}

// setPut enters a value and reports whether it is new.
func (s *Sums) setPut(h []uint64, v uint64) bool {
	n := blockCount(h)
	if v == 0 {
		if h[1]&slotFlag != 0 {
			return false
		}
		h[1] |= slotFlag
		setCount(h, n+1)
		return true
	}
	b := s.block(h)
	if setHas(b, v) {
		return false
	}
	used := n - int(h[1]&slotFlag>>8)
	if (used+1)*4 > len(b)*3 {
		old := [2]uint64{h[0], h[1] & 0xff}
		b = s.newBlock(h, uint8(old[1])) // one class more
		for _, v := range s.block(old[:]) {
			if v != 0 {
				setPlace(b, v)
			}
		}
		s.freeBlock(old[:])
	}
	setPlace(b, v)
	setCount(h, n+1)
	return true
}

func setPlace(b []uint64, v uint64) {
	i := hashWord(v)
	for b[i&uint64(len(b)-1)] != 0 {
		i++
	}
	b[i&uint64(len(b)-1)] = v
}

func setHas(b []uint64, v uint64) bool {
	if len(b) == 0 {
		return false
	}
	for i := hashWord(v); ; i++ {
		switch b[i&uint64(len(b)-1)] {
		case 0:
			return false
		case v:
			return true
		}
	}
}

// eachMember calls f with a set's values, in the order of the block.
func (s *Sums) eachMember(h []uint64, f func(v uint64)) {
	if h[1]&slotFlag != 0 {
		f(0)
	}
	for _, v := range s.block(h) {
		if v != 0 {
			f(v)
		}
	}
}

// unionCount is the number of values in either set.
func (s *Sums) unionCount(a, b []uint64) int64 {
	if blockCount(a) > blockCount(b) {
		a, b = b, a
	}
	n := blockCount(a) + blockCount(b)
	large := s.block(b)
	s.eachMember(a, func(v uint64) {
		if v == 0 && b[1]&slotFlag != 0 || v != 0 && setHas(large, v) {
			n--
		}
	})
	return int64(n)
}

// sketchPut counts a value's hash.
func (s *Sums) sketchPut(h []uint64, hash uint64) {
	if h[1]&slotFlag != 0 {
		densePutHash(s.block(h), hash)
		return
	}
	s.sketchPutCode(h, sparseCode(hash))
}

func (s *Sums) sketchPutCode(h []uint64, code uint32) {
	b := s.block(h)
	if h[1]&slotFlag != 0 {
		register, rank := denseOf(code)
		densePut(b, register, rank)
		return
	}
	n := blockCount(h)
	i := sparseFind(b, n, code)
	known := i < n && codeAt(b, i)>>sparseRank == code>>sparseRank
	switch {
	case known:
	case n == hllSparse:
		s.sketchDense(h)
		s.sketchPutCode(h, code)
		return
	case n == 2*len(b):
		b = s.growBlock(h, uint8(h[1])) // one class more
	}
	setCount(h, sparsePut(b, n, i, code))
}

// sketchDense makes a sparse sketch dense.
func (s *Sums) sketchDense(h []uint64) {
	old := [2]uint64{h[0], h[1] & 0xff}
	n := blockCount(h)
	h[1] = slotFlag
	b := s.newBlock(h, hllClass)
	denseClear(b)
	codes := s.block(old[:])
	for i := range n {
		register, rank := denseOf(codeAt(codes, i))
		densePut(b, register, rank)
	}
	s.freeBlock(old[:])
}

func (s *Sums) sketchMerge(dst, src []uint64) {
	if src[1]&slotFlag == 0 {
		b := s.block(src)
		for i := range blockCount(src) {
			s.sketchPutCode(dst, codeAt(b, i))
		}
		return
	}
	if dst[1]&slotFlag == 0 {
		s.sketchDense(dst)
	}
	denseMerge(s.block(dst), s.block(src))
}

// sketchEstimate is the number of values counted in either sketch; a may be nil.
func (s *Sums) sketchEstimate(a, b []uint64) float64 {
	if a == nil || a[1]&0xff == 0 {
		a, b = b, nil
	} else if b[1]&0xff == 0 {
		b = nil
	}
	if b != nil && a[1]&slotFlag == 0 {
		a, b = b, a // if one is dense, a is
	}
	x := s.block(a)
	var y []uint64
	n := 0
	if b != nil {
		y, n = s.block(b), blockCount(b)
	}
	if a[1]&slotFlag == 0 {
		return sparseEstimate(sparseUnion(x, blockCount(a), y, n))
	}
	var counts [hllMaxRank + 1]uint64
	copy(counts[:], x[hllCounts:])
	raise := func(old, rank uint64) {
		if rank > old {
			counts[old]--
			counts[rank]++
		}
	}
	switch {
	case b == nil:
	case b[1]&slotFlag == 0:
		for i := 0; i < n; {
			register, rank := denseOf(codeAt(y, i))
			for i++; i < n; i++ { // the codes of a register are neighbours
				r, more := denseOf(codeAt(y, i))
				if r != register {
					break
				}
				rank = max(rank, more)
			}
			raise(x[register/10]>>(register%10*6)&63, rank)
		}
	default:
		for w := range hllWords {
			for p, q := x[w], y[w]; p != q; p, q = p>>6, q>>6 {
				if skip := bits.TrailingZeros64(p^q) / 6 * 6; skip > 0 {
					p, q = p>>skip, q>>skip
				}
				raise(p&63, q&63)
			}
		}
	}
	return denseEstimate(counts[:])
}

// sparseUnion is the number of different indexes in two lists.
func sparseUnion(a []uint64, n int, b []uint64, m int) int {
	i, j, both := 0, 0, 0
	for i < n && j < m {
		x, y := codeAt(a, i)>>sparseRank, codeAt(b, j)>>sparseRank
		if x <= y {
			i++
		}
		if y <= x {
			j++
		}
		if x == y {
			both++
		}
	}
	return n + m - both
}

// digestOf returns a digest's pairs.
func (s *Sums) digestOf(h []uint64) []uint64 { return s.block(h)[:2*blockCount(h)] }

func (s *Sums) digestPut(h []uint64, v float64) {
	b, n := s.block(h), blockCount(h)
	if 2*n == len(b) {
		if class := uint8(h[1]); class <= digestClass {
			b = s.growBlock(h, class) // one class more
		} else {
			n = len(digestCompress(b)) / 2
		}
	}
	setCount(h, len(digestInsert(b[:2*n], v))/2)
}

func (s *Sums) digestMerge(dst, src []uint64) {
	s.pairs = digestJoin(s.pairs[:0], s.digestOf(dst), s.digestOf(src))
	c := s.pairs
	if len(c) > 2*digestPairs {
		c = digestCompress(c)
	}
	s.setDigest(dst, c)
}

// setDigest makes the slot hold these pairs.
func (s *Sums) setDigest(h []uint64, c []uint64) {
	if len(c) == 0 {
		return
	}
	if b := s.block(h); len(b) < len(c) {
		s.freeBlock(h)
		class := uint8(0)
		for int(capacity(class)) < len(c) {
			class++
		}
		s.newBlock(h, class)
	}
	copy(s.block(h), c)
	setCount(h, len(c)/2)
}
