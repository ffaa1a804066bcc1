package trace

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// numbers are one count a line, a second each.
type numbers struct {
	p      *parser
	counts []float64
}

func (f *numbers) take(fields []string) error {
	if len(fields) != 1 {
		return f.p.errorf("%d fields, expected one number as in the lines before", len(fields))
	}
	c, err := countOf(fields[0])
	if err != nil {
		return f.p.errorf("%w", err)
	}
	if len(f.counts) == maxSteps {
		return tooLong(f.p.name)
	}
	f.counts = append(f.counts, c)
	return nil
}

func (f *numbers) finish() (*Trace, error) {
	t := &Trace{Start: zero, Step: time.Second, Counts: f.counts}
	return t.checked(f.p.name)
}

// series are lines of a time and a count or a rate.
type series struct {
	p           *parser
	when, count int
	unit        time.Duration
	rate        bool
	points      []point
	last        int64
	unsorted    bool
}

// point is a time in nanoseconds since 1970 and what the line says of it.
type point struct {
	at    int64
	count float64
}

func (f *series) take(fields []string) error {
	if len(fields) <= max(f.when, f.count) {
		return f.p.errorf("%d fields, expected at least %d", len(fields), max(f.when, f.count)+1)
	}
	at, err := stampOf(fields, f.when, f.unit)
	if err != nil {
		return f.p.errorf("%w", err)
	}
	c, err := countOf(fields[f.count])
	if err != nil {
		return f.p.errorf("%w", err)
	}
	if len(f.points) == maxSteps {
		return tooLong(f.p.name)
	}
	f.points = append(f.points, point{at, c})
	f.unsorted = f.unsorted || at < f.last
	f.last = at
	return nil
}

func (f *series) finish() (*Trace, error) {
	if f.unsorted {
		slices.SortStableFunc(f.points, func(a, b point) int {
			switch {
			case a.at < b.at:
				return -1
			case a.at > b.at:
				return 1
			}
			return 0
		})
		f.p.note("lines were out of order and were sorted by time")
	}
	step := commonStep(f.points)
	if step <= 0 {
		return nil, errkind.Errorf(errkind.Invalid, "%s: %d line(s) at one time, expected at least two steps of time", f.p.name, len(f.points))
	}
	first, end := f.points[0].at, f.points[len(f.points)-1].at
	if (end-first)/step >= maxSteps {
		return nil, errkind.Errorf(errkind.Exhausted, "%s: %s to %s is more than %d steps of %s; is a time wrong?", f.p.name,
			stampText(first), stampText(end), maxSteps, time.Duration(step))
	}
	counts := make([]float64, (end-first+step/2)/step+1)
	seen := make([]uint8, len(counts))
	again, shifted := 0, 0
	for i := range counts {
		counts[i] = math.NaN()
	}
	for _, p := range f.points {
		i := (p.at - first + step/2) / step
		if off := p.at - first - i*step; max(off, -off) > step/10 {
			shifted++
		}
		if f.rate {
			p.count *= time.Duration(step).Seconds()
		}
		if seen[i] == 0 || math.IsNaN(counts[i]) {
			counts[i] = p.count
		} else if !math.IsNaN(p.count) {
			counts[i] += (p.count - counts[i]) / float64(seen[i]+1)
		}
		if seen[i]++; seen[i] > 1 {
			again++
		}
		seen[i] = min(seen[i], 250)
	}
	if again*100 > len(f.points) {
		return nil, errkind.Errorf(errkind.Invalid, "%s: %d of %d lines have the time of another (steps of %s), expected one line a step, or one a request without a column of counts",
			f.p.name, again, len(f.points), time.Duration(step))
	}
	if again > 0 {
		f.p.note("%d time(s) came again and were averaged", again)
	}
	if shifted > 0 {
		f.p.note("%d line(s) lay beside the steps of %s and were moved to the nearest", shifted, time.Duration(step))
	}
	t := &Trace{Start: time.Unix(0, first).UTC(), Step: time.Duration(step), Counts: counts}
	if n := t.Holes(); n > 0 {
		f.p.note("%d of %d steps are unknown", n, len(counts))
	}
	return t.checked(f.p.name)
}

// commonStep is the commonest distance of neighbours; the shortest of those that are equally common.
func commonStep(points []point) int64 {
	often := map[int64]int{}
	for i := 1; i < len(points); i++ {
		if d := points[i].at - points[i-1].at; d > 0 && len(often) < 1<<20 {
			often[d]++
		}
	}
	best := int64(0)
	for d, n := range often {
		if m := often[best]; n > m || n == m && d < best {
			best = d
		}
	}
	return best
}

// requests are lines of one request each, counted by the second.
type requests struct {
	p        *parser
	when     int
	unit     time.Duration
	seconds  map[int64]float64
	from, to int64
	last     int64
	unsorted bool
}

func newRequests(p *parser, when int, unit time.Duration) *requests {
	return &requests{p: p, when: when, unit: unit, seconds: map[int64]float64{}, from: math.MaxInt64, to: math.MinInt64, last: math.MinInt64}
}

