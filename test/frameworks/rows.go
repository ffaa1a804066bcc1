package frameworks

import "math"

// The rows that make.py makes too: all numbers here are exact in float32.
const (
	// Features is the width of a row.
	Features = 8
	// Rows is how many rows predictions are kept for.
	Rows = 10_000
	// Train is how many rows models were trained on; they come behind the others.
	Train = 2_000
)

var scales = [Features]float64{1, 8, 0.125, 64, 1, 1, 2, 1}

// rows makes count rows from number start on; some values are NaN where missing is set.
func rows(count, start int, missing bool) []float32 {
	x := make([]float32, count*Features)
	for i := range x {
		h := hashed(uint64(start*Features + i))
		top := h >> 40
		v := float64(int64(top)-1<<23) / (1 << 22) * scales[i%Features]
		switch i % Features {
		case 4:
			v = float64(top % 6) // a category
		case 5:
			v = float64(top % 20) // a count
		}
		if missing && h&255 < 26 {
			v = math.NaN()
		}
		x[i] = float32(v)
	}
	return x
}

// hashed mixes n as SplitMix64 does (Steele, Lea and Flood, 2014).
func hashed(n uint64) uint64 {
	z := n*0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}
