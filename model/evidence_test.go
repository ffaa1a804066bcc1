package model

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
)

func TestScoresAndSecondsFallIntoBinsThatRise(t *testing.T) {
	last := -1
	for _, s := range []float64{math.Inf(-1), -1e30, -1e9, -2, -1.2, -1, -0.5, -0.01, -1e-9, 0, 1e-9, 1e-5, 0.001, 0.01, 0.05, 0.0625, 0.07, 0.3, 0.5, 0.52,
		0.9, 0.93, 0.94, 0.96, 0.99, 0.999, 0.99999, 1, 1.1, 1.6, 2, 3, 100, 1e9, math.Inf(1)} {
		bin := scoreBin(s)
		if bin < last || bin >= nanBin {
			t.Errorf("score %v falls into bin %d behind %d", s, bin, last)
		}
		last = bin
	}
	if b := scoreBin(math.NaN()); b != nanBin {
		t.Errorf("NaN falls into bin %d", b)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20000 {
		a, b := math.Float64frombits(rng.Uint64()), math.Float64frombits(rng.Uint64())
		if a > b {
			a, b = b, a
		}
		if i, k := scoreBin(a), scoreBin(b); a <= b && i > k || i < 0 || k < 0 || i >= scoreBins || k >= scoreBins {
			t.Fatalf("scores %v and %v fall into bins %d and %d", a, b, i, k)
		}
		if i, k := secondBin(a), secondBin(b); a <= b && i > k || i < 0 || k < 0 || i >= secondBins || k >= secondBins {
			t.Fatalf("seconds %v and %v fall into bins %d and %d", a, b, i, k)
		}
		if s := rng.ExpFloat64(); s > secondEdge(secondBin(s)) || s < secondEdge(secondBin(s)-1) {
			t.Fatalf("%v s fall into bin %d, up to %v", s, secondBin(s), secondEdge(secondBin(s)))
		}
	}
}

// randomOutcomes are of one frame.
func randomOutcomes(rng *rand.Rand, a *Arm) *Outcomes {
	o := &Outcomes{Arm: a, Rows: 1 + rng.IntN(40), Service: rng.ExpFloat64() / 100, Batch: 1 + rng.IntN(200)}
	for range o.Rows {
		if rng.IntN(10) == 0 {
			o.Failures[rng.IntN(len(o.Failures))]++
			continue
		}
		o.Scores = append(o.Scores, rng.Float64())
		o.Keys = append(o.Keys, rng.Uint64()>>11)
		o.Freshness = append(o.Freshness, rng.ExpFloat64())
		o.Champion = append(o.Champion, []float64{math.NaN(), rng.Float64()}[rng.IntN(2)])
	}
	return o
}

func TestEvidenceOfProcessesAddsUpAndSurvivesStorage(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	one := &Evidence{Rollout: "r", Step: 3}
	whole := [2]*collector{{target: 1, within: 0.2}, {target: 1, within: 0.2}}
	var parts []*Evidence
	for p := range 4 {
		part := [2]*collector{{target: 1, within: 0.2}, {target: 1, within: 0.2}}
		e := &Evidence{Rollout: "r", Step: 3, Process: string(rune('a' + p))}
		for range 50 {
			arm := rng.IntN(2)
			o := randomOutcomes(rng, nil)
			o.Keys = nil
			whole[arm].add(o)
			part[arm].add(o)
			score, label := rng.Float64(), float64(rng.IntN(2))
			one.ChampionQuality.add(score, label)
			e.ChampionQuality.add(score, label)
		}
		e.Champion, e.Challenger = part[0].snapshot(), part[1].snapshot()
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		back := &Evidence{}
		if err := json.Unmarshal(b, back); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, back)
	}
	one.Champion, one.Challenger = whole[0].snapshot(), whole[1].snapshot()
	parts = append(parts, nil, &Evidence{Rollout: "other", Champion: ArmEvidence{Rows: 9}}, &Evidence{Rollout: "r", Step: 2, Champion: ArmEvidence{Rows: 9}})
	rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	got := Merge("r", 3, parts)
	close := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a)) })
	counts := cmp.Comparer(func(a, b Histogram) bool {
		for i := range maxBins {
			if a.at(i) != b.at(i) {
				return false
			}
		}
		return true
	})
	if diff := cmp.Diff(Merge("r", 3, []*Evidence{one}), got, close, counts); diff != "" {
		t.Errorf("merged evidence (−one process +many)\n%s", diff)
	}
	if got.Champion.Rows == 0 || got.Champion.Failing.Some == 0 || got.Champion.Differing.Some == 0 || got.Champion.Late.Some == 0 {
		t.Errorf("evidence is missing: %+v", got.Champion)
	}
}

func TestLabelsOfEarlierStepsCount(t *testing.T) {
	early := &Evidence{Rollout: "r", Step: 1}
	early.ChallengerQuality.add(0.9, 1)
	early.Challenger.Rows = 5
	if m := Merge("r", 2, []*Evidence{early}); m.ChallengerQuality.N != 1 || m.Challenger.Rows != 0 {
		t.Errorf("merged %+v", m)
	}
}