func (f *requests) take(fields []string) error {
	at, err := stampOf(fields, f.when, f.unit)
	if err != nil {
		return f.p.errorf("%w", err)
	}
	s := at / int64(time.Second)
	if at%int64(time.Second) < 0 {
		s--
	}
	f.seconds[s]++
	if len(f.seconds) > maxSteps {
		return tooLong(f.p.name)
	}
	f.from, f.to = min(f.from, s), max(f.to, s)
	f.unsorted = f.unsorted || at < f.last
	f.last = at
	return nil
}

func (f *requests) finish() (*Trace, error) {
	if f.unsorted {
		f.p.note("requests were out of order, which makes no difference to counts")
	}
	if f.to-f.from >= maxSteps {
		return nil, errkind.Errorf(errkind.Exhausted, "%s: requests from %s to %s are more than %d seconds apart; is a time wrong?", f.p.name,
			stampText(f.from*int64(time.Second)), stampText(f.to*int64(time.Second)), maxSteps)
	}
	counts := make([]float64, f.to-f.from+1)
	for s, n := range f.seconds {
		counts[s-f.from] = n
	}
	t := &Trace{Start: time.Unix(f.from, 0).UTC(), Step: time.Second, Counts: counts}
	return t.checked(f.p.name)
}

// checked refuses what is no trace.
func (t *Trace) checked(name string) (*Trace, error) {
	switch n := len(t.Counts); {
	case n < 2:
		return nil, errkind.Errorf(errkind.Invalid, "%s: %d step(s) of %s, expected at least two", name, n, t.Step)
	case t.Holes() == n:
		return nil, errkind.Errorf(errkind.Invalid, "%s: none of %d steps has a number", name, n)
	case t.Mean() == 0:
		return nil, errkind.Errorf(errkind.Invalid, "%s: no event in %d steps", name, n)
	}
	return t, nil
}

func tooLong(name string) error {
	return errkind.Errorf(errkind.Exhausted, "%s: more than %d steps; cut the file, or sum its steps", name, maxSteps)
}

// zero is where traces without dates begin.
var zero = time.Unix(0, 0).UTC()

// earliest is the least number that is a Unix time (1973) and not a count of steps.
const earliest = 1e8

// number reads a number that is no infinity.
func number(s string) (float64, error) {
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
		return 0, fmt.Errorf("%q: expected a number", clip(s))
	}
	return x, nil
}

// countOf reads a count or a rate; NaN where there is none.
func countOf(s string) (float64, error) {
	switch strings.ToLower(s) {
	case "", "nan", "null", "na", "n/a", "-":
		return math.NaN(), nil
	}
	x, err := number(s)
	switch {
	case err != nil:
		return 0, err
	case x < 0 || x > maxCount:
		return 0, fmt.Errorf("%s: expected a number from 0 to %g", clip(s), maxCount)
	}
	return x, nil
}

func stampOf(fields []string, i int, unit time.Duration) (int64, error) {
	if i >= len(fields) {
		return 0, fmt.Errorf("%d fields, expected a time in field %d", len(fields), i+1)
	}
	s := fields[i]
	if x, err := number(s); err == nil {
		return stampNumber(s, x, unit)
	}
	t, err := stamp(s)
	if err != nil {
		return 0, err
	}
	return t.UnixNano(), nil
}

// stampNumber tells by a number's size what it counts: 1973 to 5138 in seconds, and so on.
func stampNumber(s string, x float64, unit time.Duration) (int64, error) {
	switch {
	case x < 0:
		return 0, fmt.Errorf("time %s: expected 0 or more", clip(s))
	case x < earliest:
	case x < 1e11:
		unit = time.Second
	case x < 1e14:
		unit = time.Millisecond
	case x < 1e17:
		unit = time.Microsecond
	default:
		unit = time.Nanosecond
	}
	if x*float64(unit) > latest {
		return 0, fmt.Errorf("time %s: expected a time before 2200", clip(s))
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n * int64(unit), nil
	}
	return int64(math.Round(x * float64(unit))), nil
}

// latest is 2200 in nanoseconds since 1970.
const latest = 7.258e18

// layouts are the forms of dates; fractions of seconds are taken in all of them.
var layouts = []string{
	"2006-01-02 15:04:05", time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04",
	"2006-01-02T15:04", "2006-01-02", "2006/01/02 15:04:05", "2006/01/02 15:04", "02/Jan/2006:15:04:05 -0700",
}

func stamp(s string) (time.Time, error) {
	for _, l := range layouts {
		if t, err := time.Parse(l, s); err == nil {
			if t.Year() < 1900 || t.Year() >= 2200 {
				return time.Time{}, fmt.Errorf("time %s: expected a year from 1900 to 2199", clip(s))
			}
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("time %q: expected a date such as 2026-01-31 15:04:05, or a number", clip(s))
}

func stampText(at int64) string { return time.Unix(0, at).UTC().Format(time.DateTime) }

// clip keeps messages short.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
