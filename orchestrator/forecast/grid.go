package forecast

import (
	"math"
	"time"
)

// Grid is the regular grid that members live on.
type Grid struct {
	// Step is the length of one step.
	Step time.Duration
	// Phase is where step 0 begins, less than Step after the Unix epoch.
	Phase time.Duration
}

// Time returns when a step begins.
func (g Grid) Time(step int64) time.Time {
	return time.Unix(0, int64(g.Phase)+step*int64(g.Step))
}

// steps returns how many steps a time is, at least 1.
func (g Grid) steps(d time.Duration) int {
	return int(max(1, (d+g.Step/2)/g.Step))
}

const (
	// longGap is what members are not led through step by step.
	longGap = time.Hour
	// longWindow is the longest window that says anything about its steps.
	longWindow = 6 * time.Hour
	// absurdRate is more than any stream has.
	absurdRate = 1e13
	// leap is how far behind the newest observation others may come late; three in a row further behind mean that the clock
	// was set back.
	leap = time.Minute
	day  = 24 * time.Hour
	// early and late bound the clocks that are taken as they are: 1971 to 2100, in Unix seconds.
	early = 31536000
	late  = 4102444800
	week  = 7 * 86400
)

var nan = math.NaN()

// gridder makes steps of equal length out of whatever is observed. Times within are
// nanoseconds since the Unix epoch of the observer's clock, plus shift.
type gridder struct {
	grid Grid
	set  bool
	// weeks are added to the observer's clock, in seconds, where it is so far off that nanoseconds since the epoch
	// would not fit; shift is added too, in whole days, so that steps rise where the clock was set back.
	weeks, shift int64
	// filled is until when observations were taken; the open step began at open·Step + Phase.
	filled int64
	open   int64
	// events and known are of the open step: known is the time of it that was observed.
	events, known float64
	// behind counts observations in a row that lie far behind; behindEnd is the end of the last of them.
	behind    int
	behindEnd int64
	// spikes counts steps in a row that were beyond belief; peak is the largest that was believed, forgotten slowly.
	spikes int
	peak   float64

	gaps, repeats, refused, jumps int
}

// observe takes an observation and calls emit for each step that it completes.
func (g *gridder) observe(endTime time.Time, window time.Duration, rate float64, emit func(step int64, x float64)) {
	if window <= 0 {
		g.refused++
		return
	}
	if !g.set {
		if s := endTime.Unix(); s < early || s > late {
			g.weeks = (2*early - s) / week * week
		}
	}
	end, ok := g.nanos(endTime)
	if !ok {
		g.refused++
		return
	}
	if !g.set {
		g.set = true
		g.grid.Phase = time.Duration(end % int64(g.grid.Step))
		start := end - int64(min(window, longWindow))
		g.open = g.stepOf(start)
		g.filled = g.startOf(g.open)
		if g.filled < start {
			g.open++
			g.filled = g.startOf(g.open)
		}
	}
	if end <= g.filled-int64(leap) {
		end = g.back(end)
		if end == 0 {
			return
		}
	}
	g.behind = 0
	if end <= g.filled {
		g.repeats++
		return
	}
	if !(rate >= 0 && rate <= absurdRate) || window > longWindow {
		g.refused++
		return // its time stays unknown: a gap once something comes behind it
	}
	start := max(end-int64(window), g.filled)
	if start > g.filled {
		g.advance(start, emit)
	}
	for g.filled < end {
		next := min(end, g.startOf(g.open+1))
		s := float64(next-g.filled) / 1e9
		g.events += rate * s
		g.known += s
		g.filled = next
		g.close(emit)
	}
}

// nanos is a time of the observer's clock within; false where it cannot be.
func (g *gridder) nanos(t time.Time) (int64, bool) {
	s := t.Unix() + g.weeks
	if s < week || s > 2*late {
		return 0, false
	}
	return s*1e9 + int64(t.Nanosecond()) + g.shift, true
}

// time is when a step begins by the observer's clock.
func (g *gridder) time(step int64) time.Time {
	ns := g.startOf(step) - g.shift
	return time.Unix(ns/1e9-g.weeks, ns%1e9)
}

// back judges an observation from long before what was observed last. It returns the
// end to take it with; 0 where it is not taken.
func (g *gridder) back(end int64) int64 {
	if g.behind == 0 || end > g.behindEnd {
		g.behind++
	}
	g.behindEnd = end
	if g.behind < 3 {
		g.repeats++
		return 0
	}
	// The time of the day stays true by shifting whole days.
	days := (g.filled-end)/int64(day) + 1
	g.shift += days * int64(day)
	g.jumps++
	return end + days*int64(day)
}

// advance passes time of which nothing is known.
func (g *gridder) advance(to int64, emit func(int64, float64)) {
	g.gaps++
	if to-g.filled > int64(longGap)+2*int64(g.grid.Step) {
		g.filled = g.startOf(g.open + 1)
		g.close(emit)
		g.open = g.stepOf(to)
		g.filled = to
		return
	}
	for g.filled < to {
		g.filled = min(to, g.startOf(g.open+1))
		g.close(emit)
	}
}

// close ends the open step where its time is over.
func (g *gridder) close(emit func(int64, float64)) {
	if g.filled < g.startOf(g.open+1) {
		return
	}
	x := nan
	if g.known > 0.3*g.grid.Step.Seconds() {
		x = g.believe(g.events / g.known)
	}
	step := g.open
	g.open++
	g.events, g.known = 0, 0
	emit(step, x)
}

// believe returns NaN for a step a thousand times above everything before, until it has
// been so for three steps.
func (g *gridder) believe(x float64) float64 {
	if g.peak > 0 && x > 1000*g.peak && x > 1000 {
		g.spikes++
		if g.spikes < 3 {
			g.refused++
			return nan
		}
		g.peak = x
	}
	g.spikes = 0
	g.peak = max(x, g.peak*(1-1e-5))
	return x
}

func (g *gridder) startOf(step int64) int64 {
	return step*int64(g.grid.Step) + int64(g.grid.Phase)
}

func (g *gridder) stepOf(ns int64) int64 {
	ns -= int64(g.grid.Phase)
	q := ns / int64(g.grid.Step)
	if ns%int64(g.grid.Step) < 0 {
		q--
	}
	return q
}