func TestABusyKeyCountsOnceInTheDistributionOfScores(t *testing.T) {
	c := &collector{}
	for range 100 {
		c.add(&Outcomes{Rows: 2, Scores: []float64{0.1, 0.9}, Keys: []uint64{7, 1 << 40}})
	}
	c.add(&Outcomes{Rows: 1, Scores: []float64{0.9}, Keys: []uint64{8}})
	if a := c.snapshot(); a.Scores.Count() != 3 || a.Scored != 201 {
		t.Errorf("%d scores counted of %d: want 3 of 201", a.Scores.Count(), a.Scored)
	}
}

func TestAUCIsThatOfTheScores(t *testing.T) {
	var q Quality
	for _, s := range []float64{0.1, 0.2, 0.3, 0.8} {
		q.add(s, 0)
	}
	for _, s := range []float64{0.25, 0.7, 0.9, 0.95} {
		q.add(s, 1)
	}
	if got, want := q.AUC(), (2+3+4+4)/16.; math.Abs(got-want) > 1e-12 {
		t.Errorf("AUC %v, want %v", got, want)
	}
	if !math.IsNaN((&Quality{}).AUC()) {
		t.Error("AUC without labels is a number")
	}
	q.add(math.NaN(), 1)
	q.add(1e200, 1)
	q.add(0.5, math.Inf(1))
	if q.N != 8 {
		t.Errorf("%d labels counted, of 8 that are numbers", q.N)
	}
	q.add(3, 1)
	q.add(0.5, 0.5)
	if q.N != 10 || q.Other != 2 || math.IsInf(q.Log, 0) {
		t.Errorf("quality %+v", q)
	}
}

func TestOutcomesThatCannotBeAreNoHarm(t *testing.T) {
	c := &collector{target: 1}
	for _, o := range []*Outcomes{
		{}, {Rows: -5}, {Rows: 1, Failures: Failures{errkind.Closed: 9}},
		{Rows: 1, Scores: []float64{math.NaN()}, Freshness: []float64{math.NaN(), -1, math.Inf(1)}, Champion: []float64{1, 2, 3}},
		{Rows: 1, Service: math.Inf(1), Batch: 1}, {Rows: 1, Service: math.NaN(), Batch: 1}, {Rows: 1, Service: -1, Batch: -1},
	} {
		c.add(o)
	}
	e := &Evidence{Challenger: c.snapshot(), Champion: c.snapshot()}
	if _, err := json.Marshal(Decide(&Rollout{Role: Canary, Share: 0.1}, e, Policy{Target: 1}, noon)); err != nil {
		t.Error(err)
	}
}

func FuzzEvidence(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 3))
	c := &collector{target: 1, within: 0.1}
	for range 5 {
		c.add(randomOutcomes(rng, nil))
	}
	e := &Evidence{Rollout: "r", Challenger: c.snapshot(), Champion: c.snapshot()}
	e.ChallengerQuality.add(0.3, 1)
	b, err := json.Marshal(e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"rollout":"r","champion":{"service":[{"0":18446744073709551615},{"70":1}],"failing":{"n":3,"sum":9}}}`))
	f.Add([]byte(`{"rollout":"r","champion":{"scores":{"65535":1}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Evidence
		if json.Unmarshal(b, &e) != nil {
			return
		}
		m := Merge(e.Rollout, e.Step, []*Evidence{&e, &e})
		d := Decide(&Rollout{ID: e.Rollout, Role: Canary, Step: e.Step, Share: 0.5}, m,
			Policy{Target: 1, Gates: Gates{Agreement: 0.9, Quality: 0.1}}, noon)
		if _, err := json.Marshal(d); err != nil {
			t.Errorf("the decision cannot be stored: %v", err)
		}
	})
}

func BenchmarkReport(b *testing.B) {
	rng := rand.New(rand.NewPCG(4, 4))
	arm := &Arm{seen: &collector{target: 1, within: 0.1}}
	s := &Service{}
	o := &Outcomes{Arm: arm, Rows: 200, Service: 0.01, Batch: 200}
	for range 200 {
		o.Scores = append(o.Scores, rng.Float64())
		o.Keys = append(o.Keys, rng.Uint64())
		o.Freshness = append(o.Freshness, rng.ExpFloat64())
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Report(o)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/200, "ns/event")
}

func BenchmarkChoose(b *testing.B) {
	s := &Serving{champion: &Arm{}, challenger: &Arm{Role: Canary}, deal: newDeal("v2-3-m1", 0.1)}
	b.ReportAllocs()
	for b.Loop() {
		s.Choose("customer-0123456")
	}
}

func BenchmarkDecide(b *testing.B) {
	rng := rand.New(rand.NewPCG(5, 5))
	c := &collector{target: 1, within: 0.1}
	for range 1000 {
		c.add(randomOutcomes(rng, nil))
	}
	e := &Evidence{Challenger: c.snapshot(), Champion: c.snapshot()}
	for b.Loop() {
		Decide(&Rollout{Role: Canary, Share: 0.5}, e, Policy{Target: 1, Gates: Gates{Agreement: 0.9, Quality: 0.1}}, noon)
	}
}
