package learn

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/freshet-io/freshet/orchestrator/forecast"
)

// The forecaster's shape, and what learning may cost: a row takes about as long as a hundred steps.
const (
	lstmInputs  = 8
	lstmHidden  = 16
	lstmSpan    = 32              // steps of a row that is learnt from
	lstmBurn    = 8               // of them only warm up the state
	lstmBlock   = 16              // states are kept at every so many steps
	lstmKept    = 256 * lstmBlock // steps: half a day in steps of 10 s
	lstmEvery   = 24              // steps between two rows that are learnt
	lstmEager   = 4               // the same, while the past is short
	lstmYoung   = 1024            // steps
	lstmRate    = 2e-3            // Adam's
	lstmFlat    = 0.15            // width of the quadratic part of the loss
	lstmBound   = 4               // logarithms beyond are cut
	lstmForget  = 1.0 / 64        // of the level, each step
	lstmFast    = 0.5             // of the base, each step
	lstmFloor   = 0.02            // of the level: rates below look alike
	lstmGap     = 64              // unknown steps, after which the past says nothing
	lstmWarmUp  = 2 * lstmSpan    // steps before the first forecast
	lstmMaxSize = 1e3             // no sound weight is larger
	lstmSeed    = 0x6c73_746d     // the second half of the generator's seed
	lstmOutputs = len(lstmLeads)
	day         = 24 * 3600.0 // seconds
	week        = 7 * day
)

// lstmLeads are the leads of the outputs; others lie between them, or are like the last.
var lstmLeads = [...]int{1, 2, 4, 8, 16, 32, 64}

// Forecaster is a small LSTM, a member of the ensemble. It forecasts the logarithm of the ratio
// between the rate at a lead and a short mean of the latest rates, so that its first
// forecasts are those of the last value. It goes on learning from rows of the
// recent past, one now and then, so that a step costs about the same for ever.
type Forecaster struct {
	grid   forecast.Grid
	net    *lstm
	move   *adam
	rng    *rand.Rand
	now    lstmStep
	hidden []float64 // the state after the latest step
	cell   []float64

	steps   int     // taken, without those that a gap skipped
	last    int64   // the latest step of the grid
	level   float64 // slow mean of the rate
	base    float64 // fast mean
	before  float64 // the rate of the step before
	unknown int     // in a row, until now

	// The past, as rings.
	inputs [lstmKept][lstmInputs]float64
	rates  [lstmKept]float64 // NaN where unknown
	bases  [lstmKept]float64
	levels [lstmKept]float64
	states [lstmKept / lstmBlock][2 * lstmHidden]float64 // before the first step of each block
	row    [][]float64
}

var _ forecast.Member = (*Forecaster)(nil)

// NewForecaster returns one that knows nothing yet; the seed gives its first weights.
func NewForecaster(grid forecast.Grid, seed uint64) *Forecaster {
	rng := rand.New(rand.NewPCG(seed, lstmSeed))
	f := &Forecaster{grid: grid, rng: rng, net: newLSTM(rng, lstmInputs, lstmHidden, lstmOutputs, lstmSpan),
		hidden: make([]float64, lstmHidden), cell: make([]float64, lstmHidden), row: make([][]float64, lstmSpan)}
	f.move = newAdam(len(f.net.params))
	f.now = lstmStep{x: make([]float64, lstmInputs+lstmHidden), gates: make([]float64, 4*lstmHidden),
		cell: make([]float64, lstmHidden), tanh: make([]float64, lstmHidden), out: make([]float64, lstmOutputs)}
	return f
}

// Name is "lstm".
func (f *Forecaster) Name() string { return "lstm" }

// Update takes a step's rate and now and then learns.
func (f *Forecaster) Update(step int64, rate float64) {
	if f.steps > 0 && step > f.last+1 && step-f.last < lstmGap {
		for s := f.last + 1; s < step; s++ {
			f.take(s, math.NaN())
		}
	} else if f.steps > 0 && (step > f.last+1 || step <= f.last) {
		f.reset() // a long gap, or a clock that was set back
	}
	if !(rate >= 0 && rate < 1e18) {
		rate = math.NaN()
	}
	f.take(step, rate)
	every := lstmEvery
	if f.steps < lstmYoung {
		every = lstmEager
	}
	if f.steps%every == 0 {
		f.study()
	}
}

// reset forgets what was seen, and keeps what was learnt.
func (f *Forecaster) reset() {
	f.steps, f.unknown = 0, 0
	clear(f.hidden)
	clear(f.cell)
}

