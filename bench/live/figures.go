package live

import (
	"encoding/json"
	"time"

	"github.com/freshet-io/freshet/orchestrator/simulate"
)

// figures are a result as programs read it: seconds of the trace, shares of 1.
type figures struct {
	WorkerSeconds float64   `json:"worker_seconds"`
	Events        float64   `json:"events"`
	LateShare     float64   `json:"late_share"`
	Mean          float64   `json:"mean_seconds"`
	P50           float64   `json:"p50_seconds"`
	P95           float64   `json:"p95_seconds"`
	P99           float64   `json:"p99_seconds"`
	Busy          float64   `json:"busy_share"`
	Actions       int       `json:"actions"`
	Peak          int       `json:"peak_workers"`
	Recovery      []float64 `json:"recovery_seconds,omitempty"` // −1: never
}

func figuresOf(r *simulate.Result) figures {
	f := figures{
		WorkerSeconds: r.WorkerSeconds, Events: r.Events, LateShare: share(r), Mean: r.Mean.Seconds(), P50: r.P50.Seconds(), P95: r.P95.Seconds(), P99: r.P99.Seconds(),
		Busy: r.Busy, Actions: r.Actions, Peak: r.Peak,
	}
	for _, d := range r.Recovery {
		if d < 0 {
			d = -time.Second
		}
		f.Recovery = append(f.Recovery, d.Seconds())
	}
	return f
}

// MarshalJSON gives the figures.
func (r Row) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Policy    string  `json:"policy"`
		Setting   string  `json:"setting,omitempty"`
		Live      figures `json:"live"`
		Simulated figures `json:"simulated"`
		Service   float64 `json:"live_call_seconds"`
		Wanted    float64 `json:"wanted_call_seconds"`
		Behind    float64 `json:"arrivals_behind_seconds"`
		Delayed   float64 `json:"decisions_behind_seconds"`
	}{r.Policy, r.Setting, figuresOf(&r.Live.Result), figuresOf(r.Simulated), r.Live.Service.Seconds(), r.Live.Wanted.Seconds(), r.Live.Behind.Seconds(), r.Live.Delayed.Seconds()})
}
