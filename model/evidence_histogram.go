package model

import (
	"encoding/json"
	"math"
	"strconv"

	"github.com/freshet-io/freshet/errkind"
)

// Histogram counts values in bins that are fixed for what it counts: seconds or
// scores. In JSON it is an object of the bins that are not empty.
type Histogram struct{ counts []uint64 }

// Count is the number of values.
func (h Histogram) Count() (n uint64) {
	for _, c := range h.counts {
		n += c
	}
	return n
}

func (h Histogram) at(i int) uint64 {
	if i < len(h.counts) {
		return h.counts[i]
	}
	return 0
}

func (h *Histogram) add(bins, bin int) {
	if h.counts == nil {
		h.counts = make([]uint64, bins)
	}
	h.counts[bin]++
}

// merge adds o; bins that there cannot be are left out.
func (h *Histogram) merge(o Histogram, bins int) {
	if len(o.counts) == 0 {
		return
	}
	if len(h.counts) < bins {
		h.counts = append(h.counts, make([]uint64, bins-len(h.counts))...)
	}
	for i, c := range o.counts[:min(bins, len(o.counts))] {
		h.counts[i] += c
	}
}

// MarshalJSON writes the bins that are not empty.
func (h Histogram) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, c := range h.counts {
		if c == 0 {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(strconv.AppendInt(append(b, '"'), int64(i), 10), '"', ':')
		b = strconv.AppendUint(b, c, 10)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads bins.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var bins map[uint16]uint64
	if err := json.Unmarshal(b, &bins); err != nil {
		return errkind.Errorf(errkind.Corrupt, "histogram: %w", err)
	}
	h.counts = nil
	for i, c := range bins {
		if i >= maxBins {
			return errkind.Errorf(errkind.Corrupt, "histogram: bin %d is beyond %d", i, maxBins-1)
		}
		if len(h.counts) <= int(i) {
			h.counts = append(h.counts, make([]uint64, int(i)+1-len(h.counts))...)
		}
		h.counts[i] = c
	}
	return nil
}

// Seconds are counted in 16 bins an octave from 2⁻²⁰ s (1 µs) to 2¹² s (68 min);
// the first bin takes what is less, the last one what is more.
const (
	secondLow, secondHigh = -20, 12
	secondBins            = (secondHigh-secondLow)*16 + 2
)

func secondBin(s float64) int {
	return 1 + min(max(octaves(s, 4)-secondLow*16, -1), secondBins-2)
}

// secondEdge is the upper edge of a bin of seconds; +Inf for the last one.
func secondEdge(bin int) float64 {
	if bin >= secondBins-1 {
		return math.Inf(1)
	}
	octave, part := bin/16, bin%16
	return math.Ldexp(1+float64(part)/16, secondLow+octave)
}

// octaves numbers the parts of the octaves of positive numbers, 2^bits of each:
// part p of the octave from 2^e is e<<bits + p. What is not positive is the least number.
func octaves(v float64, bits uint) int {
	if !(v > 0) {
		return math.MinInt32
	}
	return int(math.Float64bits(v)>>(52-bits)) - 1023<<bits
}

// quantile is the upper edge of the bin in which the share q of the values is
// reached, in seconds; 0 when empty.
func (h Histogram) quantile(q float64) float64 {
	n := h.Count()
	if n == 0 {
		return 0
	}
	var seen uint64
	for i, c := range h.counts {
		if seen += c; float64(seen) >= q*float64(n) && seen > 0 {
			return secondEdge(i)
		}
	}
	return math.Inf(1)
}

// Quantile of a histogram of seconds, to the width of a bin (6.25 %).
func (h Histogram) Quantile(q float64) float64 { return h.quantile(q) }

// serviceClasses is the number of classes of batch sizes.
const serviceClasses = 4

// serviceClass is 0 for batches of 1 to 7 rows, 1 to 31, 2 to 127, 3 for larger ones.
func serviceClass(rows int) int {
	switch {
	case rows < 8:
		return 0
	case rows < 32:
		return 1
	case rows < 128:
		return 2
	}
	return 3
}

// Scores may be anything, and most are probabilities. So bins are fine at both
// ends of [0, 1], where most of them lie:
//
//	negative   2 an octave from 2⁻¹⁶ to 2³², rising
//	[0, 1/16)  2 an octave from 2⁻²⁰, with a first bin for what is less
//	middle     56 of 1/64
//	[15/16, 1] mirrored
//	above 1    2 an octave to 2³²
//	NaN        the last one
const (
	negativeBins = 48*2 + 1
	endBins      = 16*2 + 1
	middleBins   = 56
	aboveBins    = 32*2 + 1

	lowStart    = negativeBins
	middleStart = lowStart + endBins
	highStart   = middleStart + middleBins
	aboveStart  = highStart + endBins
	nanBin      = aboveStart + aboveBins
	scoreBins   = nanBin + 1

	maxBins = max(secondBins, scoreBins)
)

func scoreBin(s float64) int {
	switch {
	case s >= 1./16 && s < 15./16:
		return middleStart + int(s*64) - 4
	case s >= 0 && s < 1./16:
		return lowStart + endBin(s)
	case s >= 15./16 && s <= 1:
		return aboveStart - 1 - endBin(1-s)
	case s > 1:
		return aboveStart + min(octaves(s, 1), aboveBins-1)
	case s < 0:
		return lowStart - 1 - min(max(octaves(-s, 1)+16*2, 0), negativeBins-1)
	}
	return nanBin
}

// endBin numbers the bins from 0 up to 1/16.
func endBin(s float64) int { return min(1+max(octaves(s, 1)+20*2, -1), endBins-1) }
