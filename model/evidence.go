package model

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Outcomes is what became of rows of one frame that one arm had to score in one
// call: a rollout's evidence. It is only read, and nothing of it is kept.
type Outcomes struct {
	Arm *Arm
	// Rows is the number of rows, Failures those without an answer of the model (a
	// fallback, a dead letter) by the kind of the error.
	Rows     int
	Failures Failures
	// Scores are the answers of the rows that the model scored.
	Scores []float64
	// Keys are the KeyHash of these rows, so that a busy key counts no more than
	// another in the distribution of scores; nil counts every row.
	Keys []uint64
	// Freshness are the seconds from the event to the answer; nil where nobody asks.
	Freshness []float64
	// Service is the time from the call to its answer in seconds, and Batch the
	// number of rows that the call carried, with those of other frames; 0 where there was no call.
	Service float64
	Batch   int
	// Champion are the champion's scores beside Scores, NaN where it was not asked; nil for none.
	Champion []float64
}

// Failures counts failed rows by errkind.Kind.
type Failures [errkind.Closed + 1]uint32

// Sum is the number of failed rows.
func (f *Failures) Sum() (n uint64) {
	for _, c := range f {
		n += uint64(c)
	}
	return n
}

// Evidence is what one process, or all of them merged, has seen of one step of a
// rollout. Its size is bounded. All of it is sums, so that the order in which
// processes see rows and are merged is of no matter.
type Evidence struct {
	Rollout string    `json:"rollout"`
	Step    int       `json:"step"`
	Process string    `json:"process,omitempty"`
	Updated time.Time `json:"updated"`
	// Champion and Challenger are what the arms did in the step.
	Champion   ArmEvidence `json:"champion"`
	Challenger ArmEvidence `json:"challenger"`
	// ChampionQuality and ChallengerQuality are of the whole rollout: labels come late.
	ChampionQuality   Quality `json:"champion_quality"`
	ChallengerQuality Quality `json:"challenger_quality"`
	// Decision is the last one that the process came to, for people; nil before the first.
	Decision *Decision `json:"decision,omitempty"`
}

// ArmEvidence is what one arm did.
type ArmEvidence struct {
	Rows   uint64 `json:"rows"`
	Scored uint64 `json:"scored"`
	// Failures are rows without an answer by the name of the error's kind.
	Failures map[string]uint64 `json:"failures,omitempty"`
	// Failing is the share of rows without an answer, Late of answers that came later than
	// the objective, Differing of compared rows whose score is further from the
	// champion's than the tolerance.
	Failing   Share `json:"failing"`
	Late      Share `json:"late"`
	Differing Share `json:"differing"`

	// Service is the service time of calls in seconds, by the size of the batch
	// (see serviceClass): small calls are no measure of large ones.
	Service   [serviceClasses]Histogram `json:"service"`
	Freshness Histogram                 `json:"freshness"`
	// Scores is the distribution of scores, in which a key counts once a step.
	Scores Histogram `json:"scores"`
}

// Share is a share of rows. Its unit is the call, since rows of one may fail or be
// late together, and then say no more than one of them.
type Share struct {
	// Some are the rows that it holds for, Rows all of them.
	Some uint64 `json:"some"`
	Rows uint64 `json:"rows"`
	// N is the number of calls, Sum the sum of their shares, Squares that of the squares.
	N       uint64  `json:"n"`
	Sum     float64 `json:"sum"`
	Squares float64 `json:"squares"`
}

// Mean is the mean share of calls; 0 without any.
func (s Share) Mean() float64 {
	if s.N == 0 {
		return 0
	}
	return s.Sum / float64(s.N)
}

func (s *Share) add(some, all uint64) {
	if all == 0 {
		return
	}
	share := float64(some) / float64(all)
	s.Some += some
	s.Rows += all
	s.N++
	s.Sum += share
	s.Squares += share * share
}

func (s *Share) merge(o Share) {
	s.Some += o.Some
	s.Rows += o.Rows
	s.N += o.N
	sum := min(max(o.Sum, 0), float64(o.N)) // what was stored may be damaged
	s.Sum += sum
	s.Squares += min(max(o.Squares, 0), sum)
}

// Quality is how an arm's scores met the labels.
type Quality struct {
	N uint64 `json:"n"`
	// Squared and Log are sums of the losses (score − label)² and −log of the
	// probability that the score gave the label; Squared2 and Log2 of their squares.
	Squared  float64 `json:"squared"`
	Squared2 float64 `json:"squared2"`
	Log      float64 `json:"log"`
	Log2     float64 `json:"log2"`
	// Other is the number of labels that are not 0 or 1, or whose score is not between.
	Other uint64 `json:"other"`
	// Ones and Zeros are the scores of labels 1 and 0, for the AUC.
	Ones  Histogram `json:"ones"`
	Zeros Histogram `json:"zeros"`
}

// leastProbability bounds the log loss of one label: 13.8.
const leastProbability = 1e-6

