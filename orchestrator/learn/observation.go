package learn

import (
	"math"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// Observations is how many values a policy's network reads. All are ratios, so that one policy serves
// streams of any rate, and lie within −3 to 4.
const Observations = 30

// Where the values lie. Rates are logarithms of their ratio to the base rate (see watch.need).
const (
	obsRate         = iota // the latest window
	obsRate30s             // means that forget with these times
	obsRate2m              //
	obsRate10m             //
	obsRate1h              //
	obsPeak10m             // the largest rate, forgotten with these times
	obsPeak1h              //
	obsSpread              // mean distance of the rate from that of 2 min, ÷ base
	obsForecast            // 1 where there is a forecast, else the five below are 0
	obsMid                 // the median when workers ordered now are ready
	obsHigh                // the quantile 0.9 then
	obsTop                 // the quantile 0.99 then
	obsMidLater            // the median as long again after that
	obsHighSoon            // the largest quantile 0.9 until then
	obsLagSeconds          // ln(1 + backlog ÷ base ÷ target)
	obsOldest              // age of the oldest event ÷ target
	obsReady               // workers ÷ need − 1
	obsOrdered             // the same
	obsStarting            // workers ÷ need
	obsStopping            //
	obsBusy                //
	obsLate                //
	obsNeed                // ln(need) ÷ 3
	obsWhole               // what rounding need up adds, ÷ need
	obsStartUp             // ln(start-up ÷ 1 min)
	obsTarget              // ln(target ÷ 30 s)
	obsChanged             // time since the orders changed ÷ start-up
	obsAge                 // age of the signals ÷ 15 s
	obsEffective           // share of the work that workers do when there are as many as needed
	obsBatchSeconds        // ln(1 + time of a full call ÷ target)
)

// observationNames go with an exported policy.
var observationNames = [Observations]string{
	"rate", "rate_30s", "rate_2m", "rate_10m", "rate_1h", "peak_10m", "peak_1h", "spread",
	"forecast", "mid", "high", "top", "mid_later", "high_soon", "lag_seconds", "oldest",
	"ready", "ordered", "starting", "stopping", "busy", "late", "need", "whole",
	"start_up", "target", "changed", "age", "effective", "batch_seconds",
}

// memories are the times with which the rate's means forget, in seconds.
var memories = [...]float64{30, 120, 600, 3600}

// watch keeps what an observation needs of the past.
type watch struct {
	seen   time.Time // of the latest signals taken
	means  [len(memories)]float64
	peaks  [2]float64
	spread float64
}

// usable reports whether a decision can be made on s.
func usable(s *orchestrator.Signals) bool {
	if s == nil || !s.Known.Has(orchestrator.KnownArrivals|orchestrator.KnownLag) {
		return false
	}
	for _, v := range [...]float64{s.Arrivals, s.Lag, s.InFlight, s.Busy, s.Late, float64(s.Oldest),
		float64(s.Ready), float64(s.Starting), float64(s.Stopping)} {
		if !(v >= 0 && v <= 1e18) {
			return false
		}
	}
	return true
}

// see takes in the rate, once.
func (w *watch) see(s *orchestrator.Signals) {
	dt := s.Time.Sub(w.seen).Seconds()
	switch {
	case w.seen.IsZero() || dt > 86400 || dt < -60:
		// A first look, a long absence, or a clock that was set back.
		for i := range w.means {
			w.means[i] = s.Arrivals
		}
		w.peaks, w.spread = [2]float64{s.Arrivals, s.Arrivals}, 0
	case dt <= 0:
		return
	default:
		for i, m := range memories {
			w.means[i] += (1 - math.Exp(-dt/m)) * (s.Arrivals - w.means[i])
		}
		w.spread += (1 - math.Exp(-dt/600)) * (math.Abs(s.Arrivals-w.means[1]) - w.spread)
		for i := range w.peaks {
			w.peaks[i] = max(s.Arrivals, w.peaks[i]*math.Exp(-dt/memories[i+2]))
		}
	}
	w.seen = s.Time
}

// need is the fluid need that actions are relative to.
type need struct {
	base    float64 // events a second: the mean of 30 s, or the largest median forecast until workers ordered now are ready
	backlog float64 // events that nobody holds
	workers float64 // for base, and for the backlog within start-up and target
}

func (w *watch) need(in *orchestrator.Input, batch int) need {
	s, c := in.Signals, in.Capacity
	n := need{base: w.means[0], backlog: max(0, s.Lag-s.InFlight)}
	if hasForecast(in.Demand) {
		for i := 0; i <= leadAt(in, c.StartUp); i++ {
			n.base = max(n.base, rate(in.Demand.At(i, 0.5)))
		}
	}
	each := c.Rate(batch)
	n.workers = (n.base + n.backlog/max(1, (c.StartUp+in.Objective.Target).Seconds())) / each
	if !(n.workers >= 0 && n.workers < 1e6) { // nonsense about the capacity
		n.workers = 1e6
	}
	return n
}

func hasForecast(d *orchestrator.Demand) bool {
	return d != nil && len(d.Rates) > 0 && len(d.Levels) > 0 && d.Step > 0
}

// leadAt is the lead that covers a time from now on.
func leadAt(in *orchestrator.Input, after time.Duration) int {
	d := in.Demand
	return min(max(0, int((in.Now.Sub(d.Time)+after)/d.Step)), len(d.Rates)-1)
}

// rate is a forecast rate, 0 where it is none.
func rate(v float64) float64 {
	if v > 0 && v < 1e18 {
		return v
	}
	return 0
}

// observe fills obs, which has Observations values.
func (w *watch) observe(in *orchestrator.Input, n need, batch int, obs []float32) {
	clear(obs)
	s, c := in.Signals, in.Capacity
	base := max(n.base, 1e-9)
	ratio := func(at int, v float64) { obs[at] = float32(math.Log((v + 0.03*base) / (1.03 * base))) }
	ratio(obsRate, s.Arrivals)
	for i, m := range w.means {
		ratio(obsRate30s+i, m)
	}
	ratio(obsPeak10m, w.peaks[0])
	ratio(obsPeak1h, w.peaks[1])
	obs[obsSpread] = float32(w.spread / base)
	if d := in.Demand; hasForecast(d) {
		ready, later := leadAt(in, c.StartUp), leadAt(in, 2*c.StartUp)
		obs[obsForecast] = 1
		ratio(obsMid, rate(d.At(ready, 0.5)))
		ratio(obsHigh, rate(d.At(ready, 0.9)))
		ratio(obsTop, rate(d.At(ready, 0.99)))
		ratio(obsMidLater, rate(d.At(later, 0.5)))
		soon := 0.0
		for i := 0; i <= later; i++ {
			soon = max(soon, rate(d.At(i, 0.9)))
		}
		ratio(obsHighSoon, soon)
	}
	target := max(in.Objective.Target.Seconds(), 1e-3)
	obs[obsLagSeconds] = float32(math.Log1p(n.backlog / base / target))
	oldest := s.Oldest.Seconds()
	if !s.Known.Has(orchestrator.KnownOldest) {
		oldest = n.backlog / base
	}
	obs[obsOldest] = float32(oldest / target)
	ready := s.Ready
	if !s.Known.Has(orchestrator.KnownWorkers) {
		ready = in.Target
	}
	some := max(n.workers, 0.5)
	obs[obsReady] = float32(float64(ready)/some - 1)
	obs[obsOrdered] = float32(float64(in.Target)/some - 1)
	obs[obsStarting] = float32(float64(s.Starting) / some)
	obs[obsStopping] = float32(float64(s.Stopping) / some)
	obs[obsBusy] = float32(s.Busy)
	if !s.Known.Has(orchestrator.KnownBusy) {
		obs[obsBusy] = float32(min(1, s.Arrivals/c.Rate(batch)/max(1, float64(ready))))
	}
	obs[obsLate] = float32(s.Late)
	obs[obsNeed] = float32(math.Log(some) / 3)
	whole := math.Ceil(some)
	obs[obsWhole] = float32(whole/some - 1)
	startUp := max(c.StartUp.Seconds(), 1)
	obs[obsStartUp] = float32(math.Log(startUp / 60))
	obs[obsTarget] = float32(math.Log(target / 30))
	obs[obsChanged] = float32(max(0, in.Now.Sub(in.Changed).Seconds()) / startUp)
	obs[obsAge] = float32(in.Now.Sub(s.Time).Seconds() / 15)
	obs[obsEffective] = float32(c.Effective(int(whole)) / whole)
	obs[obsBatchSeconds] = float32(math.Log1p(c.Service(float64(batch)) / target))
	for i, v := range obs {
		if v != v {
			v = 0
		}
		obs[i] = min(max(v, -3), 4)
	}
}
