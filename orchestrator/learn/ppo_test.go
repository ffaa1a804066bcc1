package learn

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

func TestSlopeOfClippedObjectiveIsThatOfTheLoss(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const clip, entropy, weight = 0.2, 0.03, 0.5
	for i := range 50 {
		logits, probs, d := draw(rng, 4), make([]float64, 4), make([]float64, 4)
		softmax(logits, probs)
		s := &sample{action: i % 4}
		s.logProb = math.Log(probs[s.action]) + 0.3*rng.NormFloat64()
		advantage := rng.NormFloat64()
		objectiveSlope(probs, d, s, advantage, entropy, clip, weight)
		loss := func() float64 {
			softmax(logits, probs)
			ratio := math.Exp(math.Log(probs[s.action]) - s.logProb)
			h := 0.0
			for _, p := range probs {
				h -= p * math.Log(p)
			}
			clipped := min(max(ratio, 1-clip), 1+clip)
			return -weight * (min(ratio*advantage, clipped*advantage) + entropy*h)
		}
		checkGradient(t, logits, d, loss)
	}
}

// shifts is a toy with a known optimum: load goes round in a cycle, workers ordered now are
// there two steps later, each costs 1 a step, and a unit of load without a worker costs 4.
// The best order is what the cycle needs in two steps; the last load alone does not tell.
type shifts struct{}

var shiftLoads = []int{0, 0, 2, 3, 3, 1, 2, 0, 3}

func (shifts) Sizes() (int, int) { return 9 + 4, 4 }

func (shifts) Episode(seed uint64, act func([]float32, float64) int) error {
	at := int(seed % 9)
	coming, ready, reward := 0, 0, 0.0
	obs := make([]float32, 9+4)
	for range 60 {
		clear(obs)
		obs[at], obs[9+coming] = 1, 1
		a := act(obs, reward)
		at = (at + 1) % 9
		ready, coming = coming, a
		reward = -float64(ready) - 4*float64(max(0, shiftLoads[at]-ready))
	}
	return nil
}

func TestPPOFindsTheOptimumOfAToy(t *testing.T) {
	got, err := Train(shifts{}, Training{Iterations: 25, Episodes: 12, Hidden: 16, Epochs: 5, Rate: 5e-3, Discount: 0.8, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	logits := make([]float32, 4)
	err = shifts{}.Episode(0, stepOf(t, got.net, logits, func(obs []float32, action int) {
		// The order made while the load of step k is on serves step k+2.
		k, _ := largest(obs[:9])
		if want := shiftLoads[(k+2)%9]; action != want {
			t.Errorf("after load %d of the cycle: ordered %d, the optimum is %d", k, action, want)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
}

// stepOf acts by the largest logit.
func stepOf(t *testing.T, net Net, logits []float32, see func([]float32, int)) func([]float32, float64) int {
	return func(obs []float32, _ float64) int {
		if err := net.Infer(obs, logits); err != nil {
			t.Fatal(err)
		}
		best, _ := largest(logits)
		see(obs, best)
		return best
	}
}

func TestTrainingAgainGivesTheSameWeights(t *testing.T) {
	var first *Trained
	for range 2 {
		got, err := Train(shifts{}, Training{Iterations: 3, Episodes: 2, Seed: 7})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = got
			continue
		}
		for i, w := range got.net.params {
			if math.Float64bits(w) != math.Float64bits(first.net.params[i]) {
				t.Fatalf("weight %d: %v, then %v", i, first.net.params[i], w)
			}
		}
	}
	other, err := Train(shifts{}, Training{Iterations: 3, Episodes: 2, Seed: 8})
	if err != nil {
		t.Fatal(err)
	}
	if other.net.params[0] == first.net.params[0] {
		t.Error("another seed gives the same weights")
	}
}

// weather is a toy in which nothing that is done matters: rewards are the seed's.
type weather struct{}

func (weather) Sizes() (int, int) { return 1, 3 }

func (weather) Episode(seed uint64, act func([]float32, float64) int) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range 20 {
		act([]float32{float32(i) / 20}, 100*rng.NormFloat64())
	}
	return nil
}

func TestWhatHappensToAllSiblingsIsNobodysMerit(t *testing.T) {
	tr, err := newTrainer(weather{}, Training{Episodes: 6, Siblings: 3, Seed: 1}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.experience(0); err != nil {
		t.Fatal(err)
	}
	for i := range tr.samples[:tr.used] {
		if a := tr.samples[i].advantage; math.Abs(a) > 1e-9 {
			t.Fatalf("decision %d has the advantage %g", i, a)
		}
	}
}

// faulty gives a reward that is no number, or fails.
type faulty struct{ err error }

func (faulty) Sizes() (int, int) { return 1, 3 }

func (f faulty) Episode(_ uint64, act func([]float32, float64) int) error {
	for range 4 {
		act([]float32{1}, math.NaN())
	}
	return f.err
}

func TestTrainingOnNonsenseFails(t *testing.T) {
	cause := errors.New("no such world")
	if _, err := Train(faulty{err: cause}, Training{}); !errors.Is(err, cause) {
		t.Errorf("the task's error is lost: %v", err)
	}
	if _, err := Train(faulty{}, Training{}); err == nil {
		t.Error("rewards that are no numbers were learnt from")
	}
}
