package feature

import (
	"math"

	"github.com/freshet-io/freshet/event"
)

// readBuckets reads a track's windows as of the row just added to bucket b.
// Bucket a is the merger of the older ones, nil where there are none.
func (s *Sums) readBuckets(tr *track, a, b []uint64, t int64, row int) {
	for _, i := range tr.ops {
		o, out := &s.ops[i], &s.outs[i]
		var older []uint64
		if a != nil {
			older = a[o.at:]
		}
		at := b[o.at:]
		if o.agg == Distinct {
			out.ints[row] = s.different(o, older, at)
			continue
		}
		if o.agg == First || o.agg == Last {
			s.readValue(o, older, at, out, row)
			continue
		}
		v, ok := 0.0, true
		switch o.agg {
		case Count:
			out.ints[row] = int64(at[0])
			if a != nil {
				out.ints[row] += int64(older[0])
			}
			continue
		case Rate:
			n := at[0]
			if a != nil {
				n += older[0]
			}
			length := tr.over
			if tr.shape == Session {
				length = b[bucketEnd] - b[bucketNumber]
			}
			v, ok = float64(n)/seconds(length), length > 0
		case Sum, Mean:
			n := b[o.n]
			sum := [2]uint64{at[0], at[1]}
			if a != nil {
				n += a[o.n]
				sum = [2]uint64{older[0], older[1]}
				addTwofold(sum[:], floatOf(at[0]))
				addTwofold(sum[:], floatOf(at[1]))
			}
			v = floatOf(sum[0])
			if o.agg == Mean {
				ok = n > 0
				v /= float64(n)
			}
		case StdDev:
			m := [3]uint64{at[0], at[1], at[2]}
			if a != nil {
				m = [3]uint64{older[0], older[1], older[2]}
				addMoments(m[:], at[0], floatOf(at[1]), floatOf(at[2]))
			}
			ok = m[0] > 1
			v = math.Sqrt(floatOf(m[2]) / float64(m[0]-1))
		case Min, Max:
			w := at[0]
			if a != nil && older[0] != nullFloat {
				x, y := floatOf(older[0]), floatOf(w)
				if w == nullFloat || o.agg == Min && x < y || o.agg == Max && x > y {
					w = older[0]
				}
			}
			v, ok = floatOf(w), w != nullFloat
		case SinceLast:
			before := s.before[i]
			if a != nil {
				before = max(before, int64(older[0]))
			}
			v, ok = seconds(uint64(t)-uint64(before)), before != math.MinInt64 && before <= t
		case Duration:
			since := int64(at[0])
			v, ok = seconds(uint64(t)-uint64(since)), since <= t
		case Quantile:
			var first []uint64
			if a != nil {
				first = s.digestOf(older)
			}
			v, ok = digestQuantile(first, s.digestOf(at), o.q)
		}
		if ok && v-v == 0 {
			out.floats[row] = v
		} else {
			out.col.SetNull(row)
		}
	}
}

func (s *Sums) different(o *sumsOp, older, at []uint64) int64 {
	switch {
	case o.sketch:
		return int64(math.Round(s.sketchEstimate(older, at)))
	case older == nil:
		return int64(blockCount(at))
	default:
		return s.unionCount(older, at)
	}
}

func (s *Sums) readValue(o *sumsOp, older, at []uint64, out *target, row int) {
	none := noFirst
	if o.agg == Last {
		none = noLast
	}
	if older != nil && older[0] != none && (o.agg == First || at[0] == none) {
		at = older
	}
	if at[0] == none {
		out.col.SetNull(row)
		return
	}
	switch word := at[1]; o.kind {
	case event.Float:
		out.floats[row] = floatOf(word)
	case event.Bool:
		out.bools[row] = word != 0
	case event.String:
		out.strings[row] = s.dict.text[word]
	default:
		out.ints[row] = int64(word)
	}
}
