package feature

import (
	"math"

	"github.com/freshet-io/freshet/event"
)

// pushPane takes a row into the pane, or tumbling window, that holds its time.
// A row older than every pane that is kept is read alone and not kept.
func (s *Sums) pushPane(k uint32, ti int, t int64, row int, read bool) {
	tr, l := &s.tracks[ti], &s.keyLists(k)[ti]
	pane := floorDiv(t, tr.width)
	lowest := s.lowest(tr, s.newest[k])
	if pane < lowest {
		if read {
			s.readAlone(ti, t, row)
		}
		return
	}
	old := 0
	for old < int(l.n) && int64(s.bucket(ti, l, old)[bucketNumber]) < lowest {
		old++
	}
	s.dropBuckets(ti, l, old)
	j := int(l.n) - 1
	for j >= 0 && int64(s.bucket(ti, l, j)[bucketNumber]) > pane {
		j--
	}
	if j < 0 || int64(s.bucket(ti, l, j)[bucketNumber]) != pane {
		j++
		s.insertBucket(ti, l, j)
		s.bucket(ti, l, j)[bucketNumber] = uint64(pane)
	}
	if j < int(l.n)-1 {
		s.uncache(k, ti)
	}
	b := s.bucket(ti, l, j)
	if read {
		s.remember(tr, b)
	}
	s.add(tr, b, t, row)
	if !read {
		return
	}
	low, first := pane-tr.panes+1, 0
	for first < j && int64(s.bucket(ti, l, first)[bucketNumber]) < low {
		first++
	}
	switch {
	case first == j:
		s.readBuckets(tr, nil, b, t, row)
	case tr.cached && j == int(l.n)-1:
		c := &s.caches[int(k)*s.cached+tr.cacheAt]
		if c.from != low || c.to != pane {
			s.uncache(k, ti)
			if c.bucket == nil {
				c.bucket = make([]uint64, tr.stride)
			}
			s.fold(ti, c.bucket, l, first, j)
			c.from, c.to = low, pane
		}
		s.readBuckets(tr, c.bucket, b, t, row)
	default:
		a := s.spare[0][:tr.stride]
		s.fold(ti, a, l, first, j)
		s.readBuckets(tr, a, b, t, row)
		s.clearBucket(tr, a)
	}
}

// lowest is the number of the oldest pane that a window can need: that of a row
// by what is retained older than the newest.
func (s *Sums) lowest(tr *track, newest int64) int64 {
	edge := newest - tr.retain
	if edge > newest {
		edge = math.MinInt64
	}
	return floorDiv(edge, tr.width) - tr.panes + 1
}

// pushSession takes a row into the key's session. A row after a silence begins
// one; a late row less than the silence before the session extends it to its
// own time; one still older is read alone and not kept.
func (s *Sums) pushSession(k uint32, ti int, t int64, row int, read bool) {
	tr, l := &s.tracks[ti], &s.keyLists(k)[ti]
	if l.n > 0 {
		b := s.bucket(ti, l, 0)
		start, end := int64(b[bucketNumber]), int64(b[bucketEnd])
		switch {
		case t >= end && uint64(t)-uint64(end) >= tr.over:
			s.dropBuckets(ti, l, 1)
		case t >= end:
			b[bucketEnd] = uint64(t)
		case t < start && uint64(start)-uint64(t) >= tr.over:
			if read {
				s.readAlone(ti, t, row)
			}
			return
		case t < start:
			b[bucketNumber] = uint64(t)
		}
	}
	if l.n == 0 {
		s.insertBucket(ti, l, 0)
		b := s.bucket(ti, l, 0)
		b[bucketNumber], b[bucketEnd] = uint64(t), uint64(t)
	}
	b := s.bucket(ti, l, 0)
	if read {
		s.remember(tr, b)
	}
	s.add(tr, b, t, row)
	if read {
		s.readBuckets(tr, nil, b, t, row)
	}
}

func (s *Sums) readAlone(ti int, t int64, row int) {
	tr := &s.tracks[ti]
	b := s.spare[0][:tr.stride]
	s.initBucket(tr, b)
	if tr.shape == Session {
		b[bucketNumber], b[bucketEnd] = uint64(t), uint64(t)
	}
	s.remember(tr, b)
	s.add(tr, b, t, row)
	s.readBuckets(tr, nil, b, t, row)
	s.clearBucket(tr, b)
}

// remember notes when the rows before this one were, for SinceLast.
func (s *Sums) remember(tr *track, b []uint64) {
	for _, i := range tr.ops {
		if o := &s.ops[i]; o.agg == SinceLast {
			s.before[i] = int64(b[o.at])
		}
	}
}

