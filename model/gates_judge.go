package model

import (
	"fmt"
	"math"
)

// judgement is what gates are judged with.
type judgement struct {
	e *Evidence
	g Gates
	// fail and pass are the error probabilities of the two verdicts of one gate in one step.
	fail, pass float64
}

// gate names, as findings carry them.
const (
	gateErrors    = "errors"
	gateLate      = "late"
	gateService   = "slower"
	gateAgreement = "agreement"
	gateScores    = "shift"
	gateQuality   = "quality"
)

// judge returns the findings of the gates that are on.
func judge(e *Evidence, p Policy, step int) []Finding {
	g := p.Gates
	all := []struct {
		on    bool
		judge func(*judgement) Finding
	}{
		{g.Errors >= 0, (*judgement).errors},
		{g.Late >= 0 && p.Target > 0, (*judgement).late},
		{g.Slower >= 0, (*judgement).service},
		{g.Agreement > 0, (*judgement).agreement},
		{g.Shift >= 0, (*judgement).scores},
		{g.Quality > 0, (*judgement).quality},
	}
	n := 0
	for _, a := range all {
		if a.on {
			n++
		}
	}
	// Steps spend alpha as 1/i², which adds up to it however many there are.
	j := judgement{e: e, g: g, pass: g.Alpha, fail: g.Alpha / float64(max(1, n)) * spend(step)}
	var found []Finding
	for _, a := range all {
		if a.on {
			f := a.judge(&j)
			f.Challenger, f.Champion, f.Bound = finite(f.Challenger), finite(f.Champion), finite(f.Bound)
			found = append(found, f)
		}
	}
	return found
}

func spend(step int) float64 {
	i := float64(max(0, step) + 1)
	return 6 / (math.Pi * math.Pi) / (i * i)
}

func (j *judgement) errors() Finding {
	return j.shares(gateErrors, j.e.Challenger.Failing, j.e.Champion.Failing, j.g.Errors)
}

func (j *judgement) late() Finding {
	return j.shares(gateLate, j.e.Challenger.Late, j.e.Champion.Late, j.g.Late)
}

// leastCalls is the number of calls, and leastSome that of the challenger's rows
// that something holds for, below which the variance between calls says nothing.
const (
	leastCalls = 100
	leastSome  = 20
)

// shares judges whether the challenger's share is greater than the champion's by
// more than margin, by two tests with half of the error each. One is exact
// whatever the rows of a call have in common, and takes a call for one
// observation. The other takes the variance between calls for what it is, which is
// much less where rows fail by themselves, and holds as calls grow in number.
func (j *judgement) shares(gate string, a, b Share, margin float64) Finding {
	f := Finding{Gate: gate, Verdict: Open, Challenger: a.Mean(), Champion: b.Mean(), Bound: b.Mean() + margin, N: a.N, ChampionN: b.N, Required: true}
	if a.N == 0 || b.N == 0 {
		f.Note = "no calls of both"
		return f
	}
	l := evidenceTwo(float64(a.N), a.Sum, float64(b.N), b.Sum, margin)
	f.Verdict = j.verdict(l-math.Ln2, f.Challenger > f.Bound)
	if f.Verdict != Open || a.N < leastCalls || b.N < leastCalls {
		return f
	}
	switch {
	case a.Some >= leastSome && f.Challenger-a.bound(j.fail/4) > f.Champion+b.bound(j.fail/4)+margin:
		f.Verdict = Failed
	case f.Challenger+a.bound(j.pass/4) < max(0, f.Champion-b.bound(j.pass/4))+margin:
		f.Verdict = Passed
	}
	return f
}

// bound is half the width of the confidence sequence of a share. The variance is
// that between calls, and no less than that of rows that have nothing in common.
func (s Share) bound(alpha float64) float64 {
	n, p := float64(s.N), (float64(s.Some)+1)/(float64(s.Rows)+2)
	return meanBound(n, max(variance(n, s.Sum, s.Squares), p*(1-p)*n/float64(s.Rows)), alpha)
}

