package model

import (
	"math"
	"math/rand/v2"
	"testing"
)

// looks are the numbers of observations at which a test is looked at: often.
func looks(most int) []int {
	var all []int
	for n := 1; n <= most; n += 1 + n/20 {
		all = append(all, n)
	}
	return all
}

func binomial(rng *rand.Rand, n int, p float64) (k int) {
	for range n {
		if rng.Float64() < p {
			k++
		}
	}
	return k
}

func TestSharesAreWronglyToldApartNoMoreOftenThanStated(t *testing.T) {
	const alpha = 0.05
	for _, tc := range []struct {
		name     string
		champion float64
		margin   float64
		rows     int  // of a call
		together bool // they fail together or not at all
		runs     int
	}{
		{"single rows, rare failures at the bound", 0.002, 0.01, 1, false, 400},
		{"single rows, no margin", 0.1, 0, 1, false, 400},
		{"single rows, frequent failures at the bound", 0.3, 0.05, 1, false, 400},
		{"calls of 20 rows that fail together", 0.05, 0, 20, true, 400},
		{"calls of 20 rows that fail by themselves", 0.05, 0, 20, false, 200},
		{"calls of 20 rows that hardly ever fail", 0.0005, 0, 20, false, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			call := func(s *Share, p float64) {
				if !tc.together {
					s.add(uint64(binomial(rng, tc.rows, p)), uint64(tc.rows))
				} else {
					s.add(uint64(tc.rows*binomial(rng, 1, p)), uint64(tc.rows))
				}
			}
			var worse, better int
			for range tc.runs {
				j := judgement{e: &Evidence{}, g: Gates{Errors: tc.margin}, fail: alpha, pass: alpha}
				a, b := &j.e.Challenger.Failing, &j.e.Champion.Failing
			run:
				for _, to := range looks(1500) {
					for a.N < uint64(to) {
						call(a, tc.champion+tc.margin)
						call(b, tc.champion)
						call(b, tc.champion)
					}
					switch j.errors().Verdict {
					case Failed:
						worse++
						break run
					case Passed:
						better++
						break run
					}
				}
			}
			t.Logf("shown worse in %d and better in %d of %d runs", worse, better, tc.runs)
			if limit := int(alpha * float64(tc.runs)); worse > limit || better > limit {
				t.Errorf("at the bound itself, shown worse in %d and better in %d of %d runs: want at most %d each", worse, better, tc.runs, limit)
			}
		})
	}
}

func TestFaultsThatHitBothVersionsAtOnceAreNoDifference(t *testing.T) {
	// In one of ten stretches of 20 calls, half of all rows fail, whichever version.
	const alpha, runs = 0.05, 200
	rng := rand.New(rand.NewPCG(13, 14))
	wrong := 0
	for range runs {
		j := judgement{e: &Evidence{}, g: Gates{Errors: 0}, fail: alpha, pass: alpha}
		for stretch := range 80 {
			p := 0.002
			if rng.IntN(10) == 0 {
				p = 0.5
			}
			for range 20 {
				j.e.Challenger.Failing.add(uint64(binomial(rng, 5, p)), 5)
				j.e.Champion.Failing.add(uint64(binomial(rng, 45, p)), 45)
			}
			if stretch%2 == 0 && j.errors().Verdict != Open {
				wrong++
				break
			}
		}
	}
	t.Logf("told apart in %d of %d runs", wrong, runs)
	if wrong > 2*alpha*runs {
		t.Errorf("equal versions are told apart in %d of %d runs", wrong, runs)
	}
}

