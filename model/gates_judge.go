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
	gateService   = "service"
	gateAgreement = "agreement"
	gateScores    = "scores"
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
			found = append(found, a.judge(&j))
		}
	}
	return found
}

func spend(step int) float64 {
	i := float64(max(0, step) + 1)
	return 6 / (math.Pi * math.Pi) / (i * i)
}

func (j *judgement) errors() Finding {
	f := j.shares(gateErrors, j.e.Challenger.FailedShare, j.e.Champion.FailedShare, j.g.Errors)
	f.Required = true
	return f
}

func (j *judgement) late() Finding {
	f := j.shares(gateLate, j.e.Challenger.LateShare, j.e.Champion.LateShare, j.g.Late)
	f.Required = true
	return f
}

// shares judges whether the challenger's share is greater than the champion's by more than margin.
func (j *judgement) shares(gate string, a, b Share, margin float64) Finding {
	f := Finding{Gate: gate, Verdict: Open, Challenger: a.Mean(), Champion: b.Mean(), Bound: b.Mean() + margin, N: a.N, ChampionN: b.N}
	if a.N == 0 || b.N == 0 {
		f.Note = "no calls of both"
		return f
	}
	l := evidenceTwo(float64(a.N), min(a.Sum, float64(a.N)), float64(b.N), min(b.Sum, float64(b.N)), margin)
	f.Verdict = j.verdict(l, f.Challenger > f.Bound)
	return f
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

// service judges the 99th percentiles of service time, class by class of the size
// of the batch. One class that fails is enough; those that hold half of the
// challenger's calls must pass.
func (j *judgement) service() Finding {
	f := Finding{Gate: gateService, Verdict: Open, Required: true}
	var calls, alike, passed, most uint64
	for c := range serviceClasses {
		a, b := j.e.Challenger.Service[c], j.e.Champion.Service[c]
		na, nb := a.Count(), b.Count()
		calls += na
		if na == 0 || nb == 0 {
			continue
		}
		alike += na
		limit := func(s float64) float64 { return max(j.g.Slower*s, s+noDifference) }
		lowA, _ := quantileBounds(a, 0.01, j.fail/serviceClasses/2)
		_, highB := quantileBounds(b, 0.01, j.fail/serviceClasses/2)
		_, highA := quantileBounds(a, 0.01, j.pass/2)
		lowB, _ := quantileBounds(b, 0.01, j.pass/2)
		fails := lowA > limit(highB)
		if fails || na > most && f.Verdict != Failed {
			most = na
			f.Challenger, f.Champion, f.N, f.ChampionN = finite(a.Quantile(0.99)), finite(b.Quantile(0.99)), na, nb
			f.Bound = limit(f.Champion)
		}
		if fails {
			f.Verdict = Failed
		}
		if highA <= limit(lowB) {
			passed += na
		}
	}
	switch {
	case f.Verdict == Failed:
	case calls > 0 && alike == 0:
		f.Note = fmt.Sprintf("none of %d calls is like the champion's in size", calls)
	case passed > 0 && 2*passed >= calls:
		f.Verdict = Passed
	}
	return f
}

// finite is for JSON, which has no infinity.
func finite(v float64) float64 { return min(v, math.MaxFloat64) }

func (j *judgement) agreement() Finding {
	s := j.e.Challenger.DifferingShare
	f := Finding{Gate: gateAgreement, Verdict: Open, Challenger: 1 - s.Mean(), Champion: 1, Bound: j.g.Agreement, N: s.N, ChampionN: s.N, Required: true}
	if s.N == 0 {
		f.Note = "no rows are compared yet"
		return f
	}
	f.Verdict = j.verdict(evidenceOne(float64(s.N), min(s.Sum, float64(s.N)), 1-j.g.Agreement), f.Challenger < f.Bound)
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

func (l losses) mean() float64               { return l.sum / max(1, l.n) }
func (l losses) bound(alpha float64) float64 { return meanBound(l.n, l.sum, l.squares, alpha) }

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
