package forecast

import (
	"math"
	"time"
)

// ridge is a linear regression on lags, one for each of several lead times, learned online with
// forgetting: recursive least squares in its information form, solved anew now and then with a ridge (Hoerl & Kennard 1970).
// Everything is relative to the level of the last quarter of an hour, and a regression
// of nothing forecasts the mean of a minute.
type ridge struct {
	grid     Grid
	leads    []int // internal lead times
	smooth   int   // targets are means of this many steps to both sides
	step     int64
	means    [5]ewma // 10 s is the last value itself; 30 s, 1 min, 5 min, 15 min, 1 h
	last     float64
	mem      *memory
	clock    *clock
	values   []float64 // ring of the last steps
	rows     []ridgeRow
	gram     []float64 // p×p, forgotten exponentially
	cross    []float64 // lead × p
	weights  []float64
	keep     float64
	count    float64
	until    int
	work     []float64
	vec      []float64
	features [ridgeFeatures]float64
	level    float64
	base     float64
}

const (
	ridgeFeatures = 18
	ridgeEvery    = 12 // steps between two solutions
	ridgePenalty  = 5
)

// ridgeRow is what was known at a step.
type ridgeRow struct {
	step        int64
	level, base float64
	x           [ridgeFeatures]float64
}

func newRidge(g Grid, horizon time.Duration) *ridge {
	r := &ridge{grid: g, last: nan, mem: newMemory(g, time.Minute), clock: newClock(g)}
	n := g.steps(horizon)
	for _, share := range []float64{1. / 60, 3. / 60, 6. / 60, 12. / 60, 20. / 60, 30. / 60, 45. / 60, 1} {
		l := max(1, int(math.Round(share*float64(n))))
		if k := len(r.leads); k == 0 || r.leads[k-1] < l {
			r.leads = append(r.leads, l)
		}
	}
	r.smooth = 1
	for i, d := range []time.Duration{30 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour} {
		r.means[i] = newEWMA(float64(d) / float64(g.Step))
	}
	size := n + r.smooth + 2
	r.values = make([]float64, size)
	r.rows = make([]ridgeRow, size)
	for i := range r.rows {
		r.rows[i].step = -1
		r.values[i] = nan
	}
	p := ridgeFeatures
	r.gram, r.work, r.vec = make([]float64, p*p), make([]float64, p*p), make([]float64, p)
	r.cross, r.weights = make([]float64, len(r.leads)*p), make([]float64, len(r.leads)*p)
	r.keep = math.Exp(-1 / max(float64(2*day)/float64(g.Step), 100))
	return r
}

func (r *ridge) Name() string { return "ridge" }

func (r *ridge) Update(step int64, x float64) {
	if gap := step - r.step; gap > 1 {
		for i := range r.values {
			r.values[i] = nan
		}
	}
	r.step = step
	r.mem.add(step, x)
	r.clock.add(step, x)
	n := int64(len(r.values))
	r.values[step%n] = x
	if x == x {
		r.last = x
		for i := range r.means {
			r.means[i].add(x)
		}
	}
	if r.last != r.last {
		return
	}
	r.look()
	r.rows[step%n] = ridgeRow{step: step, level: r.level, base: r.base, x: r.features}
	r.learn(step - int64(r.leads[len(r.leads)-1]+r.smooth))
	if r.until--; r.until <= 0 {
		r.until = ridgeEvery
		r.solve()
	}
}

// look fills in the features of the present.
func (r *ridge) look() {
	r.level = max(r.means[3].value, 1e-9)
	r.base = r.means[1].value
	f := &r.features
	rel := func(v float64) float64 {
		if v != v {
			return 0
		}
		return clip((v-r.base)/r.level, 2)
	}
	f[0] = 0.1
	f[1] = rel(r.last)
	f[2] = rel(r.means[0].value)
	f[3] = rel(r.means[2].value)
	f[4] = rel(r.means[3].value)
	f[5] = rel(r.means[4].value)
	f[6] = rel(r.back(6))
	f[7] = rel(r.back(30))
	at := r.mem.middle(r.step)
	ten := float64(10*time.Minute) / float64(r.mem.slot)
	for k, days := range []float64{1, 7} {
		p := at - days*float64(r.mem.day)
		was, will := r.mem.smooth(p-1, 5), r.mem.smooth(p+ten, 5)
		f[8+2*k], f[9+2*k] = rel(was), 0
		if v := (will - was) / r.level; v == v {
			f[9+2*k] = clip(v, 2)
		}
	}
	top := r.leads[len(r.leads)-1]
	for k, share := range [...]float64{0, 0.1, 0.2, 0.4, 0.6, 1} {
		f[12+k] = clip(r.clock.shape(r.step+int64(math.Round(share*float64(top)))), 2)
	}
}

