package forecast_test

import (
	"fmt"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/forecast"
)

func Example() {
	f := forecast.New(forecast.Config{})
	d := orchestrator.Demand{Step: 30 * time.Second, Levels: []float64{0.5, 0.9}}
	start := time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)
	for i := range 1000 {
		d.Time = start.Add(time.Duration(i+1) * 10 * time.Second)
		f.Observe(d.Time, 10*time.Second, 500+float64(i%2))
		f.Forecast(&d, 20)
	}
	fmt.Printf("%d leads, the first about %.0f hundred events a second\n", len(d.Rates), d.At(0, 0.5)/100)
	// Output: 20 leads, the first about 5 hundred events a second
}