func (q *Quality) add(score, label float64) {
	d := (score - label) * (score - label)
	if !(d*d < math.Inf(1)) { // NaN, or too far apart to be added up
		return
	}
	q.N++
	q.Squared += d
	q.Squared2 += d * d
	if score < 0 || score > 1 || label != 0 && label != 1 {
		q.Other++
		return
	}
	p := score
	if label == 0 {
		p = 1 - score
		q.Zeros.add(scoreBins, scoreBin(score))
	} else {
		q.Ones.add(scoreBins, scoreBin(score))
	}
	l := -math.Log(max(p, leastProbability))
	q.Log += l
	q.Log2 += l * l
}

func (q *Quality) merge(o *Quality) {
	q.N += o.N
	q.Other += o.Other
	q.Squared += o.Squared
	q.Squared2 += o.Squared2
	q.Log += o.Log
	q.Log2 += o.Log2
	q.Ones.merge(o.Ones, scoreBins)
	q.Zeros.merge(o.Zeros, scoreBins)
}

// AUC is the area under the ROC curve, to the width of the score bins; NaN
// without labels of both kinds.
func (q *Quality) AUC() float64 {
	var wins, ones, zeros float64
	for i := range scoreBins {
		one, zero := float64(q.Ones.at(i)), float64(q.Zeros.at(i))
		wins += one * (zeros + zero/2)
		ones += one
		zeros += zero
	}
	return wins / (ones * zeros)
}

func (a *ArmEvidence) merge(o *ArmEvidence) {
	a.Rows += o.Rows
	a.Scored += o.Scored
	for kind, n := range o.Failures {
		if a.Failures == nil {
			a.Failures = map[string]uint64{}
		}
		a.Failures[kind] += n
	}
	a.Failing.merge(o.Failing)
	a.Late.merge(o.Late)
	a.Differing.merge(o.Differing)
	for i := range a.Service {
		a.Service[i].merge(o.Service[i], secondBins)
	}
	a.Freshness.merge(o.Freshness, secondBins)
	a.Scores.merge(o.Scores, scoreBins)
}

// Merge adds up what processes have seen of a step of a rollout. What they saw of
// other steps is left out, except for labels. Of their decisions it has the latest.
func Merge(rollout string, step int, all []*Evidence) *Evidence {
	m := &Evidence{Rollout: rollout, Step: step}
	for _, e := range all {
		if e == nil || e.Rollout != rollout {
			continue
		}
		m.ChampionQuality.merge(&e.ChampionQuality)
		m.ChallengerQuality.merge(&e.ChallengerQuality)
		if e.Step != step {
			continue
		}
		if e.Updated.After(m.Updated) {
			m.Updated = e.Updated
		}
		if d := e.Decision; d != nil && (m.Decision == nil || d.Time.After(m.Decision.Time)) {
			m.Decision = d
		}
		m.Champion.merge(&e.Champion)
		m.Challenger.merge(&e.Challenger)
	}
	return m
}

// keyBits is the number of hashes of keys that a collector tells apart; what it
// has marked it takes for seen, which thins the sample and does not bend it.
const keyBits = 1 << 16

// collector counts what one arm does in one step, in this process.
type collector struct {
	target float64 // seconds of freshness; 0 for none
	within float64 // scores that are no further apart agree
	keys   [keyBits / 64]atomic.Uint64

	mu   sync.Mutex // taken once for Outcomes
	arm  ArmEvidence
	fail [errkind.Closed + 1]uint64
}

// add counts o. Its cost is per row a bin and per call a lock.
func (c *collector) add(o *Outcomes) {
	failed, rows := o.Failures.Sum(), uint64(max(0, o.Rows))
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &c.arm
	a.Rows += rows
	a.Scored += uint64(len(o.Scores))
	for k, n := range o.Failures {
		c.fail[k] += uint64(n)
	}
	a.Failing.add(min(failed, rows), rows)
	if o.Batch > 0 && o.Service >= 0 {
		a.Service[serviceClass(o.Batch)].add(secondBins, secondBin(o.Service))
	}
	var late uint64
	for _, s := range o.Freshness {
		a.Freshness.add(secondBins, secondBin(s))
		if c.target > 0 && s > c.target {
			late++
		}
	}
	if c.target > 0 {
		a.Late.add(late, uint64(len(o.Freshness)))
	}
	for i, s := range o.Scores {
		if i < len(o.Keys) && !c.first(o.Keys[i]) {
			continue
		}
		a.Scores.add(scoreBins, scoreBin(s))
	}
	var compared, differing uint64
	for i, s := range o.Champion {
		if i >= len(o.Scores) || math.IsNaN(s) {
			continue
		}
		compared++
		if !(math.Abs(o.Scores[i]-s) <= c.within) {
			differing++
		}
	}
	a.Differing.add(differing, compared)
}

// first reports whether a key is seen for the first time.
func (c *collector) first(hash uint64) bool {
	bit := mix(hash) % keyBits
	return c.keys[bit/64].Or(1<<(bit%64))&(1<<(bit%64)) == 0
}

// snapshot returns a copy of what was counted.
func (c *collector) snapshot() ArmEvidence {
	var a ArmEvidence
	c.mu.Lock()
	defer c.mu.Unlock()
	a.merge(&c.arm)
	for k, n := range c.fail {
		if n > 0 {
			if a.Failures == nil {
				a.Failures = map[string]uint64{}
			}
			a.Failures[errkind.Kind(k).String()] = n
		}
	}
	return a
}
