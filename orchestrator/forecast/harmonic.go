package forecast

import (
	"math"
	"time"
)

// harmonic is a regression in the form of Taylor & Letham (2018): a piecewise linear trend
// with changepoints, Fourier series of the day and the week, and holidays. Where theirs has a
// sparse prior on the changepoints, this has a ridge. It is fitted now and then on means of a quarter of an hour, to
// which newer days count more. What the last minutes are off is carried on, fading as the regression's errors did.
type harmonic struct {
	grid     Grid
	slot     int64 // nanoseconds
	holidays []Holiday
	names    []string
	mean     []float64 // ring of slots' means; NaN where unknown
	open     int64
	sum      float64
	n        int
	slots    int64 // slots since the first
	begun    int64 // the first slot
	step     int64
	off      ewma // the present's distance from the regression
	fade     float64
	base     []float64 // the regression at the middles of slots from baseAt on
	baseAt   int64
	until    int64
	work     []float64
}

const (
	harmonicDays = 42
	changepoints = 10
	dayOrder     = 8
	weekOrder    = 3
	forgetDays   = 21
	baseSlots    = 30
)

func newHarmonic(g Grid, holidays []Holiday) Member {
	h := &harmonic{grid: g, slot: int64(max(15*time.Minute, g.Step)), holidays: holidays, open: math.MinInt64, fade: 0.5}
	h.mean = make([]float64, int64(harmonicDays)*int64(day)/h.slot)
	for i := range h.mean {
		h.mean[i] = nan
	}
	h.off = newEWMA(float64(3*time.Minute) / float64(g.Step))
	for _, d := range holidays {
		known := false
		for _, n := range h.names {
			known = known || n == d.Name
		}
		if !known && len(h.names) < 20 {
			h.names = append(h.names, d.Name)
		}
	}
	return h
}

func (h *harmonic) Name() string { return "harmonic" }

func (h *harmonic) middle(step int64) int64 {
	return step*int64(h.grid.Step) + int64(h.grid.Phase) + int64(h.grid.Step)/2
}

func (h *harmonic) Update(step int64, x float64) {
	h.step = step
	if s := h.middle(step) / h.slot; s != h.open {
		h.close(s)
	}
	if x != x {
		return
	}
	h.sum += x
	h.n++
	if b := h.at(step); b == b {
		h.off.add(x - b)
	}
}

// close ends the open slot and fits anew where it is time.
func (h *harmonic) close(next int64) {
	size := int64(len(h.mean))
	if h.open == math.MinInt64 {
		h.begun = next
	} else {
		v := nan
		if h.n > 0 {
			v = h.sum / float64(h.n)
		}
		h.mean[h.open%size] = v
		for s := h.open + 1; s < next && s < h.open+size; s++ {
			h.mean[s%size] = nan
		}
		h.slots = next - h.begun
	}
	h.sum, h.n, h.open = 0, 0, next
	perDay := int64(day) / h.slot
	if h.slots >= 8 && next >= h.until {
		h.fit(next)
		h.until = next + min(max(1, h.slots/8), perDay/4)
	}
}

// terms fills in the regressors of a slot; the first one is the constant.
func (h *harmonic) terms(s, from, to int64, daily, weekly bool, dst []float64) int {
	u := float64(s-from) / float64(max(1, to-from))
	dst[0], dst[1] = 1, u
	k := 2
	for c := range changepoints {
		dst[k] = max(0, u-0.9*float64(c+1)/(changepoints+1))
		k++
	}
	ns := s*h.slot + h.slot/2
	k = fourier(ns, int64(day), dayOrder, daily, dst, k)
	k = fourier(ns, int64(7*day), weekOrder, weekly, dst, k)
	for i, name := range h.names {
		dst[k+i] = 0
		for _, d := range h.holidays {
			if d.Name != name {
				continue
			}
			begin, length := d.Start.UnixNano(), d.Duration
			if length <= 0 {
				length = day
			}
			if ns >= begin && ns < begin+int64(length) {
				dst[k+i] = 1
			}
		}
	}
	return k + len(h.names)
}

