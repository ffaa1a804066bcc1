package orchestrator

import "time"

// Demand is a forecast: quantiles of the arrival rate for each lead time.
type Demand struct {
	// Time is when it was made. Lead i covers Time+i·Step to Time+(i+1)·Step.
	Time time.Time
	Step time.Duration
	// Levels are the quantiles that were asked for, rising, such as 0.5, 0.9, 0.99.
	Levels []float64
	// Rates[i][j] is the quantile Levels[j] of the mean arrival rate in lead i, events a
	// second. Each row rises. Empty where there is no forecast.
	Rates [][]float64
	// Members are the weights of an ensemble's members, largest first, for who wants to know why.
	Members []Member
	// Note says what is unusual about the forecast; empty in normal times.
	Note string
}

// Member is one forecaster of an ensemble.
type Member struct {
	Name   string
	Weight float64
}

// At returns the rate at a lead and a level; the nearest that there is.
func (d *Demand) At(lead int, level float64) float64 {
	if len(d.Rates) == 0 || len(d.Levels) == 0 {
		return 0
	}
	row := d.Rates[min(max(lead, 0), len(d.Rates)-1)]
	best := 0
	for j, l := range d.Levels {
		if abs(l-level) < abs(d.Levels[best]-level) {
			best = j
		}
	}
	return row[best]
}

func abs(x float64) float64 {
	if x < 0 {
		return -x
	}
	return x
}

// A Forecaster learns from what arrived and tells what will. It holds no clock and no
// randomness beyond its seed: the same observations in the same order give the same forecasts.
// It is used by one goroutine.
type Forecaster interface {
	// Observe takes the mean rate (events a second) of the window that ended at end. Windows
	// may differ in length, leave gaps and come late or twice; a rate that is NaN, infinite or negative is not taken
	// and counts as a gap.
	Observe(end time.Time, window time.Duration, rate float64)
	// Forecast fills in d for leads·d.Step from d.Time on, which is never earlier than what was observed; d.Time, d.Step and d.Levels are
	// the caller's, Rates is reused where it is large enough. Too little history gives a wide forecast, and a Note.
	Forecast(d *Demand, leads int)
}
