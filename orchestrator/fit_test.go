package orchestrator

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestFitFindsTheTimeOfACall(t *testing.T) {
	believed := testCapacity()
	f := NewFit(believed)
	rng := rand.New(rand.NewPCG(1, 1))
	at := midday
	for range 2000 {
		at = at.Add(10 * time.Second)
		s := good(at)
		for range 2 {
			rows := 1 + 255*rng.Float64()
			s.Calls = append(s.Calls, Call{Rows: rows, Seconds: (0.05 + 0.004*rows) * (1 + 0.1*rng.NormFloat64()), N: 20})
		}
		f.Observe(s, Orders{Workers: 10})
	}
	c := believed
	f.Into(&c)
	if math.Abs(c.Overhead-0.05) > 0.01 || math.Abs(c.PerEvent-0.004) > 0.0003 {
		t.Errorf("%.4f + %.5f·n, expected 0.05 + 0.004·n", c.Overhead, c.PerEvent)
	}
}

func TestFitIsBoundedAndTakesNoNonsense(t *testing.T) {
	believed := testCapacity()
	f := NewFit(believed)
	at := midday
	for i := range 3000 {
		at = at.Add(10 * time.Second)
		s := good(at)
		s.Calls = []Call{
			{Rows: 64, Seconds: 500, N: 1000}, {Rows: math.NaN(), Seconds: 1, N: 1}, {Rows: 8, Seconds: -1, N: 1},
			{Rows: 8, Seconds: math.Inf(1), N: 1}, {Rows: -3, Seconds: 1, N: 1}, {Rows: 3, Seconds: 1, N: math.NaN()},
		}
		s.Ready = i % 7
		f.Observe(s, Orders{Workers: i % 5, Changed: at})
	}
	c := believed
	f.Into(&c)
	if !(c.Overhead <= fitFactor*believed.Overhead && c.PerEvent <= fitFactor*believed.PerEvent && c.Overhead > 0 && c.PerEvent > 0) {
		t.Errorf("%v + %v·n", c.Overhead, c.PerEvent)
	}
	if !(c.Exponent == 0 || c.Exponent >= fitExponent && c.Exponent <= 1) {
		t.Errorf("exponent %v", c.Exponent)
	}
	if c.StartUp < believed.StartUp/8 || c.StartUp > 8*believed.StartUp {
		t.Errorf("start-up %v", c.StartUp)
	}
}

func TestFitMeasuresTheStartUp(t *testing.T) {
	f := NewFit(testCapacity())
	ready, workers := 4, 4
	var changed time.Time
	for i := range 400 {
		at := midday.Add(time.Duration(i) * 10 * time.Second)
		if i%20 == 0 {
			workers, changed = workers+1, at
		}
		if i%20 == 9 { // 90 s later
			ready++
		}
		s := good(at)
		s.Ready, s.Starting = ready, workers-ready
		f.Observe(s, Orders{Workers: workers, Changed: changed})
	}
	got, ok := f.StartUp()
	if !ok || got < 80*time.Second || got > 95*time.Second {
		t.Errorf("%v, expected 80 to 95 seconds", got)
	}
}

func TestFitFindsTheLossAmongManyWorkers(t *testing.T) {
	believed := testCapacity()
	f := NewFit(believed)
	for i := range 500 {
		s := good(midday.Add(time.Duration(i) * 10 * time.Second))
		s.Ready, s.Busy, s.Batch = 20, 1, 256
		s.Served = believed.Rate(256) * math.Pow(20, 0.9)
		f.Observe(s, Orders{Workers: 20})
	}
	c := believed
	f.Into(&c)
	if math.Abs(c.Exponent-0.9) > 0.01 {
		t.Errorf("exponent %.3f, expected 0.9", c.Exponent)
	}
}
