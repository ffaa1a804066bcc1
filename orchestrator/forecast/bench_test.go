package forecast

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// BenchmarkStep is what a controller does every ten seconds: observe, and ask for ten minutes.
func BenchmarkStep(b *testing.B) {
	e := New(Config{})
	r := rand.New(rand.NewPCG(1, 1))
	d := &orchestrator.Demand{Step: 10 * time.Second, Levels: []float64{0.5, 0.8, 0.9, 0.95, 0.99}}
	b.ReportAllocs()
	for i := range b.N {
		at := t0.Add(time.Duration(i) * 10 * time.Second)
		e.Observe(at, 10*time.Second, 1000*(1.5+math.Sin(float64(i)/8640*2*math.Pi))+100*r.NormFloat64())
		d.Time = at
		e.Forecast(d, 60)
	}
}
