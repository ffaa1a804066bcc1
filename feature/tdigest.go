package feature

import "math"

// A t-digest is a list of centroids, ascending by mean: pairs of words, the
// mean's bits and the number of values (T. Dunning and O. Ertl, "Computing
// extremely accurate quantiles using t-digests", 2019: the merging digest with
// scale function k1). Values are put in one by one, each in its place, so that
// the digest can be read at any time; when it is full, neighbours are merged
// as far as the scale function lets them: their weight is at most
// n·(2π/δ)·√(q(1−q)). The smallest and the largest value are never merged.
//
// Up to digestPairs values are kept as they are, and quantiles are exact.
const (
	digestDelta = 200
	digestPairs = 256
	digestClass = 8       // of an arena of words: 2<<8 words
	digestAim   = 192     // centroids that merging leaves at most
	digestAll   = 1 << 40 // the scale from which everything is merged
)

// digestFind returns the place behind all centroids of at most that mean.
func digestFind(c []uint64, mean float64) int {
	lo, hi := 0, len(c)/2
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if floatOf(c[2*mid]) <= mean {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// digestInsert puts a value into a list with room for one pair behind its end,
// and returns the list longer by a pair.
func digestInsert(c []uint64, v float64) []uint64 {
	i := 2 * digestFind(c, v)
	c = c[:len(c)+2]
	copy(c[i+2:], c[i:])
	c[i], c[i+1] = wordOf(v), 1
	return c
}

// digestWeight is the number of values.
func digestWeight(c []uint64) (n uint64) {
	for i := 1; i < len(c); i += 2 {
		n += c[i]
	}
	return n
}

// digestCompress merges neighbours in place and returns the shorter list, of at most digestAim pairs.
func digestCompress(c []uint64) []uint64 {
	scale := 2 * math.Pi / digestDelta
	for {
		c = digestMerge(c, scale)
		if len(c) <= 2*digestAim {
			return c
		}
		scale *= 1.25 // rarely: the scale function alone leaves fewer
	}
}

func digestMerge(c []uint64, scale float64) []uint64 {
	if len(c) <= 6 {
		return c
	}
	total := float64(digestWeight(c))
	limit := scale * total
	before := float64(c[1]) // weight left of the centroid that grows
	to := 2                 // where it lies
	for i := 4; i < len(c)-2; i += 2 {
		w, v := float64(c[to+1]), float64(c[i+1])
		q0, q1 := before/total, (before+w+v)/total
		if w+v <= limit*math.Sqrt(min(q0*(1-q0), q1*(1-q1))) || scale > digestAll {
			a, b := floatOf(c[to]), floatOf(c[i])
			// Two products rounded one by one: a difference could overflow.
			m := float64(a*(w/(w+v))) + float64(b*(v/(w+v)))
			c[to], c[to+1] = wordOf(min(max(m, a), b)+0), c[to+1]+c[i+1]
			continue
		}
		before += w
		to += 2
		c[to], c[to+1] = c[i], c[i+1]
	}
	to += 2
	copy(c[to:], c[len(c)-2:])
	return c[:to+2]
}

// digestJoin appends the pairs of two lists to dst, in order; of equal means those of a come first.
func digestJoin(dst, a, b []uint64) []uint64 {
	for len(a) > 0 && len(b) > 0 {
		if floatOf(a[0]) <= floatOf(b[0]) {
			dst, a = append(dst, a[0], a[1]), a[2:]
		} else {
			dst, b = append(dst, b[0], b[1]), b[2:]
		}
	}
	return append(append(dst, a...), b...)
}

// digestQuantile reads the q-quantile of the values in both lists; ok is false where there are none.
// A centroid of w values stands in the middle of its ranks; between middles the
// result is interpolated (for single values this is R. J. Hyndman and Y. Fan's definition 5).
func digestQuantile(a, b []uint64, q float64) (v float64, ok bool) {
	total := digestWeight(a) + digestWeight(b)
	if total == 0 {
		return 0, false
	}
	target := q * float64(total)
	var done, lastMiddle, last float64
	for first := true; len(a)+len(b) > 0; first = false {
		from := &a
		if len(a) == 0 || len(b) > 0 && floatOf(b[0]) < floatOf(a[0]) {
			from = &b
		}
		mean, w := floatOf((*from)[0]), float64((*from)[1])
		*from = (*from)[2:]
		middle := done + w/2
		if middle >= target {
			if first || middle == target {
				return mean, true
			}
			part := (target - lastMiddle) / (middle - lastMiddle)
			v := float64(last*(1-part)) + float64(mean*part)
			return min(max(v, last), mean), true
		}
		done += w
		lastMiddle, last = middle, mean
	}
	return last, true
}
