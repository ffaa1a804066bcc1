package forecast

import (
	"math"
	"time"
)

// clock knows what the minutes of the hour are like: schedules (every hour, half hour, five minutes)
// make bursts at the same minutes, on some hours or on all.
type clock struct {
	grid  Grid
	slot  int64 // nanoseconds
	size  int64
	level ewma
	rise  []ewma  // by slot: the mean of the rate as a share of the level before, less 1
	risk  []ewma  // by slot: the mean of how far it was off
	mean  float64 // of rise, over the slots
	usual ewma    // of risk
	open  int64
	sum   float64
	off   float64
	n     float64
}

const clockMemory = 24 // hours

func newClock(g Grid) *clock {
	c := &clock{grid: g, slot: int64(max(time.Minute, g.Step)), level: newEWMA(float64(15*time.Minute) / float64(g.Step)), open: -1}
	c.size = max(1, int64(time.Hour)/c.slot)
	c.rise, c.risk = make([]ewma, c.size), make([]ewma, c.size)
	for i := range c.rise {
		c.rise[i], c.risk[i] = newEWMA(clockMemory), newEWMA(clockMemory)
	}
	c.usual = newEWMA(float64(clockMemory * c.size))
	return c
}

// at returns the slot of the hour that a step lies in.
func (c *clock) at(step int64) int64 {
	return (step*int64(c.grid.Step) + int64(c.grid.Phase) + int64(c.grid.Step)/2) / c.slot % c.size
}

func (c *clock) add(step int64, x float64) {
	if s := c.at(step); s != c.open {
		if c.n > 0 {
			e := &c.rise[c.open]
			before := e.value
			e.add(c.sum / c.n)
			c.mean += (e.value - before) / float64(c.size)
			c.risk[c.open].add(c.off / c.n)
			c.usual.add(c.off / c.n)
		}
		c.open, c.sum, c.off, c.n = s, 0, 0, 0
	}
	if x != x {
		return
	}
	if l := c.level.value; l > 0 {
		r := min(x/l, 10) - 1
		c.sum += r
		c.off += math.Abs(r)
		c.n++
	}
	c.level.add(x / max(0.2, 1+c.shape(step)))
}

// shape is by how much the slot of a step is above the level before it, as a share; nearer to 0 the less is known.
func (c *clock) shape(step int64) float64 {
	e := &c.rise[c.at(step)]
	return (e.value - c.mean) * e.weight / (e.weight + 4)
}

// restless is the logarithm of how much further off than usual the slots of two steps are.
func (c *clock) restless(from, to int64) float64 {
	const prior = 3
	var r float64
	for _, s := range [2]int64{from, to} {
		e := &c.risk[c.at(s)]
		r += (e.value*e.weight + prior*c.usual.value) / (e.weight + prior)
	}
	return clip(math.Log((r/2+1e-4)/(c.usual.value+1e-4)), 2)
}

// hour forecasts the level of the last minutes with the shape of the hour.
type hour struct {
	clock *clock
	level ewma
	step  int64
	seen  int
}

func newHour(g Grid) *hour {
	return &hour{clock: newClock(g), level: newEWMA(float64(5*time.Minute) / float64(g.Step))}
}

func (h *hour) Name() string { return "hour" }

func (h *hour) Update(step int64, x float64) {
	h.step = step
	if x == x {
		h.seen++
		h.level.add(x / max(0.2, 1+h.clock.shape(step)))
	}
	h.clock.add(step, x)
}

func (h *hour) Predict(leads []int, dst []float64) {
	for k, l := range leads {
		dst[k] = h.level.value * max(0.2, 1+h.clock.shape(h.step+int64(l)))
		if int64(h.seen)*int64(h.clock.grid.Step) < int64(2*time.Hour) {
			dst[k] = nan
		}
	}
}