func (s *Sums) bucket(ti int, l *bucketList, i int) []uint64 {
	stride := s.tracks[ti].stride
	b := s.buckets[ti].block(l.block, l.class-1)
	return b[i*stride : (i+1)*stride]
}

func (s *Sums) listBytes(ti int, class uint8) int64 {
	if class == 0 {
		return 0
	}
	return 8 * int64(s.tracks[ti].stride) * int64(capacity(class-1))
}

// insertBucket makes room for bucket i and empties it.
func (s *Sums) insertBucket(ti int, l *bucketList, i int) {
	stride := s.tracks[ti].stride
	if l.class == 0 || l.n == capacity(l.class-1) {
		s.resizeList(ti, l, l.class+1)
	}
	b := s.buckets[ti].block(l.block, l.class-1)
	copy(b[(i+1)*stride:int(l.n+1)*stride], b[i*stride:int(l.n)*stride])
	l.n++
	s.initBucket(&s.tracks[ti], b[i*stride:(i+1)*stride])
}

func (s *Sums) resizeList(ti int, l *bucketList, class uint8) {
	a := &s.buckets[ti]
	to := a.alloc(class - 1)
	if l.class > 0 {
		copy(a.block(to, class-1), a.block(l.block, l.class-1)[:int(l.n)*a.stride])
		a.release(l.block, l.class-1)
	}
	s.live += s.listBytes(ti, class) - s.listBytes(ti, l.class)
	l.block, l.class = to, class
}

// dropBuckets drops the oldest n buckets.
func (s *Sums) dropBuckets(ti int, l *bucketList, n int) {
	if n == 0 {
		return
	}
	for i := range n {
		s.clearBucket(&s.tracks[ti], s.bucket(ti, l, i))
	}
	stride := s.tracks[ti].stride
	b := s.buckets[ti].block(l.block, l.class-1)
	copy(b, b[n*stride:int(l.n)*stride])
	l.n -= uint32(n)
	if l.class > 2 && l.n < capacity(l.class-1)/4 {
		s.resizeList(ti, l, l.class-1)
	}
}

// uncache forgets what is merged ahead of a key's buckets.
func (s *Sums) uncache(k uint32, ti int) {
	tr := &s.tracks[ti]
	if !tr.cached {
		return
	}
	if c := &s.caches[int(k)*s.cached+tr.cacheAt]; c.to > c.from {
		s.clearBucket(tr, c.bucket)
		c.from, c.to = 0, 0
	}
}

// fold merges buckets from ≤ i < to, oldest first, into an unused one. The
// result depends on these buckets alone, so a replay comes to the same bits.
func (s *Sums) fold(ti int, dst []uint64, l *bucketList, from, to int) {
	tr := &s.tracks[ti]
	s.initBucket(tr, dst)
	all := s.buckets[ti].block(l.block, l.class-1)[from*tr.stride : to*tr.stride]
	for i := range tr.slots {
		x := &tr.slots[i]
		d := dst[x.at:]
		switch x.kind {
		case slotCount:
			n := uint64(0)
			for p := x.at; p < len(all); p += tr.stride {
				n += all[p]
			}
			d[0] = n
		case slotSum: // T. Ogita, S. M. Rump, S. Oishi, "Accurate sum and dot product", 2005
			hi, lo, e := 0.0, 0.0, 0.0
			for p := x.at; p < len(all)-1; p += tr.stride {
				hi, e = twoSum(hi, floatOf(all[p]))
				lo += e + floatOf(all[p+1])
			}
			hi, lo = twoSum(hi, lo)
			d[0], d[1] = wordOf(hi), wordOf(lo)
		default:
			for p := x.at; p < len(all); p += tr.stride {
				s.merge(x, d, all[p:])
			}
		}
	}
}

func (s *Sums) initBucket(tr *track, b []uint64) {
	clear(b)
	for i := range tr.slots {
		switch x := &tr.slots[i]; x.kind {
		case slotMin, slotMax:
			b[x.at] = nullFloat
		case slotFirst, slotOldest:
			b[x.at] = noFirst
		case slotLast, slotNewest:
			b[x.at] = noLast
		}
	}
}

// clearBucket gives back what a bucket holds beside its words.
func (s *Sums) clearBucket(tr *track, b []uint64) {
	for i := range tr.slots {
		switch x := &tr.slots[i]; x.kind {
		case slotFirst, slotLast:
			if s.fields[x.field].Kind == event.String {
				s.dict.drop(b[x.at+1])
			}
		case slotSet:
			if s.fields[x.field].Kind == event.String {
				for _, id := range s.block(b[x.at:]) {
					s.dict.drop(id)
				}
			}
			s.freeBlock(b[x.at:])
		case slotSketch, slotDigest:
			s.freeBlock(b[x.at:])
		}
	}
}

