package forecast

import "math"

// errorBins is how many bins hold errors, in units of their expected size, from about -74 to 74:
// fine near zero and wider outwards.
const (
	errorBins = 160
	binsAUnit = 16
)

// errors is a distribution of normalised errors that forgets: each new error weighs more than those before by 1/keep.
type errors struct {
	bins             [errorBins]float64
	total, next, raw float64
	keep             float64
}

// newErrors starts with a little of a Laplace distribution of mean size 1, so that
// few errors give a wide forecast.
func newErrors(memory, prior float64) errors {
	e := errors{next: 1, keep: math.Exp(-1 / memory)}
	for i := range e.bins {
		e.bins[i] = prior * (laplace(binEdge(i+1)) - laplace(binEdge(i)))
		e.total += e.bins[i]
	}
	return e
}

func laplace(z float64) float64 {
	if z < 0 {
		return math.Exp(z) / 2
	}
	return 1 - math.Exp(-z)/2
}

// binEdge returns the lower end of a bin.
func binEdge(i int) float64 { return math.Sinh(float64(i-errorBins/2) / binsAUnit) }

func (e *errors) add(z float64) {
	u := math.Floor(math.Asinh(z)*binsAUnit) + errorBins/2
	i := int(min(max(u, 0), errorBins-1))
	e.bins[i] += e.next
	e.total += e.next
	e.next /= e.keep
	if e.next > 1e9 {
		for i := range e.bins {
			e.bins[i] /= e.next
		}
		e.total /= e.next
		e.next = 1
	}
}

// quantiles fills dst with the quantiles at levels, which need not rise.
func (e *errors) quantiles(levels, dst []float64) {
	var cum [errorBins]float64
	c := 0.0
	for i, b := range e.bins {
		c += b
		cum[i] = c
	}
	for j, l := range levels {
		want := l * c
		lo, hi := 0, errorBins-1
		for lo < hi {
			mid := (lo + hi) / 2
			if cum[mid] < want {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		a, b := binEdge(lo), binEdge(lo+1)
		below := cum[lo] - e.bins[lo]
		f := 0.5
		if e.bins[lo] > 0 {
			f = min(max((want-below)/e.bins[lo], 0), 1)
		}
		dst[j] = a + (b-a)*f
	}
}
