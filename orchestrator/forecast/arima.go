package forecast

import (
	"math"
	"time"
)

// arima is an ARIMA(p, d, q) of means of a minute (of a step, where steps are longer), p to 3, d to 1, q to 2.
// It is fitted now and then on the last hours by the method of Hannan & Rissanen (1982):
// a long autoregression (Yule-Walker, by Levinson's recursion) gives residuals, on which and on its own lags the series
// is regressed; the order is chosen by Akaike's criterion on the conditional sum of squares.
//
// Minutes are counted back from the newest step, so the forecast is as fresh as the grid: the series of minutes'
// means is filtered at each step, with lags of whole minutes.
type arima struct {
	unit   int       // steps in a minute
	values []float64 // ring of the last unit steps
	means  []float64 // ring of minutes' means, one a step
	resid  []float64 // ring of their residuals
	n      int64     // steps taken since the last long gap
	last   float64
	step   int64
	model  arimaModel
	until  int
	wait   int
	series []float64
	diff   []float64
	long   []float64
	out    []float64
}

// arimaModel is a fitted model; ok is false before the first fit.
type arimaModel struct {
	ok       bool
	p, d, q  int
	phi      [maxAR]float64
	theta    [maxMA]float64
	mean     float64
	aic, css float64
}

const (
	maxAR, maxMA = 3, 2
	arimaMinutes = 480  // of history
	arimaEvery   = 1080 // steps
	longAR       = 12
)

func newARIMA(g Grid) Member {
	a := &arima{unit: g.steps(time.Minute), last: nan, wait: 90, until: 90}
	a.values = make([]float64, a.unit)
	a.means, a.resid = make([]float64, arimaMinutes*a.unit), make([]float64, arimaMinutes*a.unit)
	a.series, a.diff, a.long = make([]float64, 0, arimaMinutes), make([]float64, arimaMinutes), make([]float64, arimaMinutes)
	return a
}

func (a *arima) Name() string { return "arima" }

func (a *arima) Update(step int64, x float64) {
	if step > a.step+1 {
		a.n = 0
	}
	a.step = step
	if x != x {
		if a.last != a.last {
			return
		}
		x = a.last
	}
	a.last = x
	a.values[a.n%int64(a.unit)] = x
	k := int(min(a.n+1, int64(a.unit)))
	var sum float64
	for _, v := range a.values[:k] {
		sum += v
	}
	i := a.n % int64(len(a.means))
	a.means[i] = sum / float64(k)
	a.n++
	a.resid[i] = a.residual(a.n - 1)
	if a.until--; a.until <= 0 {
		a.fit()
		a.wait = min(2*a.wait, arimaEvery)
		a.until = a.wait
	}
}

// w is the differenced or centred series at a step of the ring; 0 before its beginning.
func (a *arima) w(t int64) float64 {
	size := int64(len(a.means))
	if t < 0 || t <= a.n-size-1 {
		return 0
	}
	v := a.means[t%size]
	if a.model.d == 0 {
		return v - a.model.mean
	}
	b := t - int64(a.unit)
	if b < 0 || b <= a.n-size-1 {
		return 0
	}
	return v - a.means[b%size]
}

// residual is what the model did not foretell at a step.
func (a *arima) residual(t int64) float64 {
	m := &a.model
	if !m.ok {
		return 0
	}
	e := a.w(t)
	for i := range m.p {
		e -= m.phi[i] * a.w(t-int64((i+1)*a.unit))
	}
	size := int64(len(a.resid))
	for j := range m.q {
		if b := t - int64((j+1)*a.unit); b >= 0 && b > a.n-size {
			e -= m.theta[j] * a.resid[b%size]
		}
	}
	return e
}

// fit chooses a model on the history and filters it anew.
func (a *arima) fit() {
	n := int(min(a.n, int64(len(a.means)))) / a.unit
	if n < 15 {
		return
	}
	s := a.series[:0]
	for k := n - 1; k >= 0; k-- {
		s = append(s, a.means[(a.n-1-int64(k*a.unit))%int64(len(a.means))])
	}
	var best arimaModel
	for d := range 2 {
		for _, m := range a.candidates(s, d) {
			if m.ok && (!best.ok || m.aic < best.aic) {
				best = m
			}
		}
	}
	if !best.ok {
		return
	}
	a.model = best
	from := max(0, a.n-int64(len(a.means)))
	for t := max(from, a.n-int64(60*a.unit)); t < a.n; t++ {
		a.resid[t%int64(len(a.resid))] = a.residual(t)
	}
}

// candidates fits all orders with d differences.
func (a *arima) candidates(s []float64, d int) (out [(maxAR + 1) * (maxMA + 1)]arimaModel) {
	w := a.diff[:len(s)-1]
	var mean float64
	if d == 0 {
		for _, v := range s {
			mean += v
		}
		mean /= float64(len(s))
		for i := range w {
			w[i] = s[i+1] - mean
		}
	} else {
		for i := range w {
			w[i] = s[i+1] - s[i]
		}
	}
	winsorise(w)
	e := a.long[:len(w)]
	m := min(longAR, len(w)/5)
	start := autoregress(w, e, m) + maxMA
	if start < 0 || len(w)-start < 8 {
		return out
	}
	for p := range maxAR + 1 {
		for q := range maxMA + 1 {
			if d == 0 && p == 0 {
				continue
			}
			md := arimaModel{p: p, d: d, q: q, mean: mean}
			md.regress(w, e, start)
			out[p*(maxMA+1)+q] = md
		}
	}
	return out
}

