package model

import (
	"fmt"
	"strings"
	"time"
)

// Action is what a decision does.
type Action string

const (
	// Hold leaves everything as it is.
	Hold Action = "hold"
	// Advance gives the challenger the share Decision.Share of the keys.
	Advance Action = "advance"
	// Promote makes the challenger champion.
	Promote Action = "promote"
	// RollBack gives all keys to the champion.
	RollBack Action = "roll back"
)

// Decision is what is to be done about a rollout, and why.
type Decision struct {
	Action Action    `json:"action"`
	Time   time.Time `json:"time"`
	// Step is the one that is decided about.
	Step int `json:"step"`
	// Share is the share of keys from now on, with Advance.
	Share  float64 `json:"share,omitempty"`
	Reason string  `json:"reason"`
	// Findings are the gates' verdicts, Rows and Seconds the challenger's rows and time in the step.
	Findings []Finding `json:"findings,omitempty"`
	Rows     uint64    `json:"rows"`
	Seconds  float64   `json:"seconds"`
}

// Decide says what is to be done about a running rollout. e is the evidence of all
// processes of the rollout's step (see Merge). It is a function of its arguments alone.
//
// A gate that fails rolls back, at any time. A canary advances from step to step
// of the policy when the step's time and rows are full and no gate that a promotion needs
// stands beyond its bound; behind the last step it is promoted once all of those have passed.
// A variant keeps its share: it is promoted when its loss is shown to be less than
// the champion's and no other gate is in the way, otherwise by a person. A shadow
// is rolled back by a gate, and never promoted.
//
// Each verdict holds over all looks: see Gates.Alpha. Rows of different calls are
// taken for independent of each other within an arm, as are scores of different keys and labels.
func Decide(r *Rollout, e *Evidence, p Policy, now time.Time) Decision {
	p = p.withDefaults()
	held := now.Sub(r.Stepped)
	d := Decision{Action: Hold, Time: now, Step: r.Step, Rows: e.Challenger.Rows, Seconds: held.Seconds()}
	if r.Share == 0 && r.Role == Canary {
		d.Action, d.Share = Advance, nextShare(p, 0)
		d.Reason = "the first step"
		return d
	}
	d.Findings = judge(e, p, r.Step)
	failed, open, beyond := sift(d.Findings)
	last := r.Role != Canary || nextShare(p, r.Share) == 1
	switch {
	case len(failed) > 0:
		d.Action, d.Reason = RollBack, describe(failed)
	case held < p.Hold:
		d.Reason = fmt.Sprintf("%s of %s", held.Round(time.Second), p.Hold)
	case d.Rows < uint64(p.MinRows):
		d.Reason = fmt.Sprintf("%d of %d rows", d.Rows, p.MinRows)
	case len(beyond) > 0:
		d.Reason = "not yet shown: " + describe(beyond)
	case !last:
		d.Action, d.Share = Advance, nextShare(p, r.Share)
		d.Reason = fmt.Sprintf("%d rows in %s, no gate failed: %s", d.Rows, held.Round(time.Second), describe(d.Findings))
	case len(open) > 0:
		d.Reason = "not yet shown: " + describe(open)
	case r.Role == Shadow:
		d.Reason = "no gate is in the way: " + describe(d.Findings)
	case r.Role == Variant:
		j := judgement{e: e, g: p.Gates, pass: p.Gates.Alpha}
		if p.Gates.Quality > 0 && j.better() {
			d.Action, d.Reason = Promote, "its loss is less: "+describe(d.Findings)
		} else {
			d.Reason = "no gate is in the way, and a person decides: " + describe(d.Findings)
		}
	default:
		d.Action, d.Reason = Promote, "no gate is in the way: "+describe(d.Findings)
	}
	return d
}

// sift returns the findings that failed, those that a promotion still needs, and
// those that stand beyond their bound so far, for which a step waits.
func sift(all []Finding) (failed, open, beyond []Finding) {
	for _, f := range all {
		switch {
		case f.Verdict == Failed:
			failed = append(failed, f)
		case f.Verdict == Open && (f.Required || f.Gate == gateService):
			if f.Required {
				open = append(open, f)
			}
			if f.beyond() {
				beyond = append(beyond, f)
			}
		}
	}
	return failed, open, beyond
}

// beyond reports whether the estimate is beyond the bound, shown or not.
func (f Finding) beyond() bool {
	if f.N == 0 || f.ChampionN == 0 {
		return false
	}
	if f.Gate == gateAgreement {
		return f.Challenger < f.Bound
	}
	return f.Challenger > f.Bound
}

// String is the finding for people: "errors failed: 5.2 % of 1840 calls, champion 0.1 %, bound 1.1 %".
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", f.Gate, f.Verdict)
	if f.N > 0 {
		switch f.Gate {
		case gateErrors, gateLate:
			fmt.Fprintf(&b, ": %s in %d calls, champion %s, bound %s", percent(f.Challenger), f.N, percent(f.Champion), percent(f.Bound))
		case gateService:
			fmt.Fprintf(&b, ": %s of %d calls, champion %s, bound %s", seconds(f.Challenger), f.N, seconds(f.Champion), seconds(f.Bound))
		case gateAgreement:
			fmt.Fprintf(&b, ": %s in %d calls, bound %s", percent(f.Challenger), f.N, percent(f.Bound))
		case gateScores:
			fmt.Fprintf(&b, ": distance %.3g over %d scores, bound %.3g", f.Challenger, f.N, f.Bound)
		case gateQuality:
			fmt.Fprintf(&b, ": loss %.4g over %d labels, champion %.4g, bound %.4g", f.Challenger, f.N, f.Champion, f.Bound)
		}
	}
	if f.Note != "" {
		fmt.Fprintf(&b, " (%s)", f.Note)
	}
	return b.String()
}

func seconds(s float64) string {
	if s > 1e6 {
		return "over 1 h"
	}
	return time.Duration(s * float64(time.Second)).Round(10 * time.Microsecond).String()
}

func describe(all []Finding) string {
	texts := make([]string, len(all))
	for i, f := range all {
		texts[i] = f.String()
	}
	return strings.Join(texts, "; ")
}
