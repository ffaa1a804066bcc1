package model

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
)

// behaviour is how a version does, in a simulated stream.
type behaviour struct {
	errors  float64 // share of rows that fail
	service float64 // median seconds of a call
	late    float64 // share of calls whose answers come late
	shift   float64 // added to the log-odds of scores
	noise   float64 // of scores, in log-odds: a worse model
}

var steady = behaviour{errors: 0.002, service: 0.004, late: 0.005, noise: 0.3}

// stream simulates rows of keys that two versions score, and decides every 5 s.
type stream struct {
	rng        *rand.Rand
	policy     Policy
	state      *State
	champion   behaviour
	challenger behaviour
	labels     bool

	now      time.Time
	evidence *Evidence
	arms     [2]*collector
	rollout  *Rollout
	rows     [2]int
}

func newStream(seed uint64, p Policy, role Role, share float64, challenger behaviour) *stream {
	s := &stream{rng: rand.New(rand.NewPCG(seed, 99)), policy: p.withDefaults(), champion: steady, challenger: challenger,
		now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), state: &State{Generation: 7, Champion: "v1"}}
	if err := Begin(s.state, Start{Version: "v2", Role: role, Share: share, Now: s.now}); err != nil {
		panic(err)
	}
	s.reset()
	return s
}

func (s *stream) reset() {
	r := *s.state.Rollout
	s.rollout = &r
	before := s.evidence
	s.evidence = &Evidence{Rollout: r.ID, Step: r.Step}
	if before != nil {
		s.evidence.ChampionQuality, s.evidence.ChallengerQuality = before.ChampionQuality, before.ChallengerQuality
	}
	for i := range s.arms {
		s.arms[i] = &collector{target: s.policy.Target.Seconds(), within: s.policy.Gates.Within}
	}
}

// tick is 5 s of 10 frames of 100 rows, and a decision.
func (s *stream) tick() Decision {
	d := newDeal(s.rollout.ID, s.rollout.Share)
	for range 10 {
		var out [2]Outcomes
		for range 100 {
			key := strconv.Itoa(s.rng.IntN(20000))
			arm, b := 0, s.champion
			if d.takes(key) {
				arm, b = 1, s.challenger
			}
			o := &out[arm]
			o.Rows++
			if s.rng.Float64() < b.errors {
				o.Failures[errkind.Invalid]++
				continue
			}
			logit := -2 + 1.5*s.rng.NormFloat64()
			score := sigmoid(logit + b.shift + b.noise*s.rng.NormFloat64())
			o.Scores = append(o.Scores, score)
			o.Keys = append(o.Keys, d.hash(key))
			if s.labels {
				label := 0.0
				if s.rng.Float64() < sigmoid(logit) {
					label = 1
				}
				[]*Quality{&s.evidence.ChampionQuality, &s.evidence.ChallengerQuality}[arm].add(score, label)
			}
			if arm == 1 && s.policy.Gates.Agreement > 0 {
				o.Champion = append(o.Champion, sigmoid(logit+s.champion.noise*s.rng.NormFloat64()))
			}
		}
		for arm, b := range []behaviour{s.champion, s.challenger} {
			o := &out[arm]
			if o.Rows == 0 {
				continue
			}
			s.rows[arm] += o.Rows
			o.Batch = o.Rows
			o.Service = b.service * (0.8 + 0.2*float64(o.Rows)/50) * math.Exp(0.3*s.rng.NormFloat64())
			fresh := 0.1
			if s.rng.Float64() < b.late {
				fresh = 10
			}
			for range o.Scores {
				o.Freshness = append(o.Freshness, fresh)
			}
			s.arms[arm].add(o)
		}
	}
	s.now = s.now.Add(5 * time.Second)
	s.evidence.Champion, s.evidence.Challenger = s.arms[0].snapshot(), s.arms[1].snapshot()
	return Decide(s.rollout, s.evidence, s.policy, s.now)
}

