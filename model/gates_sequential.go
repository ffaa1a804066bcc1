package model

import "math"

// The tests below hold at every look at once: the probability that one of them is
// ever wrong, however often and whenever it is looked at, is at most alpha. Each
// depends on sums alone, so that evidence of many processes adds up.

// lgamma is the logarithm of Γ(x), x > 0.
func lgamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}

// logMixture is the logarithm of the likelihood of n observations in [0, 1] with
// the sum k, mixed over all means by Jeffreys' prior. Divided by the likelihood at
// the true mean it is a test martingale for observations of 0 and 1, and below one for shares.
func logMixture(n, k float64) float64 {
	return lgamma(k+0.5) + lgamma(n-k+0.5) - lgamma(n+1) - math.Log(math.Pi)
}

func logLikelihood(n, k, p float64) float64 {
	return xlogy(k, p) + xlogy(n-k, 1-p)
}

// xlogy is x·log y, and 0 for x = 0.
func xlogy(x, y float64) float64 {
	if x <= 0 {
		return 0
	}
	return x * math.Log(y)
}

// evidenceOne is the logarithm of the evidence that the mean lies on the other side
// of p than it would have to, on the side where the estimate k/n is. Its
// e-process is the mixture over the greatest likelihood of the null hypothesis
// (Wasserman, Ramdas and Balakrishnan, "Universal inference", 2020; the
// mixture is Robbins', 1970).
func evidenceOne(n, k, p float64) float64 {
	if n <= 0 {
		return 0
	}
	return logMixture(n, k) - logLikelihood(n, k, p)
}

// evidenceTwo is that for two means: that the first is not greater than the second
// by delta, where the estimates say it is, or the other way round.
func evidenceTwo(n1, k1, n2, k2, delta float64) float64 {
	if n1 <= 0 || n2 <= 0 {
		return 0
	}
	// The likelihood is concave along p1 = p2 + delta, where its greatest value
	// within the null hypothesis lies; it is found by halving on its slope.
	lo, hi := 0.0, 1-delta
	slope := func(p float64) float64 {
		return ratio(k1, p+delta) - ratio(n1-k1, 1-p-delta) + ratio(k2, p) - ratio(n2-k2, 1-p)
	}
	for range 80 {
		if mid := (lo + hi) / 2; slope(mid) > 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	p := (lo + hi) / 2
	return logMixture(n1, k1) + logMixture(n2, k2) - logLikelihood(n1, k1, min(1, p+delta)) - logLikelihood(n2, k2, p)
}

func ratio(x, y float64) float64 {
	if x <= 0 {
		return 0
	}
	return x / y
}

// quantileBounds returns edges between which the quantile 1 − tail of seconds lies,
// each with probability 1 − alpha at all looks: at an edge above, the share of greater
// values is shown to be less than tail. One test at the edge next to the
// quantile bears the error, since the tests nest.
func quantileBounds(h Histogram, tail, alpha float64) (low, high float64) {
	n, want := float64(h.Count()), math.Log(1/alpha)
	high = math.Inf(1)
	if n == 0 {
		return 0, high
	}
	above, shown := n, evidenceOne(n, n, tail) >= want
	for bin := range secondBins - 1 {
		if c := h.at(bin); c > 0 {
			above -= float64(c)
			shown = evidenceOne(n, above, tail) >= want
		}
		switch {
		case !shown:
		case above > tail*n:
			low = secondEdge(bin)
		default:
			return low, secondEdge(bin)
		}
	}
	return low, high
}

// distributionBound bounds the distance between the distribution of n observations
// and the true one, everywhere and at all looks, with probability 1 − alpha (Howard
// and Ramdas, "Sequential estimation of quantiles with applications to A/B
// testing and best-arm identification", 2022, theorem 2).
func distributionBound(n, alpha float64) float64 {
	if n < 1 {
		return 1
	}
	return min(1, 0.85*math.Sqrt((math.Log(math.Log(math.E*n))+0.8*math.Log(1612/alpha))/n))
}

// distance is the greatest difference of two cumulated distributions at the edges of their bins.
func distance(a, b Histogram) float64 {
	na, nb := float64(a.Count()), float64(b.Count())
	if na == 0 || nb == 0 {
		return 0
	}
	var ca, cb uint64
	most := 0.0
	for i := range scoreBins {
		ca += a.at(i)
		cb += b.at(i)
		most = max(most, math.Abs(float64(ca)/na-float64(cb)/nb))
	}
	return most
}

// meanBound is half the width of a confidence sequence for the mean of n
// observations of a variance (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
// "Time-uniform central limit theory and asymptotic confidence sequences", 2024). It
// holds as n grows; it is tightest near tightAt observations.
func meanBound(n, variance, alpha float64) float64 {
	if n < 2 {
		return math.Inf(1)
	}
	l := -2 * math.Log(alpha)
	rho2 := (l + math.Log(l) + 1) / tightAt
	return math.Sqrt(variance * 2 * (n*rho2 + 1) / (n * n * rho2) * math.Log(math.Sqrt(n*rho2+1)/alpha))
}

const tightAt = 1000

// variance of n observations by their sum and that of their squares.
func variance(n, sum, squares float64) float64 {
	mean := sum / n
	return max(0, squares/n-mean*mean) * n / (n - 1)
}