func (f *Forecaster) take(step int64, rate float64) {
	known := !math.IsNaN(rate)
	switch {
	case known && f.steps == 0:
		f.level, f.base, f.before = rate, rate, rate
	case known:
		f.level += max(lstmForget, 1/float64(f.steps+1)) * (rate - f.level)
		f.base += lstmFast * (rate - f.base)
	case f.steps == 0:
		return // nothing to begin with
	}
	if !known {
		f.unknown++
	} else {
		f.unknown = 0
	}
	at := f.steps % lstmKept
	if at%lstmBlock == 0 {
		s := &f.states[at/lstmBlock]
		copy(s[:lstmHidden], f.hidden)
		copy(s[lstmHidden:], f.cell)
	}
	f.look(step, rate, &f.inputs[at])
	f.rates[at], f.bases[at], f.levels[at] = rate, f.base, f.level
	if known {
		f.before = rate
	}
	f.net.step(&f.now, f.inputs[at][:], f.hidden, f.cell)
	copy(f.cell, f.now.cell)
	f.net.state(&f.now, f.hidden)
	f.net.read(&f.now, f.hidden)
	f.last = step
	f.steps++
}

// look fills x with what the network sees of a step.
func (f *Forecaster) look(step int64, rate float64, x *[lstmInputs]float64) {
	*x = [lstmInputs]float64{}
	if math.IsNaN(rate) {
		x[3] = 1
		rate = f.base
	}
	x[0] = logRatio(rate, f.level, f.level)
	x[1] = logRatio(rate, f.before, f.level)
	x[2] = logRatio(f.base, f.level, f.level)
	at := float64(f.grid.Time(step).UnixNano()) / float64(time.Second)
	x[4], x[5] = math.Sincos(2 * math.Pi * math.Mod(at, day) / day)
	x[6], x[7] = math.Sincos(2 * math.Pi * math.Mod(at, week) / week)
}

// logRatio is ln(a ÷ b), where both are raised by a little of the level, bounded.
func logRatio(a, b, level float64) float64 {
	floor := lstmFloor*level + 1e-9
	return min(max(math.Log((a+floor)/(b+floor)), -lstmBound), lstmBound)
}

// study learns one row of the past: the latest at every other time, else any.
func (f *Forecaster) study() {
	have := min(f.steps, lstmKept)
	// Rows begin where a state is kept, and end where at least the shorter leads are known.
	newest := (f.steps - lstmSpan - lstmLeads[2]) / lstmBlock * lstmBlock
	oldest := (f.steps - have + lstmBlock - 1) / lstmBlock * lstmBlock
	if newest < oldest {
		return
	}
	from := newest
	if blocks := (newest - oldest) / lstmBlock; f.rng.IntN(2) == 0 {
		from -= lstmBlock * f.rng.IntN(blocks+1)
	}
	for i := range f.row {
		f.row[i] = f.inputs[(from+i)%lstmKept][:]
	}
	state := &f.states[from%lstmKept/lstmBlock]
	f.net.forward(f.row, state[:lstmHidden], state[lstmHidden:])
	count := 0.0
	for i := lstmBurn; i < lstmSpan; i++ {
		at := (from + i) % lstmKept
		for o, lead := range lstmLeads {
			if from+i+lead >= f.steps {
				break
			}
			rate := f.rates[(from+i+lead)%lstmKept]
			if math.IsNaN(rate) || math.IsNaN(f.rates[at]) {
				continue
			}
			// Huber's loss is nearly the distance, so the median is learnt.
			d := f.net.steps[i].out[o] - logRatio(rate, f.bases[at], f.levels[at])
			f.net.steps[i].dOut[o] = min(max(d/lstmFlat, -1), 1)
			count++
		}
	}
	if count == 0 {
		return
	}
	f.net.backward(lstmSpan)
	for i := range f.net.grads {
		f.net.grads[i] /= count
	}
	f.move.apply(f.net.params, f.net.grads, lstmRate, 1)
}

// Predict fills in the rates expected.
func (f *Forecaster) Predict(leads []int, dst []float64) {
	if f.steps < lstmWarmUp || f.unknown >= lstmGap {
		for i := range leads {
			dst[i] = math.NaN()
		}
		return
	}
	floor := lstmFloor*f.level + 1e-9
	o := 0
	for i, lead := range leads {
		for o < lstmOutputs-1 && lstmLeads[o] < lead {
			o++
		}
		v := f.now.out[o]
		if o > 0 && lead < lstmLeads[o] {
			// Between two outputs, by the logarithm of the lead.
			share := math.Log(float64(lead)/float64(lstmLeads[o-1])) / math.Log(float64(lstmLeads[o])/float64(lstmLeads[o-1]))
			v = f.now.out[o-1] + share*(v-f.now.out[o-1])
		}
		dst[i] = max(0, (f.base+floor)*math.Exp(min(max(v, -lstmBound), lstmBound))-floor)
	}
}