func TestQuantilesLieWithinTheirBounds(t *testing.T) {
	const alpha, runs = 0.05, 100
	rng := rand.New(rand.NewPCG(5, 6))
	truth := 0.01 * math.Exp(0.5*2.3263478740408408) // of the log-normal below
	var low, high int
	for range runs {
		var h Histogram
		n, isLow, isHigh := 0, false, false
		for _, to := range looks(4000) {
			if to < 50 && to%10 != 0 {
				continue
			}
			for ; n < to; n++ {
				h.add(secondBins, secondBin(0.01*math.Exp(0.5*rng.NormFloat64())))
			}
			l, u := quantileBounds(h, 0.01, alpha)
			isLow, isHigh = isLow || l > truth, isHigh || u < truth
		}
		if isLow {
			low++
		}
		if isHigh {
			high++
		}
		l, u := quantileBounds(h, 0.01, alpha)
		if !(l > truth/2 && u < truth*2.5) {
			t.Fatalf("after %d observations the bounds are %v and %v, and the quantile is %v", n, l, u, truth)
		}
	}
	t.Logf("beyond the upper bound in %d, the lower in %d of %d runs", high, low, runs)
	if low > alpha*runs || high > alpha*runs {
		t.Errorf("the quantile is beyond the upper bound in %d, the lower in %d of %d runs", high, low, runs)
	}
}

func TestDistributionsAreWronglyToldApartNoMoreOftenThanStated(t *testing.T) {
	const alpha, runs = 0.05, 200
	rng := rand.New(rand.NewPCG(7, 8))
	wrong := 0
	for range runs {
		e := &Evidence{}
		n := 0
		for _, to := range looks(3000) {
			for ; n < to; n++ {
				e.Challenger.Scores.add(scoreBins, scoreBin(rng.Float64()))
				e.Champion.Scores.add(scoreBins, scoreBin(rng.Float64()))
			}
			// A bound of nearly none is the null hypothesis at its edge.
			j := judgement{e: e, g: Gates{Shift: 1e-9}, fail: alpha, pass: alpha}
			if j.scores().Verdict == Failed {
				wrong++
				break
			}
		}
	}
	t.Logf("told apart in %d of %d runs", wrong, runs)
	if wrong > alpha*runs {
		t.Errorf("equal distributions are told apart in %d of %d runs", wrong, runs)
	}
}

// labels of a model that is right about probabilities, with scores sharpened by bend.
func addLabels(rng *rand.Rand, q *Quality, n int, bend float64) {
	for range n {
		p := 1 / (1 + math.Exp(3-2*rng.NormFloat64()))
		label := 0.0
		if rng.Float64() < p {
			label = 1
		}
		q.add(1/(1+math.Exp(-bend*math.Log(p/(1-p)))), label)
	}
}

func TestLossesAreWronglyToldApartNoMoreOftenThanStated(t *testing.T) {
	const alpha, runs = 0.05, 160
	rng := rand.New(rand.NewPCG(9, 10))
	wrong := 0
	for range runs {
		e := &Evidence{}
		for _, to := range looks(4000) {
			if n := to - int(e.ChampionQuality.N); n > 0 {
				addLabels(rng, &e.ChampionQuality, n, 1)
				addLabels(rng, &e.ChallengerQuality, n, 1)
			}
			j := judgement{e: e, g: Gates{Quality: 1e-9}, fail: alpha, pass: alpha}
			if f := j.quality(); f.Verdict != Open || j.better() {
				wrong++
				break
			}
		}
	}
	t.Logf("told apart in %d of %d runs", wrong, runs)
	if wrong > alpha*runs {
		t.Errorf("equal losses are told apart in %d of %d runs", wrong, runs)
	}
}

func TestEvidenceOfTwoSharesAgreesWithASearchOfTheNullHypothesis(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for range 60 {
		n1, n2 := 1+rng.IntN(500), 1+rng.IntN(500)
		k1, k2 := float64(rng.IntN(n1+1)), float64(rng.IntN(n2+1))
		delta := rng.Float64() * 0.2
		most := math.Inf(-1)
		for i := range 20001 {
			p := float64(i) / 20000 * (1 - delta)
			most = max(most, logLikelihood(float64(n1), k1, p+delta)+logLikelihood(float64(n2), k2, p))
		}
		want := logMixture(float64(n1), k1) + logMixture(float64(n2), k2) - most
		got := evidenceTwo(float64(n1), k1, float64(n2), k2, delta)
		if math.Abs(got-want) > 0.01 && !(math.IsInf(want, 1) && got > 100) {
			t.Fatalf("n1 %d k1 %v n2 %d k2 %v delta %v: evidence %v, by search %v", n1, k1, n2, k2, delta, got, want)
		}
	}
}
