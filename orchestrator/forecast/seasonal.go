package forecast

import (
	"math"
	"time"
)

// memory keeps the means of slots of at least a minute for eight days and a bit, so its size is bounded
// however long a series is.
type memory struct {
	grid  Grid
	slot  int64 // nanoseconds
	day   int64 // slots a day
	mean  []float64
	stamp []int64 // the slot that a place holds; -1 where none
	open  int64
	sum   float64
	n     int
}

func newMemory(g Grid, slot time.Duration) *memory {
	// Slots divide the day, so that yesterday's is a whole number of slots away.
	slot = max(slot, g.Step)
	for day%slot != 0 && slot < day {
		slot += time.Second - slot%time.Second
	}
	m := &memory{grid: g, slot: int64(slot), open: math.MinInt64}
	m.day = int64(day) / m.slot
	m.mean = make([]float64, 8*m.day+2)
	m.stamp = make([]int64, len(m.mean))
	for i := range m.stamp {
		m.stamp[i] = -1
	}
	return m
}

// middle returns where the middle of a step lies, in slots.
func (m *memory) middle(step int64) float64 {
	return (float64(step)*float64(m.grid.Step) + float64(m.grid.Phase) + float64(m.grid.Step)/2) / float64(m.slot)
}

func (m *memory) add(step int64, x float64) {
	s := (step*int64(m.grid.Step) + int64(m.grid.Phase) + int64(m.grid.Step)/2) / m.slot
	if s != m.open {
		m.flush()
		m.open = s
	}
	if x == x {
		m.sum += x
		m.n++
	}
}

func (m *memory) flush() {
	if m.n > 0 {
		i := m.open % int64(len(m.mean))
		m.mean[i], m.stamp[i] = m.sum/float64(m.n), m.open
	}
	m.sum, m.n = 0, 0
}

// at returns the mean of a slot, NaN where it is not known.
func (m *memory) at(slot int64) float64 {
	if slot < 0 {
		return nan
	}
	i := slot % int64(len(m.mean))
	if m.stamp[i] != slot {
		return nan
	}
	return m.mean[i]
}

// around returns the value at a point in slots, smooth between the middles of slots.
func (m *memory) around(p float64) float64 {
	p -= 0.5
	f := math.Floor(p)
	s := int64(f)
	a, b := m.at(s), m.at(s+1)
	switch {
	case a != a:
		return b
	case b != b:
		return a
	}
	return a + (b-a)*(p-f)
}

// smooth is around's mean over the given number of slots to each side.
func (m *memory) smooth(p float64, side int) float64 {
	f := math.Floor(p - 0.5)
	s, frac := int64(f), p-0.5-f
	var sum, n float64
	for k := -side; k <= side+1; k++ {
		w := 1.0
		switch k {
		case -side:
			w = 1 - frac
		case side + 1:
			w = frac
		}
		if v := m.at(s + int64(k)); v == v {
			sum += w * v
			n += w
		}
	}
	if n < 0.5 {
		return nan
	}
	return sum / n
}

// seasonal is the seasonal naive forecast, of a day or a week: what was at this time then.
// As a shape it is what is now, changed by as much as it changed then.
type seasonal struct {
	name  string
	days  int64
	shape bool
	mem   *memory
	now   ewma
	step  int64
	side  int
}

func newSeasonal(name string, g Grid, days int64, shape bool) *seasonal {
	s := &seasonal{name: name, days: days, shape: shape, mem: newMemory(g, time.Minute)}
	s.now = newEWMA(float64(3*time.Minute) / float64(g.Step))
	if shape {
		s.side = int(int64(10*time.Minute) / s.mem.slot)
	}
	return s
}

func (s *seasonal) Name() string { return s.name }

func (s *seasonal) Update(step int64, x float64) {
	s.step = step
	s.mem.add(step, x)
	if x == x {
		s.now.add(x)
	}
}

func (s *seasonal) Predict(leads []int, dst []float64) {
	back := float64(s.days * s.mem.day)
	if !s.shape {
		for k, l := range leads {
			dst[k] = s.mem.around(s.mem.middle(s.step+int64(l)) - back)
		}
		return
	}
	// The memory of the present is centred as long ago as it remembers.
	was := s.mem.smooth(s.mem.middle(s.step)-back-float64(3*time.Minute)/float64(s.mem.slot), s.side)
	for k, l := range leads {
		will := s.mem.smooth(s.mem.middle(s.step+int64(l))-back, s.side)
		dst[k] = s.now.value * min(max(will/was, 0.2), 5)
	}
}
