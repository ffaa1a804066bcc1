package learn

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator/forecast"
)

var minutes = forecast.Grid{Step: time.Minute}

// saw is a rate that rises for 20 steps and falls at once: the last value is a poor forecast.
func saw(i int64) float64 { return 100 + 20*float64(i%20) }

// distance is the mean of |forecast − rate| ÷ rate at a lead of 4, over steps from to to.
func distance(f *Forecaster, rate func(int64) float64, from, to int64) float64 {
	var got [1]float64
	sum := 0.0
	for i := from; i < to; i++ {
		f.Update(i, rate(i))
		f.Predict([]int{4}, got[:])
		sum += math.Abs(got[0]-rate(i+4)) / rate(i+4)
	}
	return sum / float64(to-from)
}

func TestForecasterLearnsWhatTheLastValueMisses(t *testing.T) {
	f := NewForecaster(minutes, 1)
	for i := range int64(lstmWarmUp) {
		f.Update(i, saw(i))
	}
	early := distance(f, saw, lstmWarmUp, 2*lstmWarmUp)
	for i := int64(2 * lstmWarmUp); i < 3000; i++ {
		f.Update(i, saw(i))
	}
	late := distance(f, saw, 3000, 3200)
	last := 0.0
	for i := int64(3000); i < 3200; i++ {
		last += math.Abs(saw(i)-saw(i+4)) / saw(i+4) / 200
	}
	t.Logf("error %.3f in the beginning, %.3f after 3000 steps; last value %.3f", early, late, last)
	if !(late < last/3) {
		t.Errorf("error %.3f after 3000 steps, the last value's is %.3f", late, last)
	}
}

func TestForecasterIsTheSameEveryTime(t *testing.T) {
	run := func(seed uint64) []byte {
		f := NewForecaster(minutes, seed)
		for i := range int64(500) {
			f.Update(i, saw(i))
		}
		return f.Weights()
	}
	if !bytes.Equal(run(3), run(3)) {
		t.Error("the same seed gives other weights")
	}
	if bytes.Equal(run(3), run(4)) {
		t.Error("another seed gives the same weights")
	}
}

func TestPredictChangesNothing(t *testing.T) {
	a, b := NewForecaster(minutes, 3), NewForecaster(minutes, 3)
	leads, dst := []int{1, 2, 3, 5, 9, 20, 40, 100}, make([]float64, 8)
	for i := range int64(300) {
		a.Update(i, saw(i))
		b.Update(i, saw(i))
		b.Predict(leads, dst)
	}
	if !bytes.Equal(a.Weights(), b.Weights()) {
		t.Error("the one that was asked has learnt something else")
	}
}

func TestForecasterStaysSoundOnBadSeries(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	nan := math.NaN()
	for name, rate := range map[string]func(int64) float64{
		"zeros":          func(int64) float64 { return 0 },
		"unknown":        func(int64) float64 { return nan },
		"infinite":       func(i int64) float64 { return []float64{5, math.Inf(1), math.Inf(-1), nan}[i%4] },
		"negative":       func(i int64) float64 { return float64(i%2) - 1 },
		"huge":           func(i int64) float64 { return []float64{1e17, 1e-17, 1e300}[i%3] },
		"rarely":         func(i int64) float64 { return []float64{0, 1000}[boolInt(i%97 == 0)] },
		"noise":          func(int64) float64 { return math.Exp(5 * rng.NormFloat64()) },
		"a row of holes": func(i int64) float64 { return []float64{100, nan}[boolInt(i%500 > 300)] },
	} {
		t.Run(name, func(t *testing.T) {
			f := NewForecaster(minutes, 5)
			leads, dst := []int{1, 3, 10, 70}, make([]float64, 4)
			step := int64(29_000_000)
			for i := range int64(1200) {
				step++
				switch {
				case i%400 == 280:
					step += 5
				case i%400 == 360:
					step += 100_000
				case i%400 == 380:
					step -= 50
				}
				f.Update(step, rate(i))
				f.Predict(leads, dst)
				for k, v := range dst {
					if !math.IsNaN(v) && !(v >= 0 && v <= 1e20) {
						t.Fatalf("step %d, lead %d: %v", i, leads[k], v)
					}
				}
			}
			for i, w := range f.net.params {
				if !(math.Abs(w) <= lstmMaxSize) {
					t.Fatalf("weight %d became %v", i, w)
				}
			}
		})
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestWeightsGoOnElsewhere(t *testing.T) {
	f := NewForecaster(minutes, 1)
	for i := range int64(3000) {
		f.Update(i, saw(i))
	}
	g := NewForecaster(minutes, 2)
	if err := g.SetWeights(f.Weights()); err != nil {
		t.Fatal(err)
	}
	for i := range int64(lstmWarmUp) {
		g.Update(i, saw(i))
	}
	if got := distance(g, saw, lstmWarmUp, 2*lstmWarmUp); !(got < 0.15) {
		t.Errorf("error %.3f from the first forecast on", got)
	}
}

func TestGarbageWeightsAreRefused(t *testing.T) {
	f := NewForecaster(minutes, 1)
	sound := f.Weights()
	nan := NewForecaster(minutes, 1)
	nan.net.params[7] = math.NaN()
	huge := NewForecaster(minutes, 1)
	huge.net.params[7] = 1e9
	changed := bytes.Clone(sound)
	changed[100] ^= 1
	for name, b := range map[string][]byte{
		"nothing": nil, "cut": sound[:len(sound)-8], "longer": append(bytes.Clone(sound), 0), "changed": changed,
		"another form": append([]byte("freshet lstm 0\n"), sound[len(weightsMagic):]...), "not a number": nan.Weights(), "huge": huge.Weights(),
	} {
		if err := f.SetWeights(b); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !bytes.Equal(f.Weights(), sound) {
		t.Error("a refusal has changed the weights")
	}
}

func TestForecasterAllocatesNothing(t *testing.T) {
	f := NewForecaster(minutes, 1)
	i := int64(0)
	leads, dst := []int{1, 5, 20}, make([]float64, 3)
	if n := testing.AllocsPerRun(2000, func() {
		f.Update(i, saw(i))
		f.Predict(leads, dst)
		i++
	}); n > 0 {
		t.Errorf("%v allocations a step", n)
	}
}

func BenchmarkForecaster(b *testing.B) {
	f := NewForecaster(minutes, 1)
	leads, dst := make([]int, 20), make([]float64, 20)
	for i := range leads {
		leads[i] = i + 1
	}
	for i := range int64(2000) {
		f.Update(i, saw(i))
	}
	b.ResetTimer()
	for i := range int64(b.N) {
		f.Update(2000+i, saw(i))
		f.Predict(leads, dst)
	}
}

// FuzzWeights wants foreign weights taken or refused, and forecasts sound after either.
func FuzzWeights(f *testing.F) {
	sound := NewForecaster(minutes, 1).Weights()
	f.Add(sound)
	f.Add(sound[:50])
	f.Add([]byte(weightsMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		fc := NewForecaster(minutes, 2)
		before := fc.Weights()
		if err := fc.SetWeights(b); err != nil && !bytes.Equal(fc.Weights(), before) {
			t.Fatal("a refusal has changed the weights")
		}
		var got [1]float64
		for i := range int64(lstmWarmUp + 2) {
			fc.Update(i, saw(i))
		}
		if fc.Predict([]int{3}, got[:]); !(got[0] >= 0 && got[0] < 1e9) {
			t.Fatalf("forecast %v", got[0])
		}
	})
}