func fourier(ns, period int64, order int, on bool, dst []float64, k int) int {
	if !on {
		return k
	}
	s1, c1 := math.Sincos(2 * math.Pi * float64(ns%period) / float64(period))
	s, c := s1, c1
	for range order {
		dst[k], dst[k+1] = s, c
		k += 2
		s, c = s*c1+c*s1, c*c1-s*s1
	}
	return k
}

// fit regresses the slots before next and lays out the regression from there on.
func (h *harmonic) fit(next int64) {
	size := int64(len(h.mean))
	from := max(h.begun, next-size+1)
	perDay := int64(day) / h.slot
	daily := next-from >= perDay+perDay/4 && perDay > 2*dayOrder
	weekly := next-from >= 10*perDay
	const most = 2 + changepoints + 2*dayOrder + 2*weekOrder
	p := most + len(h.names)
	if len(h.work) < p*p+3*p {
		h.work = make([]float64, p*p+3*p)
	}
	x := h.work[p*p : p*p+p]
	b := h.work[p*p+p : p*p+2*p]
	p = h.terms(next, from, next, daily, weekly, x)
	gram := h.work[:p*p]
	clear(gram)
	clear(b)
	var scale, count float64
	for s := from; s < next; s++ {
		if v := h.mean[s%size]; v == v {
			scale += v
			count++
		}
	}
	if count < 6 {
		return
	}
	scale = max(scale/count, 1e-9)
	keep := math.Exp(-1 / float64(forgetDays*perDay))
	weight := math.Pow(keep, float64(next-from))
	for s := from; s < next; s++ {
		weight /= keep
		v := h.mean[s%size]
		if v != v {
			continue
		}
		h.terms(s, from, next, daily, weekly, x)
		v /= scale
		for i := range p {
			if wx := weight * x[i]; wx != 0 {
				for j := range i + 1 {
					gram[i*p+j] += wx * x[j]
				}
				b[i] += wx * v
			}
		}
	}
	for i := range p {
		pen := 0.3
		switch {
		case i == 0:
			pen = 1e-6
		case i < 2+changepoints:
			pen = 3
		}
		gram[i*p+i] += pen
	}
	if !cholesky(gram, p) {
		return
	}
	solveCholesky(gram, b[:p], p)
	h.lay(next, from, daily, weekly, scale, b[:p], x)
}

// lay keeps the regression's values from the slot before next on, and learns how its errors fade.
func (h *harmonic) lay(next, from int64, daily, weekly bool, scale float64, b, x []float64) {
	value := func(s int64) float64 {
		h.terms(s, from, next, daily, weekly, x)
		var v float64
		for i, w := range b {
			v += w * x[i]
		}
		return v * scale
	}
	size := int64(len(h.mean))
	var cross, square, before float64
	before = nan
	first := max(from, next-7*int64(day)/h.slot)
	for s := first; s < next; s++ {
		e := h.mean[s%size] - value(s)
		if e == e && before == before {
			cross += e * before
			square += before * before
		}
		before = e
	}
	if square > 0 {
		h.fade = min(max(cross/square, 0.05), 0.999)
	}
	h.baseAt = next - 1
	h.base = h.base[:0]
	for s := next - 1; s < next+baseSlots; s++ {
		h.base = append(h.base, value(s))
	}
	// The old distance is from the old regression.
	weight := h.off.weight
	if x := h.mean[(next-1)%size] - h.base[0]; x == x {
		h.off.value, h.off.weight = x, min(max(weight, 1), 3)
	}
}

// at is the regression at a step; NaN before the first fit and far behind the last.
func (h *harmonic) at(step int64) float64 {
	if len(h.base) == 0 {
		return nan
	}
	p := float64(h.middle(step)-h.baseAt*h.slot)/float64(h.slot) - 0.5
	if p < 0 {
		return h.base[0]
	}
	i := int(p)
	if i+1 >= len(h.base) {
		return nan
	}
	return h.base[i] + (h.base[i+1]-h.base[i])*(p-float64(i))
}

func (h *harmonic) Predict(leads []int, dst []float64) {
	each := math.Log(h.fade) * float64(h.grid.Step) / float64(h.slot)
	for k, l := range leads {
		dst[k] = h.at(h.step+int64(l)) + h.off.value*math.Exp(each*float64(l))
	}
}
