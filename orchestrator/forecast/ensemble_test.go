package forecast

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

var t0 = time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)

func ask(e *Ensemble, at time.Time) *orchestrator.Demand {
	d := &orchestrator.Demand{Time: at, Step: 10 * time.Second, Levels: []float64{0.5, 0.8, 0.9, 0.95, 0.99}}
	e.Forecast(d, 60)
	return d
}

func checkSound(t *testing.T, d *orchestrator.Demand) {
	t.Helper()
	for i, row := range d.Rates {
		for j, v := range row {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 || j > 0 && v < row[j-1] {
				t.Fatalf("row %d of the forecast is %v: want finite, at least 0, rising", i, row)
			}
		}
	}
}

func TestSteadyArrivalsAreForetoldSharply(t *testing.T) {
	e := New(Config{})
	r := rand.New(rand.NewPCG(1, 1))
	var at time.Time
	for i := range 2000 {
		at = t0.Add(time.Duration(i) * 10 * time.Second)
		e.Observe(at, 10*time.Second, 1000+10*r.NormFloat64())
	}
	d := ask(e, at)
	checkSound(t, d)
	if len(d.Rates) != 60 || len(d.Members) != len(Defaults()) {
		t.Fatalf("%d rows, %d members", len(d.Rates), len(d.Members))
	}
	for _, i := range []int{0, 5, 30, 59} {
		if m := d.Rates[i][0]; math.Abs(m-1000) > 10 {
			t.Errorf("median of lead %d is %v, want about 1000", i, m)
		}
		if q := d.Rates[i][3]; q < 1008 || q > 1030 {
			t.Errorf("0.95 quantile of lead %d is %v, want about 1016", i, q)
		}
	}
}

func FuzzObserveNeverPanics(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 200, 100, 255, 0, 0, 13})
	f.Fuzz(func(t *testing.T, b []byte) {
		e := New(Config{})
		at := t0
		rates := []float64{0, 1, 1e3, 1e9, math.NaN(), math.Inf(1), -1, 1e300, 50, 5e-324}
		for i := 0; i+2 < len(b); i += 3 {
			step := time.Duration(int8(b[i])) * time.Second
			if b[i]%7 == 0 {
				step *= 5000
			}
			at = at.Add(step)
			window := time.Duration(b[i+1]) * time.Second / 4
			rate := rates[int(b[i+2])%len(rates)]
			for k := range 1 + int(b[i+1]%50) {
				e.Observe(at.Add(time.Duration(k)*window), window, rate)
			}
			checkSound(t, ask(e, at))
		}
	})
}