func (j *judgement) verdict(log float64, beyond bool) Verdict {
	switch {
	case beyond && log >= math.Log(1/j.fail):
		return Failed
	case !beyond && log >= math.Log(1/j.pass):
		return Passed
	}
	return Open
}

// noDifference is the difference of service times that is none, in seconds.
const noDifference = 1e-3

// tails are the shares of calls beyond the quantiles of service time that are judged.
// tailOf is a share of calls that take longer than a quantile.
type tailOf struct {
	share float64
	name  string
}

var tails = [...]tailOf{{0.01, "p99"}, median}

var median = tailOf{0.5, "median"}

// service judges quantiles of service time, class by class of the size of the
// batch, since a canary's batches are small while its share is. A larger batch
// takes no less time: so a class fails against the champion's batches of its size
// and above, and passes against those of its size and below. One quantile of one class
// that fails is enough; the medians of classes that hold half of the challenger's
// calls must pass: that two 99th percentiles are alike takes more calls to show than
// a rollout has, so these only must not fail, nor stand beyond the bound.
// Where less than a tenth of the champion's calls are as small as most of the
// challenger's, nothing can pass, and a promotion does not wait for it.
func (j *judgement) service() Finding {
	f := Finding{Gate: gateService, Verdict: Open, Required: true}
	limit := func(s float64) float64 { return max(j.g.Slower*s, s+noDifference) }
	fail, pass := j.fail/(2*serviceClasses*float64(len(tails))), j.pass/2
	var calls, passed, most, alike, all uint64
	for _, b := range j.e.Champion.Service {
		all += b.Count()
	}
	for c := range serviceClasses {
		a, same := j.e.Challenger.Service[c], j.e.Champion.Service[c]
		n := a.Count()
		if n == 0 {
			continue
		}
		calls += n
		var above, below Histogram
		for k, b := range j.e.Champion.Service {
			if k >= c {
				above.merge(b, secondBins)
			}
			if k <= c {
				below.merge(b, secondBins)
			}
		}
		if same.Count() == 0 {
			same = above
		}
		if 10*below.Count() >= all {
			alike += n
		}
		passes := false
		for _, tail := range tails {
			lowA, _ := quantileBounds(a, tail.share, fail)
			_, highB := quantileBounds(above, tail.share, fail)
			fails := lowA > limit(highB)
			if f.Verdict != Failed && (fails || tail == tails[0] && n > most) {
				f.Challenger, f.Champion, f.N, f.ChampionN = a.Quantile(1-tail.share), same.Quantile(1-tail.share), n, same.Count()
				f.Bound, f.Note = limit(f.Champion), tail.name
			}
			if fails {
				f.Verdict = Failed
			}
			_, highA := quantileBounds(a, tail.share, pass)
			lowB, _ := quantileBounds(below, tail.share, pass)
			if tail == median {
				passes = highA <= limit(lowB)
			}
		}
		most = max(most, n)
		if passes {
			passed += n
		}
	}
	switch {
	case f.Verdict == Failed:
	case f.N == 0 || f.ChampionN == 0:
		f.Note = "no calls of both that are alike in size"
	case 2*passed >= calls:
		f.Verdict = Passed
	case 2*alike < calls:
		f.Required = false
		f.Note += ", against larger calls"
	}
	return f
}

// finite is for JSON, which has neither infinity nor NaN.
func finite(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return max(-math.MaxFloat64, min(v, math.MaxFloat64))
}

func (j *judgement) agreement() Finding {
	s := j.e.Challenger.Differing
	f := Finding{Gate: gateAgreement, Verdict: Open, Challenger: 1 - s.Mean(), Champion: 1, Bound: j.g.Agreement, N: s.N, ChampionN: s.N, Required: true}
	if s.N == 0 {
		f.Note = "no rows are compared yet"
		return f
	}
	f.Verdict = j.verdict(evidenceOne(float64(s.N), s.Sum, 1-j.g.Agreement), f.Challenger < f.Bound)
	return f
}

