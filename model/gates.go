package model

import (
	"math"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Policy says how a step of a pipeline tries out versions. What is rolled out is
// the source's State.
type Policy struct {
	// Key is the field by which rows are dealt to arms; the pipeline reads it.
	Key string
	// Steps are the shares of keys that a canary takes one after another, rising;
	// behind the last one comes promotion. Nil means 0.01, 0.1, 0.5.
	Steps []float64
	// Hold is the least time of a step; 0 means 10 minutes.
	Hold time.Duration
	// MinRows is the least number of rows that the challenger answers in a step; 0 means 100.
	MinRows int
	// Target is the freshness objective: an answer that comes later after its
	// event is late. 0 judges no lateness.
	Target time.Duration
	// Compare is the share of the challenger's keys that the champion scores too,
	// for Gates.Agreement; 0 means 0.05.
	Compare float64
	// Gates are what the challenger must hold.
	Gates Gates
}

// Gates bound how much worse than the champion a challenger may be. A gate fails
// when it is shown to be worse than the bound, and passes when it is shown to be
// better. See Decide for what that means. Negative turns a gate off.
type Gates struct {
	// Alpha is the probability, at most, that a version within all bounds is rolled
	// back by some gate at some time of its rollout, and that one beyond a bound of a
	// gate that must be passed is promoted; 0 means 0.05.
	Alpha float64
	// Errors is how much greater the share of rows without an answer may be; 0 means 0.01.
	Errors float64
	// Late is how much greater the share of late answers may be; 0 means 0.02.
	Late float64
	// Slower is how many times longer the median and the 99th percentile of service
	// time may be, among calls of like size; 0 means 1.5. A difference below 1 ms is none.
	Slower float64
	// Agreement is the least share of rows on which challenger and champion agree,
	// whose scores are no further apart than Within; 0 does not ask.
	Agreement float64
	// Within is the distance of scores that agree; 0 means 0.1.
	Within float64
	// Shift is the greatest distance (Kolmogorov–Smirnov, 0 to 1) between the
	// distributions of scores. 0 means 0.3, which may fail and need not be passed.
	Shift float64
	// Quality is by which share of the champion's loss the challenger's may be
	// greater, where labels come: 0.02 is 2 %. The loss is logarithmic for labels
	// 0 and 1 with scores between, squared otherwise. 0 does not ask.
	Quality float64
	// MinLabels is the number of labels of the challenger without which the gate on quality is
	// not passed; 0 promotes without labels.
	MinLabels int
}

func (p Policy) withDefaults() Policy {
	if p.Steps == nil {
		p.Steps = []float64{0.01, 0.1, 0.5}
	}
	if p.Hold == 0 {
		p.Hold = 10 * time.Minute
	}
	if p.MinRows == 0 {
		p.MinRows = 100
	}
	if p.Compare == 0 {
		p.Compare = 0.05
	}
	g := &p.Gates
	for _, d := range []struct {
		v    *float64
		zero float64
	}{{&g.Alpha, 0.05}, {&g.Errors, 0.01}, {&g.Late, 0.02}, {&g.Slower, 1.5}, {&g.Within, 0.1}} {
		if *d.v == 0 {
			*d.v = d.zero
		}
	}
	return p
}

// Validate returns an error of kind Config for what cannot be.
func (p Policy) Validate() error {
	bad := func(key string, v any, want string) error {
		return errkind.Errorf(errkind.Config, "rollout: %s is %v: want %s", key, v, want)
	}
	last := 0.0
	for _, s := range p.Steps {
		if !(s > last && s < 1) {
			return bad("steps", p.Steps, "rising shares between 0 and 1; promotion follows the last one")
		}
		last = s
	}
	g := p.Gates
	switch {
	case p.Hold < 0:
		return bad("hold", p.Hold, "a time")
	case p.MinRows < 0:
		return bad("min_rows", p.MinRows, "a number of rows")
	case p.Target < 0:
		return bad("the freshness target", p.Target, "a time")
	case !(p.Compare >= 0 && p.Compare <= 1):
		return bad("compare", p.Compare, "a share between 0 and 1")
	case !(g.Alpha >= 0 && g.Alpha < 0.5):
		return bad("gates.alpha", g.Alpha, "a probability below 0.5")
	case !(g.Errors < 1):
		return bad("gates.errors", g.Errors, "a share below 1")
	case !(g.Late < 1):
		return bad("gates.late", g.Late, "a share below 1")
	case math.IsNaN(g.Slower) || g.Slower > 0 && g.Slower < 1:
		return bad("gates.slower", g.Slower, "a factor of at least 1")
	case !(g.Agreement < 1):
		return bad("gates.agreement", g.Agreement, "a share below 1: no two versions agree on every row")
	case math.IsNaN(g.Within):
		return bad("gates.within", g.Within, "a distance of scores")
	case !(g.Shift < 1):
		return bad("gates.shift", g.Shift, "a distance below 1")
	case math.IsNaN(g.Quality):
		return bad("gates.quality", g.Quality, "a share of the loss")
	case g.MinLabels < 0:
		return bad("gates.min_labels", g.MinLabels, "a number of labels")
	}
	return nil
}

// Verdict is what a gate says.
type Verdict string

const (
	// Passed: the challenger is shown to be within the bound.
	Passed Verdict = "passed"
	// Failed: it is shown to be beyond the bound.
	Failed Verdict = "failed"
	// Open: what was seen shows neither.
	Open Verdict = "open"
)

// Finding is a gate's verdict with its numbers.
type Finding struct {
	Gate    string  `json:"gate"`
	Verdict Verdict `json:"verdict"`
	// Challenger and Champion are the estimates, Bound what the challenger must be below
	// (above, for agreement) at the champion's estimate.
	Challenger float64 `json:"challenger"`
	Champion   float64 `json:"champion"`
	Bound      float64 `json:"bound"`
	// N and ChampionN are the numbers of observations: calls, keys, or labels.
	N         uint64 `json:"n"`
	ChampionN uint64 `json:"champion_n"`
	// Required is whether a promotion needs the gate passed.
	Required bool `json:"required"`
	// Note says more: the quantile, what is missing.
	Note string `json:"note,omitempty"`
}