// add counts a row into a bucket.
func (s *Sums) add(tr *track, b []uint64, t int64, row int) {
	for i := range tr.slots {
		x := &tr.slots[i]
		if !s.valid(x.field, row) {
			continue
		}
		word, isText := uint64(0), false
		if x.field >= 0 {
			word, isText = s.words[x.field][row], s.fields[x.field].Kind == event.String
		}
		at := b[x.at:]
		switch x.kind {
		case slotCount:
			at[0]++
		case slotSum:
			addTwofold(at, floatOf(word))
		case slotMoments:
			addMoments(at, 1, floatOf(word), 0)
		case slotMin:
			if v := floatOf(word); at[0] == nullFloat || v < floatOf(at[0]) {
				at[0] = word
			}
		case slotMax:
			if v := floatOf(word); at[0] == nullFloat || v > floatOf(at[0]) {
				at[0] = word
			}
		case slotFirst:
			if t < int64(at[0]) {
				s.setValue(at, uint64(t), word, isText)
			}
		case slotLast:
			if t >= int64(at[0]) {
				s.setValue(at, uint64(t), word, isText)
			}
		case slotOldest:
			at[0] = uint64(min(int64(at[0]), t))
		case slotNewest:
			at[0] = uint64(max(int64(at[0]), t))
		case slotSet:
			if s.setPut(at, word) && isText {
				s.dict.retain(word)
			}
		case slotSketch:
			if isText {
				s.sketchPut(at, hashText(s.dict.text[word]))
			} else {
				s.sketchPut(at, hashWord(word))
			}
		case slotDigest:
			s.digestPut(at, floatOf(word))
		}
	}
}

// merge counts a newer bucket's slot into that of another.
func (s *Sums) merge(x *slot, d, v []uint64) {
	isText := x.field >= 0 && s.fields[x.field].Kind == event.String
	switch x.kind {
	case slotMoments:
		addMoments(d, v[0], floatOf(v[1]), floatOf(v[2]))
	case slotMin:
		if d[0] == nullFloat || v[0] != nullFloat && floatOf(v[0]) < floatOf(d[0]) {
			d[0] = v[0]
		}
	case slotMax:
		if d[0] == nullFloat || v[0] != nullFloat && floatOf(v[0]) > floatOf(d[0]) {
			d[0] = v[0]
		}
	case slotFirst:
		if int64(v[0]) < int64(d[0]) {
			s.setValue(d, v[0], v[1], isText)
		}
	case slotLast:
		if int64(v[0]) > int64(d[0]) {
			s.setValue(d, v[0], v[1], isText)
		}
	case slotOldest:
		d[0] = uint64(min(int64(d[0]), int64(v[0])))
	case slotNewest:
		d[0] = uint64(max(int64(d[0]), int64(v[0])))
	case slotSet:
		s.eachMember(v, func(word uint64) {
			if s.setPut(d, word) && isText {
				s.dict.retain(word)
			}
		})
	case slotSketch:
		s.sketchMerge(d, v)
	case slotDigest:
		s.digestMerge(d, v)
	}
}

// setValue replaces the time and value of a First or Last.
func (s *Sums) setValue(at []uint64, t, word uint64, isText bool) {
	if isText {
		s.dict.retain(word)
		s.dict.drop(at[1])
	}
	at[0], at[1] = t, word
}

// addTwofold adds to a sum of two doubles (see sum).
func addTwofold(at []uint64, x float64) {
	hi, e := twoSum(floatOf(at[0]), x)
	hi, lo := twoSum(hi, floatOf(at[1])+e)
	at[0], at[1] = wordOf(hi), wordOf(lo)
}

// addMoments merges number, mean and squared distances (B. P. Welford, 1962;
// T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise
// algorithm for computing sample variances", 1979).
func addMoments(at []uint64, n uint64, mean, squares float64) {
	if n == 0 {
		return
	}
	had := float64(at[0])
	at[0] += n
	if had == 0 {
		at[1], at[2] = wordOf(mean), wordOf(squares)
		return
	}
	old := floatOf(at[1])
	d, share := mean-old, float64(n)/float64(at[0])
	at[1] = wordOf(old + float64(d*share))
	at[2] = wordOf(floatOf(at[2]) + squares + float64(d*d*had*share))
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