// run lets the rollout run until it ends, or for limit.
func (s *stream) run(t *testing.T, limit time.Duration) (last Decision) {
	t.Helper()
	for end := s.now.Add(limit); s.now.Before(end) && s.rollout.Running(); {
		last = s.tick()
		if last.Action == Hold {
			continue
		}
		if err := Apply(s.state, s.rollout.ID, s.rollout.Step, last); err != nil {
			t.Fatal(err)
		}
		s.reset()
	}
	return last
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

var simulated = Policy{Steps: []float64{0.05, 0.25, 0.5}, Hold: time.Minute, Target: time.Second,
	Gates: Gates{Shift: 0.2, Quality: 0.05, Slower: 1.5}}

func TestVersionsAreRolledBackForWhatIsWorse(t *testing.T) {
	for _, tc := range []struct {
		name, gate string
		worse      func(*behaviour)
		policy     func(*Policy)
		within     time.Duration
	}{
		{"5 % more errors", gateErrors, func(b *behaviour) { b.errors += 0.05 }, nil, 4 * time.Minute},
		{"late answers", gateLate, func(b *behaviour) { b.late += 0.1 }, nil, 8 * time.Minute},
		{"three times slower", gateService, func(b *behaviour) { b.service *= 3 }, nil, 10 * time.Minute},
		{"shifted scores", gateScores, func(b *behaviour) { b.shift += 1.5 }, func(p *Policy) { p.Gates.Quality = 0 }, 10 * time.Minute},
		{"worse by the labels", gateQuality, func(b *behaviour) { b.noise = 2 }, func(p *Policy) { p.Gates.Shift = -1 }, 10 * time.Minute},
		{"other answers than the champion's", gateAgreement, func(b *behaviour) { b.noise = 2 },
			func(p *Policy) { p.Gates = Gates{Shift: -1, Agreement: 0.9, Within: 0.2} }, 10 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, b := simulated, steady
			tc.worse(&b)
			if tc.policy != nil {
				tc.policy(&p)
			}
			const runs = 3
			for seed := range uint64(runs) {
				s := newStream(seed, p, Canary, 0, b)
				s.labels = p.Gates.Quality > 0
				began := s.now
				d := s.run(t, time.Hour)
				if s.state.Rollout.Outcome != RolledBack || s.state.Champion != "v1" {
					t.Fatalf("run %d: outcome %q after %s: %s", seed, s.state.Rollout.Outcome, s.now.Sub(began), d.Reason)
				}
				if took := s.now.Sub(began); took > tc.within {
					t.Errorf("run %d: rolled back after %s: want %s at most", seed, took, tc.within)
				}
				failed, _, _ := sift(d.Findings)
				if len(failed) != 1 || failed[0].Gate != tc.gate {
					t.Errorf("run %d: failed %v, want the gate %q", seed, failed, tc.gate)
				}
				if seed == 0 {
					t.Logf("after %s and %d rows of the canary: %s", s.now.Sub(began), s.rows[1], d.Reason)
				}
			}
		})
	}
}

func TestVersionsNoWorseArePromotedStepByStep(t *testing.T) {
	for _, tc := range []struct {
		name  string
		other func(*behaviour)
	}{
		{"an equal version", func(*behaviour) {}},
		{"a better version", func(b *behaviour) { b.errors, b.service, b.noise = 0.001, 0.003, 0.05 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := steady
			tc.other(&b)
			const runs = 4
			for seed := range uint64(runs) {
				s := newStream(seed, simulated, Canary, 0, b)
				s.labels = true
				began := s.now
				d := s.run(t, time.Hour)
				r := s.state.Rollout
				if r.Outcome != Promoted || s.state.Champion != "v2" {
					t.Fatalf("run %d: outcome %q after %s: %s", seed, r.Outcome, s.now.Sub(began), d.Reason)
				}
				var shares []float64
				for _, past := range r.Past {
					shares = append(shares, past.Share)
				}
				if diff := cmp.Diff([]float64{0.05, 0.25, 0.5, 0}, shares); diff != "" {
					t.Errorf("run %d: shares (−want +got)\n%s", seed, diff)
				}
				if seed == 0 {
					t.Logf("after %s: %s", s.now.Sub(began), d.Reason)
				}
			}
		})
	}
}

func TestVersionsAtTheBoundAreSeldomPromoted(t *testing.T) {
	// Worse than the bound by a hair: a promotion is the error that alpha bounds.
	b := steady
	b.errors += 0.0105
	p := Policy{Steps: []float64{0.5}, Hold: time.Minute, Gates: Gates{Late: -1, Slower: -1, Shift: -1}}
	promoted := 0
	const runs = 12
	for seed := range uint64(runs) {
		s := newStream(seed, p, Canary, 0, b)
		s.run(t, 8*time.Minute)
		if s.state.Rollout.Outcome == Promoted {
			promoted++
		}
	}
	t.Logf("promoted in %d of %d runs", promoted, runs)
	if promoted > 1 {
		t.Errorf("promoted in %d of %d runs", promoted, runs)
	}
}

