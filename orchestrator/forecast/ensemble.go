package forecast

import (
	"math"
	"slices"
	"time"
)

// Ensemble is a forecaster that weighs members by what they were worth lately. It implements orchestrator.Forecaster.
type Ensemble struct {
	cfg     Config
	grid    gridder
	started bool
	step    int64 // the last step that was seen
	seen    int64 // steps with a value
	span    int   // steps of the means that are told
	asked   bool  // the span is settled
	members []*entrant
	anchors []anchor
	leads   []int // of the anchors' middles, for Predict
	levels  []float64
	values  []float64 // a ring of the last steps
	issues  []issue   // a ring of forecasts that wait for what they foretold
	now     issue     // the newest forecast
	fresh   bool      // now is of step
	vol     volatility
	clock   *clock
	watch   func(a int, is *issue, y float64) // sees what is scored; nil but in a backtest
}

// stride is every how many steps a forecast is kept to be scored: errors of neighbours are alike.
const stride = 2

// maxLevels bounds the levels that are calibrated.
const maxLevels = 16

// New makes an ensemble. Unknown members are left out: Config.Validate names them.
func New(c Config) *Ensemble {
	e := &Ensemble{cfg: c.filled(), levels: []float64{0.5, 0.8, 0.9, 0.95, 0.99}, span: 1}
	e.grid.grid.Step = e.cfg.Grid
	if e.cfg.Span > 0 {
		e.span, e.asked = e.grid.grid.steps(e.cfg.Span), true
	}
	return e
}

// Observe takes what arrived. See orchestrator.Forecaster.
func (e *Ensemble) Observe(end time.Time, window time.Duration, rate float64) {
	e.grid.observe(end, window, rate, e.advance)
}

// start makes the members when the grid is settled.
func (e *Ensemble) start() {
	e.started = true
	for _, name := range e.cfg.Members {
		if m := build(name, e.grid.grid, &e.cfg); m != nil {
			e.members = append(e.members, &entrant{Member: m})
		}
	}
	for _, make := range e.cfg.Extra {
		if m := make(e.grid.grid); m != nil {
			e.members = append(e.members, &entrant{Member: m})
		}
	}
	e.vol = newVolatility(e.grid.grid)
	e.clock = newClock(e.grid.grid)
	e.arrange()
}

// arrange settles all that depends on the span and the levels, and forgets what was learned of errors.
func (e *Ensemble) arrange() {
	e.span = min(e.span, 1000)
	horizon := e.grid.grid.steps(e.cfg.Horizon)
	e.anchors, e.leads = e.anchors[:0], e.leads[:0]
	for _, share := range []float64{0, 1. / 60, 3. / 60, 6. / 60, 10. / 60, 15. / 60, 22. / 60, 30. / 60, 44. / 60, 1} {
		s := int(math.Round(share * float64(horizon)))
		if n := len(e.anchors); n > 0 && e.anchors[n-1].start >= s {
			continue
		}
		e.anchors = append(e.anchors, newAnchor(s, e.span, e.grid.grid, e.levels, e.clock.size))
		e.leads = append(e.leads, s+(e.span+1)/2)
	}
	for k := 1; k < len(e.leads); k++ {
		e.leads[k] = max(e.leads[k], e.leads[k-1])
	}
	for _, m := range e.members {
		m.arrange(len(e.anchors), len(e.levels), e.levels)
	}
	e.values = make([]float64, e.span)
	for i := range e.values {
		e.values[i] = nan
	}
	e.issues = make([]issue, (horizon+e.span)/stride+2)
	for i := range e.issues {
		e.issues[i] = newIssue(len(e.anchors), len(e.members), len(e.levels))
	}
	e.now = newIssue(len(e.anchors), len(e.members), len(e.levels))
	e.fresh = false
}

// advance takes a step of the grid.
func (e *Ensemble) advance(step int64, x float64) {
	if !e.started {
		if x != x {
			return
		}
		e.start()
	} else if step > e.step+1 {
		for i := range e.values {
			e.values[i] = nan
		}
	}
	e.step = step
	if x == x {
		e.seen++
	}
	e.values[int(step%int64(e.span))] = x
	if y, ok := e.block(); ok {
		e.score(y)
	}
	e.vol.add(x)
	e.clock.add(step, x)
	e.surprise(x)
	for _, m := range e.members {
		m.Update(step, x)
	}
	e.fresh = false
	if step%stride == 0 && e.seen > 0 {
		e.foresee()
		e.issues[int(step/stride)%len(e.issues)].copyFrom(&e.now)
	}
}

// block returns the mean of the last span of steps, where at least half of it is known.
func (e *Ensemble) block() (float64, bool) {
	var sum float64
	n := 0
	for _, v := range e.values {
		if v == v {
			sum += v
			n++
		}
	}
	return sum / float64(n), 2*n >= len(e.values) && n > 0
}

// score compares forecasts whose time is over with what came.
func (e *Ensemble) score(y float64) {
	for a := range e.anchors {
		an := &e.anchors[a]
		t := e.step - int64(an.start+e.span)
		if t%stride != 0 || t < 0 {
			continue
		}
		is := &e.issues[int(t/stride)%len(e.issues)]
		if is.step != t || !(is.scale[a] > 0) {
			continue
		}
		if e.watch != nil {
			e.watch(a, is, y)
		}
		loss := an.learn(is, a, y, e.levels, &e.cfg)
		for k, m := range e.members {
			told := is.offsets[k*len(m.offsets)+a*len(e.levels):]
			m.score(a, is.points[a*len(e.members)+k], y, is.scale[a], loss, e.levels, told)
		}
	}
}

// foresee fills e.now with the forecast from the present step on.
func (e *Ensemble) foresee() {
	if e.fresh {
		return
	}
	e.fresh = true
	is := &e.now
	is.step = e.step
	n := len(e.members)
	limit := 2*e.grid.peak + 1/e.grid.grid.Step.Seconds()
	for k, m := range e.members {
		m.predict(e.step, e.leads, limit, is.points[k:], n)
		copy(is.offsets[k*len(m.offsets):], m.offsets)
	}
	e.vol.features(&is.features)
	for a := range e.anchors {
		an := &e.anchors[a]
		pts := is.points[a*n : (a+1)*n]
		f, spread := e.combine(a, pts)
		is.point[a] = f
		is.spread[a] = spread
		is.slots[a] = e.clock.at(e.step + int64(e.leads[a]))
		is.scale[a] = an.scale(is, a, e.clock.restless(e.step+int64(an.start+1), e.step+int64(an.start+e.span)), e.vol.usual.value, &e.cfg)
	}
	for a := range e.anchors {
		e.anchors[a].tell(is, a, e.levels, &e.cfg)
	}
}

// adopt takes up levels that are not calibrated yet, while there is room.
func (e *Ensemble) adopt(levels []float64) {
	grown := false
	for _, l := range levels {
		if l > 0 && l < 1 && !slices.Contains(e.levels, l) && len(e.levels) < maxLevels {
			e.levels = append(e.levels, l)
			grown = true
		}
	}
	if grown {
		slices.Sort(e.levels)
		if e.started {
			e.arrange()
		}
	}
}