// winsorise pulls what is beyond five standard deviations back to there.
func winsorise(w []float64) {
	for range 2 {
		var ss float64
		for _, v := range w {
			ss += v * v
		}
		limit := 5 * math.Sqrt(ss/float64(len(w)))
		for i, v := range w {
			w[i] = clip(v, limit)
		}
	}
}

// autoregress fits a long autoregression and fills e with its residuals, from the index that it returns on; -1 where
// there is nothing to fit.
func autoregress(w, e []float64, m int) int {
	var r [longAR + 1]float64
	for k := range m + 1 {
		for t := k; t < len(w); t++ {
			r[k] += w[t] * w[t-k]
		}
	}
	if !(r[0] > 0) {
		return -maxMA - 1
	}
	var phi, old [longAR + 1]float64
	v := r[0]
	for k := 1; k <= m; k++ {
		acc := r[k]
		for j := 1; j < k; j++ {
			acc -= old[j] * r[k-j]
		}
		phi[k] = acc / v
		for j := 1; j < k; j++ {
			phi[j] = old[j] - phi[k]*old[k-j]
		}
		v *= 1 - phi[k]*phi[k]
		old = phi
		if !(v > 1e-12*r[0]) {
			m = k
			break
		}
	}
	for t := m; t < len(w); t++ {
		x := w[t]
		for j := 1; j <= m; j++ {
			x -= phi[j] * w[t-j]
		}
		e[t] = x
	}
	return m
}

// regress fits the coefficients on lags of the series and of the residuals, and judges them.
func (m *arimaModel) regress(w, e []float64, start int) {
	k := m.p + m.q
	var gram [(maxAR + maxMA) * (maxAR + maxMA)]float64
	var b, x [maxAR + maxMA]float64
	from := max(start, maxAR)
	for t := from; t < len(w); t++ {
		for i := range m.p {
			x[i] = w[t-1-i]
		}
		for j := range m.q {
			x[m.p+j] = e[t-1-j]
		}
		for i := range k {
			for j := range i + 1 {
				gram[i*k+j] += x[i] * x[j]
			}
			b[i] += x[i] * w[t]
		}
	}
	for i := range k {
		gram[i*k+i] *= 1 + 1e-6
	}
	if k > 0 {
		if !cholesky(gram[:k*k], k) {
			return
		}
		solveCholesky(gram[:k*k], b[:k], k)
	}
	copy(m.phi[:], b[:m.p])
	copy(m.theta[:], b[m.p:k])
	if !m.tame() {
		return
	}
	var e1, e2 float64
	n := 0
	for t := maxAR; t < len(w); t++ {
		v := w[t] - m.theta[0]*e1 - m.theta[1]*e2
		for i := range m.p {
			v -= m.phi[i] * w[t-1-i]
		}
		e1, e2 = v, e1
		if t >= from {
			m.css += v * v
			n++
		}
	}
	m.aic = float64(n)*math.Log(m.css/float64(n)+1e-300) + 2*float64(k+1)
	m.ok = m.css > 0 && !math.IsInf(m.css, 0) && m.aic == m.aic
}

// tame reports whether the model is invertible and its forecasts do not grow beyond bounds.
func (m *arimaModel) tame() bool {
	if !(math.Abs(m.theta[1]) < 0.98 && math.Abs(m.theta[0]) < 0.98*(1+m.theta[1])+1e-9) {
		return false
	}
	var h [maxAR]float64
	h[0] = 1
	var sum float64 = 1
	for range 100 {
		v := m.phi[0]*h[0] + m.phi[1]*h[1] + m.phi[2]*h[2]
		h[2], h[1], h[0] = h[1], h[0], v
		sum += v
		if !(math.Abs(v) < 3) || m.d == 1 && !(math.Abs(sum) < 10) {
			return false
		}
	}
	return math.Abs(h[0]) < 1.0001
}

func (a *arima) Predict(leads []int, dst []float64) {
	m := &a.model
	if !m.ok || a.n < int64(5*a.unit) {
		for k := range leads {
			dst[k] = nan
		}
		return
	}
	top := leads[len(leads)-1]/a.unit + 2
	if cap(a.out) < top+1 {
		a.out = make([]float64, top+1)
	}
	out := a.out[:top+1]
	now := a.n - 1
	size := int64(len(a.means))
	out[0] = a.means[now%size]
	// Lags of the series and of the residuals, newest first.
	var w [maxAR]float64
	var e [maxMA]float64
	for i := range w {
		w[i] = a.w(now - int64(i*a.unit))
	}
	for j := range e {
		if b := now - int64(j*a.unit); b >= 0 {
			e[j] = a.resid[b%size]
		}
	}
	for k := 1; k <= top; k++ {
		v := m.phi[0]*w[0] + m.phi[1]*w[1] + m.phi[2]*w[2] + m.theta[0]*e[0] + m.theta[1]*e[1]
		w[2], w[1], w[0] = w[1], w[0], v
		e[1], e[0] = e[0], 0
		if m.d == 0 {
			out[k] = m.mean + v
		} else {
			out[k] = out[k-1] + v
		}
	}
	half := float64(a.unit-1) / 2
	for k, l := range leads {
		p := (float64(l) + half) / float64(a.unit)
		i := min(int(p), top-1)
		dst[k] = out[i] + (out[i+1]-out[i])*(p-float64(i))
	}
}
