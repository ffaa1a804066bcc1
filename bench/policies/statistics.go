package policies

import (
	"math"
	"slices"
)

// Interval is a mean over seeds with its 95 % confidence interval.
type Interval struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// studentT are the 97.5 % quantiles of Student's t distribution (Student, The
// Probable Error of a Mean, Biometrika 6, 1908) for 1 to 30 degrees of freedom.
var studentT = [...]float64{
	12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
	2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
	2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
}

// intervalOf gives the mean of xs and its 95 % confidence interval; with one
// value there is none, and the ends are the value.
func intervalOf(xs []float64) Interval {
	n := float64(len(xs))
	if n == 0 {
		return Interval{}
	}
	mean := 0.0
	for _, x := range xs {
		mean += x / n
	}
	if n == 1 {
		return Interval{mean, mean, mean}
	}
	square := 0.0
	for _, x := range xs {
		square += (x - mean) * (x - mean)
	}
	t := 1.96 + 2.5/(n-1) // within a hundredth from 30 on
	if len(xs)-2 < len(studentT) {
		t = studentT[len(xs)-2]
	}
	half := t * math.Sqrt(square/(n-1)/n)
	return Interval{mean, mean - half, mean + half}
}

// Wilcoxon is the outcome of a signed-rank test.
type Wilcoxon struct {
	// N is the number of pairs that differ; W the sum of the ranks of positive differences.
	N int     `json:"n"`
	W float64 `json:"w"`
	// P is the two-sided probability of a W at least as far from its mean where neither side is better.
	P float64 `json:"p"`
}

// signedRank is Wilcoxon's signed-rank test (Individual Comparisons by Ranking
// Methods, Biometrics Bulletin 1, 1945) of paired differences: zeros are left out, ties share their mean
// rank, and P is exact, counted over all assignments of signs.
func signedRank(differences []float64) Wilcoxon {
	ds := slices.DeleteFunc(slices.Clone(differences), func(d float64) bool { return d == 0 || math.IsNaN(d) })
	slices.SortFunc(ds, func(a, b float64) int {
		switch a, b := math.Abs(a), math.Abs(b); {
		case a < b:
			return -1
		case a > b:
			return 1
		}
		return 0
	})
	// Doubled ranks are whole numbers, also those shared by ties.
	ranks := make([]int, len(ds))
	for i := 0; i < len(ds); {
		j := i
		for j < len(ds) && math.Abs(ds[j]) == math.Abs(ds[i]) {
			j++
		}
		for k := i; k < j; k++ {
			ranks[k] = i + 1 + j
		}
		i = j
	}
	total, w := 0, 0
	for i, r := range ranks {
		total += r
		if ds[i] > 0 {
			w += r
		}
	}
	// ways[s] is the share of the assignments of signs with doubled rank sum s.
	ways := make([]float64, total+1)
	ways[0] = 1
	for _, r := range ranks {
		for s := total; s >= 0; s-- {
			ways[s] /= 2
			if s >= r {
				ways[s] += ways[s-r] / 2
			}
		}
	}
	p := 0.0
	far := abs(2*w - total)
	for s, share := range ways {
		if abs(2*s-total) >= far {
			p += share
		}
	}
	return Wilcoxon{N: len(ds), W: float64(w) / 2, P: min(1, p)}
}

func abs(x int) int {
	if x < 0 {
		return -x
	}
	return x
}

// median of xs; NaN where there is none.
func median(xs []float64) float64 {
	xs = slices.DeleteFunc(slices.Clone(xs), math.IsNaN)
	if len(xs) == 0 {
		return math.NaN()
	}
	slices.Sort(xs)
	n := len(xs)
	return (xs[(n-1)/2] + xs[n/2]) / 2
}
