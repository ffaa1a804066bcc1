package forecast

import "math"

// blame is what a member's regret is more by for its surprise, less for longer lead times.
func (e *Ensemble) blame(m *entrant, a int) float64 {
	const far = 30 // steps to where it counts half
	return 2 * max(0, math.Abs(m.surprised)-2) / (1 + float64(e.leads[a]-e.leads[0])/far)
}

// combine returns the weighted mean of the members' points at an anchor, and how far they are apart.
func (e *Ensemble) combine(a int, pts []float64) (f, spread float64) {
	best := math.Inf(1)
	for k, m := range e.members {
		if pts[k] == pts[k] {
			best = min(best, m.pooled(a))
		}
	}
	least := math.Inf(1)
	for k, m := range e.members {
		m.weight[a] = 0
		if pts[k] == pts[k] {
			m.against = min(m.pooled(a)-best, mostRegret) + e.blame(m, a)
			least = min(least, m.against)
		}
	}
	var total float64
	for k, m := range e.members {
		if pts[k] == pts[k] {
			w := 1.0
			if !e.cfg.Equal {
				w = math.Exp(least - m.against)
			}
			m.weight[a] = w
			total += w
		}
	}
	if total == 0 {
		return e.vol.level.value, 0
	}
	for k, m := range e.members {
		if w := m.weight[a]; w > 0 {
			m.weight[a] = w / total
			f += pts[k] * w / total
		}
	}
	for k, m := range e.members {
		if w := m.weight[a]; w > 0 {
			spread += w * math.Abs(pts[k]-f)
		}
	}
	return f, spread
}

// surprise compares the step with what the members said of it shortly before. It works on all
// lead times at once: whoever does not see what is now does not see what will be, and the scores of long lead times
// would tell it long after the level has changed.
func (e *Ensemble) surprise(x float64) {
	t := e.step - int64(e.leads[0])
	if t%stride != 0 || t < 0 || x != x {
		return
	}
	is := &e.issues[int(t/stride)%len(e.issues)]
	if is.step != t || !(is.scale[0] > 0) {
		return
	}
	for k, m := range e.members {
		if p := is.points[k]; p == p {
			m.surprised += surpriseRate * (clip((x-p)/is.scale[0], 20) - m.surprised)
		}
	}
}
