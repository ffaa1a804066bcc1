package learn

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/freshet-io/freshet/orchestrator"
)

func TestEpisodesAreTheSameForASeedAndActions(t *testing.T) {
	run := func(seed uint64) (rewards []float64) {
		rng := rand.New(rand.NewPCG(1, 1))
		if err := (Practice{}).Episode(seed, func(obs []float32, reward float64) int {
			rewards = append(rewards, reward, float64(obs[obsNeed]))
			return rng.IntN(Actions)
		}); err != nil {
			t.Fatal(err)
		}
		return rewards
	}
	for seed := range uint64(12) {
		a, b := run(seed), run(seed)
		if len(a) != len(b) || len(a) < 2*300 {
			t.Fatalf("seed %d: %d values, then %d", seed, len(a), len(b))
		}
		for i := range a {
			if a[i] != b[i] || !(a[i] > -1e4 && a[i] < 1e4) {
				t.Fatalf("seed %d: value %d is %v, then %v", seed, i, a[i], b[i])
			}
		}
	}
}

func TestRewardIsCostAndLateness(t *testing.T) {
	w, s := Practice{Penalty: 50}.scene(4)
	mean := s.needed * w.Capacity.Rate(w.Capacity.Batch)
	signals := orchestrator.Signals{Time: noon, Window: Period, Known: orchestrator.KnownAll, Ready: 3, Starting: 2, Stopping: 1, Served: mean, Late: 0.1}
	s.earn(&signals)
	want := -6/s.needed - 5
	if math.Abs(s.reward-want) > 1e-9 {
		t.Errorf("reward %v, expected %v", s.reward, want)
	}
	if s.earn(&signals); math.Abs(s.reward-want) > 1e-9 {
		t.Error("the same signals were counted twice")
	}
	signals.Time, signals.Late, signals.Served = noon.Add(Period), 1, 100*mean
	s.reward = 0
	if s.earn(&signals); math.Abs(s.reward+6/s.needed+worst) > 1e-9 {
		t.Errorf("reward %v of a lost window, expected %v and the cost", s.reward, -worst)
	}
}

func TestTeacherIsCalibrated(t *testing.T) {
	levels := orchestrator.DefaultLevels()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		a := makeArrivals(rng, 5400, 4000)
		teacher := newTeacher(rng, a, levels)
		under := make([]float64, len(levels))
		const lead, steps = 2, 5400/foreStep - 2
		for k := range steps {
			rates, mean := teacher.at(float64(k*foreStep)), 0.0
			for i := (k + lead) * foreStep; i < (k+lead+1)*foreStep; i++ {
				mean += a.calm[i] * (1 + a.extra[i]) / foreStep
			}
			for j, r := range rates[lead] {
				if mean <= r*(1+1e-9) {
					under[j] += 1.0 / steps
				}
			}
		}
		for j, share := range under {
			if math.Abs(share-levels[j]) > 0.02 {
				t.Errorf("seed %d: %.3f of what came lies under the quantile %v", seed, share, levels[j])
			}
		}
	}
}

func TestArrivalsAreSound(t *testing.T) {
	for seed := range uint64(60) {
		a := makeArrivals(rand.New(rand.NewPCG(seed, 2)), 1800, 1000)
		sum := 0.0
		for i, c := range a.counts {
			if !(c >= 0 && c < 1e6 && a.calm[i] >= 0 && a.extra[i] > -1) {
				t.Fatalf("seed %d, second %d: %v events of %v·(1 + %v)", seed, i, c, a.calm[i], a.extra[i])
			}
			sum += c
		}
		if mean := sum / 1800; mean < 800 || mean > 1300 {
			t.Errorf("seed %d: %v events a second, asked for 1000", seed, mean)
		}
	}
}