// defaultShift is the bound of the gate on scores where none is given.
const defaultShift = 0.3

func (j *judgement) scores() Finding {
	a, b := j.e.Challenger.Scores, j.e.Champion.Scores
	f := Finding{Gate: gateScores, Verdict: Open, Challenger: distance(a, b), Bound: j.g.Shift, N: a.Count(), ChampionN: b.Count(), Required: j.g.Shift > 0}
	if f.Bound == 0 {
		f.Bound = defaultShift
	}
	width := func(alpha float64) float64 {
		return distributionBound(float64(f.N), alpha/2) + distributionBound(float64(f.ChampionN), alpha/2)
	}
	switch {
	case f.Challenger-width(j.fail) > f.Bound:
		f.Verdict = Failed
	case f.Challenger+width(j.pass) < f.Bound:
		f.Verdict = Passed
	case f.N == 0 || f.ChampionN == 0:
		f.Note = "no scores of both"
	}
	return f
}

// leastLabels is the number of labels of an arm below which quality is not judged,
// leastOnes that of the rarer label.
const (
	leastLabels = 200
	leastOnes   = 20
)

// losses are one arm's: the number of labels, the sums of the loss and of its square.
type losses struct{ n, sum, squares float64 }

func (l losses) mean() float64 { return l.sum / max(1, l.n) }
func (l losses) bound(alpha float64) float64 {
	return meanBound(l.n, variance(l.n, l.sum, l.squares), alpha)
}

// losses of both arms, by the same measure; ok is false while they are too few.
func (j *judgement) losses() (a, b losses, ok bool) {
	qa, qb := &j.e.ChallengerQuality, &j.e.ChampionQuality
	if qa.Other == 0 && qb.Other == 0 {
		a = losses{float64(qa.N), qa.Log, qa.Log2}
		b = losses{float64(qb.N), qb.Log, qb.Log2}
		for _, h := range []Histogram{qa.Ones, qa.Zeros, qb.Ones, qb.Zeros} {
			if h.Count() < leastOnes {
				return a, b, false
			}
		}
	} else {
		a = losses{float64(qa.N), qa.Squared, qa.Squared2}
		b = losses{float64(qb.N), qb.Squared, qb.Squared2}
	}
	return a, b, a.n >= leastLabels && b.n >= leastLabels
}

func (j *judgement) quality() Finding {
	a, b, ok := j.losses()
	margin := 1 + j.g.Quality
	f := Finding{Gate: gateQuality, Verdict: Open, Challenger: a.mean(), Champion: b.mean(), Bound: margin * b.mean(),
		N: uint64(a.n), ChampionN: uint64(b.n), Required: j.g.MinLabels > 0}
	if !ok {
		f.Note = fmt.Sprintf("waits for %d labels of each version, and %d of each kind", leastLabels, leastOnes)
		return f
	}
	switch {
	case f.Challenger-a.bound(j.fail/2) > margin*(f.Champion+b.bound(j.fail/2)):
		f.Verdict = Failed
	case f.Challenger+a.bound(j.pass/2) < margin*(f.Champion-b.bound(j.pass/2)):
		f.Verdict = Passed
	}
	if f.Required && f.N < uint64(j.g.MinLabels) && f.Verdict == Passed {
		f.Verdict, f.Note = Open, fmt.Sprintf("%d of %d labels", f.N, j.g.MinLabels)
	}
	return f
}

// better reports whether the challenger's loss is shown to be less than the champion's.
func (j *judgement) better() bool {
	a, b, ok := j.losses()
	return ok && a.mean()+a.bound(j.pass/2) < b.mean()-b.bound(j.pass/2)
}