func TestVersionsWithinTheirBoundsAreSeldomRolledBack(t *testing.T) {
	// Just within every bound: a rollback is the other error that alpha bounds.
	b := steady
	b.errors += 0.0095
	b.late += 0.0195
	b.service *= 1.45
	back := 0
	const runs = 12
	for seed := range uint64(runs) {
		s := newStream(seed, simulated, Canary, 0.5, b)
		s.labels = true
		s.run(t, 10*time.Minute)
		if s.state.Rollout.Outcome == RolledBack {
			back++
		}
	}
	t.Logf("rolled back in %d of %d runs", back, runs)
	if back > 1 {
		t.Errorf("rolled back in %d of %d runs", back, runs)
	}
}

func TestVariantsAreDecidedByLabelsAndShadowsNever(t *testing.T) {
	p := simulated
	p.Gates.Shift = -1
	better := steady
	better.noise = 0.02
	champion := steady
	champion.noise = 1.2

	s := newStream(1, p, Variant, 0, better)
	s.champion, s.labels = champion, true
	if d := s.run(t, time.Hour); s.state.Rollout.Outcome != Promoted || len(s.state.Rollout.Past) != 1 {
		t.Errorf("a variant with less loss: outcome %q: %s", s.state.Rollout.Outcome, d.Reason)
	}
	s = newStream(1, p, Variant, 0, better)
	if d := s.run(t, 20*time.Minute); !s.state.Rollout.Running() || d.Action != Hold {
		t.Errorf("a variant without labels: outcome %q: %s", s.state.Rollout.Outcome, d.Reason)
	}
	s = newStream(1, p, Shadow, 0.5, better)
	s.champion, s.labels = champion, true
	if d := s.run(t, 20*time.Minute); !s.state.Rollout.Running() || d.Action != Hold {
		t.Errorf("a good shadow: outcome %q: %s", s.state.Rollout.Outcome, d.Reason)
	}
	bad := steady
	bad.errors = 0.2
	s = newStream(1, p, Shadow, 0.5, bad)
	if d := s.run(t, time.Hour); s.state.Rollout.Outcome != RolledBack {
		t.Errorf("a bad shadow: outcome %q: %s", s.state.Rollout.Outcome, d.Reason)
	}
}

func TestDecisionsHoldForTimeAndRows(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	r := &Rollout{ID: "x", Role: Canary, Version: "v2", Champion: "v1", Share: 0.01, Step: 1, Stepped: now}
	e := &Evidence{Rollout: "x", Step: 1}
	p := Policy{Hold: time.Minute, MinRows: 10}
	for _, tc := range []struct {
		name   string
		rows   uint64
		after  time.Duration
		share  float64
		action Action
		reason string
	}{
		{"not yet begun", 0, 0, 0, Advance, "the first step"},
		{"too early", 100, 59 * time.Second, 0.01, Hold, "59s of 1m0s"},
		{"too few rows", 9, time.Hour, 0.01, Hold, "9 of 10 rows"},
		{"enough of both", 10, time.Minute, 0.01, Advance, "10 rows in 1m0s, no gate failed: errors open (no calls of both); slower open (no calls of both that are alike in size); shift open (no scores of both)"},
		{"the last step with gates open", 10, time.Hour, 0.5, Hold, "not yet shown: errors open (no calls of both); slower open (no calls of both that are alike in size)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, e := *r, *e
			r.Share, e.Challenger.Rows = tc.share, tc.rows
			d := Decide(&r, &e, p, now.Add(tc.after))
			if d.Action != tc.action || d.Reason != tc.reason {
				t.Errorf("%s: %s\nwant %s: %s", d.Action, d.Reason, tc.action, tc.reason)
			}
		})
	}
}

func TestACanaryOfSmallCallsIsNotHeldUpByThem(t *testing.T) {
	// The champion's calls are all larger than the canary's, to the end.
	p := Policy{Steps: []float64{0.05}, Hold: time.Minute}
	s := newStream(1, p, Canary, 0, steady)
	if d := s.run(t, time.Hour); s.state.Rollout.Outcome != Promoted {
		t.Errorf("an equal version: outcome %q: %s", s.state.Rollout.Outcome, d.Reason)
	}
	slow := steady
	slow.service *= 3
	s = newStream(1, p, Canary, 0, slow)
	if d := s.run(t, time.Hour); s.state.Rollout.Outcome != RolledBack {
		t.Errorf("a slower version: outcome %q: %s", s.state.Rollout.Outcome, d.Reason)
	}
}