func (r *ridge) back(steps int) float64 {
	if steps >= len(r.values) {
		return nan
	}
	n := int64(len(r.values))
	return r.values[(r.step-int64(steps)+n)%n]
}

// learn takes the row of a step whose targets are all known.
func (r *ridge) learn(t int64) {
	n := int64(len(r.rows))
	if t < 0 || r.rows[t%n].step != t {
		return
	}
	row := &r.rows[t%n]
	p := ridgeFeatures
	for i := range p {
		xi := row.x[i]
		for j := range i + 1 {
			r.gram[i*p+j] = r.keep*r.gram[i*p+j] + xi*row.x[j]
		}
	}
	r.count = r.keep*r.count + 1
	for l, lead := range r.leads {
		var y float64
		m := 0
		for s := -r.smooth; s <= r.smooth; s++ {
			if s+lead < 1 {
				continue
			}
			if v := r.values[(t+int64(lead+s))%n]; v == v {
				y += v
				m++
			}
		}
		c := r.cross[l*p : (l+1)*p]
		target := 0.0
		if m > 0 {
			target = clip((y/float64(m)-row.base)/row.level, 2)
		}
		for i := range p {
			c[i] = r.keep*c[i] + target*row.x[i]
		}
	}
}

// solve finds the weights: (gram + ridge)·w = cross, by Cholesky's decomposition.
func (r *ridge) solve() {
	p := ridgeFeatures
	trace := 0.0
	for i := range p {
		trace += r.gram[i*p+i]
	}
	pen := ridgePenalty*trace/float64(p)/(1+r.count) + 1e-9
	copy(r.work, r.gram)
	for i := range p {
		r.work[i*p+i] += pen
	}
	if !cholesky(r.work, p) {
		return
	}
	for l := range r.leads {
		copy(r.vec, r.cross[l*p:(l+1)*p])
		solveCholesky(r.work, r.vec, p)
		copy(r.weights[l*p:(l+1)*p], r.vec)
	}
}

func (r *ridge) Predict(leads []int, dst []float64) {
	if r.last != r.last || r.count < 30 {
		for k := range dst[:len(leads)] {
			dst[k] = nan
		}
		return
	}
	p := ridgeFeatures
	at := func(l int) float64 {
		var s float64
		w := r.weights[l*p : (l+1)*p]
		for i, x := range r.features {
			s += w[i] * x
		}
		return r.base + s*r.level
	}
	j, top := 0, len(r.leads)-1
	a := at(0)
	b := a
	if top > 0 {
		b = at(1)
	}
	for k, l := range leads {
		for j+1 < top && l > r.leads[j+1] {
			j++
			a, b = b, at(j+1)
		}
		switch {
		case top == 0 || l <= r.leads[0]:
			dst[k] = a
		case l >= r.leads[j+1]:
			dst[k] = b
		default:
			u := float64(l-r.leads[j]) / float64(r.leads[j+1]-r.leads[j])
			dst[k] = a + (b-a)*u
		}
	}
}

// cholesky replaces the lower triangle of a p×p matrix by its root; false where it has none.
func cholesky(m []float64, p int) bool {
	for j := range p {
		d := m[j*p+j]
		for k := range j {
			d -= m[j*p+k] * m[j*p+k]
		}
		if !(d > 1e-300) || math.IsInf(d, 0) {
			return false
		}
		d = math.Sqrt(d)
		m[j*p+j] = d
		for i := j + 1; i < p; i++ {
			s := m[i*p+j]
			for k := range j {
				s -= m[i*p+k] * m[j*p+k]
			}
			m[i*p+j] = s / d
		}
	}
	return true
}

// solveCholesky solves L·Lᵀ·x = b in place.
func solveCholesky(m, b []float64, p int) {
	for i := range p {
		s := b[i]
		for k := range i {
			s -= m[i*p+k] * b[k]
		}
		b[i] = s / m[i*p+i]
	}
	for i := p - 1; i >= 0; i-- {
		s := b[i]
		for k := i + 1; k < p; k++ {
			s -= m[k*p+i] * b[k]
		}
		b[i] = s / m[i*p+i]
	}
}
