package inference

import "time"

// serviceTime learns the time of one call as a + b·rows by least squares with
// exponential forgetting, so that a batch of a size not seen yet can be judged.
// A call far off the line moves it no more than one at the edge of what is
// usual (Huber, 1964), so that one stall does not spoil the line, while a server that
// has become slower widens the edge call by call.
type serviceTime struct {
	w, n, t, nn, nt float64 // weighted sums of 1, rows, seconds, rows², rows·seconds
	dev             float64 // weighted mean of |error|, seconds
	seen            int     // the largest number of rows so far
}

const (
	// forget is the weight left to the past at each observation: half of it is gone after about 35.
	forget = 0.98
	// farOff is how many mean deviations off the line still count in full.
	farOff = 6
)

func (s *serviceTime) observe(rows int, d time.Duration) {
	n, t := float64(rows), d.Seconds()
	s.seen = max(s.seen, rows)
	if s.w > 0 {
		mean := s.seconds(rows)
		e := t - mean
		if edge := farOff*s.dev + mean; s.w > 5 && e > edge {
			e = edge
			t = mean + edge
		}
		s.dev = forget*s.dev + (1-forget)*max(e, -e)
	}
	s.w = forget*s.w + 1
	s.n = forget*s.n + n
	s.t = forget*s.t + t
	s.nn = forget*s.nn + n*n
	s.nt = forget*s.nt + n*t
}

func (s *serviceTime) known() bool { return s.w > 0 }

// line is a and b; neither is negative.
func (s *serviceTime) line() (a, b float64) {
	if s.w == 0 {
		return 0, 0
	}
	mean := s.t / s.w
	det := s.w*s.nn - s.n*s.n
	if det <= 1e-9*s.w*s.nn {
		return mean, 0 // one size only: no slope to be had
	}
	// Between nothing a row and nothing a call.
	b = min(max(0, (s.w*s.nt-s.n*s.t)/det), s.t/s.n)
	return mean - b*s.n/s.w, b
}

func (s *serviceTime) seconds(rows int) float64 {
	a, b := s.line()
	return a + b*float64(rows)
}

// predict is what a call of this many rows is expected to take, with a margin
// of three mean deviations.
func (s *serviceTime) predict(rows int) time.Duration {
	return time.Duration((s.seconds(rows) + 3*s.dev) * float64(time.Second))
}

// likely is what most calls of this many rows take: with one mean deviation.
func (s *serviceTime) likely(rows int) time.Duration {
	return time.Duration((s.seconds(rows) + s.dev) * float64(time.Second))
}

// most is the greatest number of rows, up to n, that likely take no longer than d.
func (s *serviceTime) most(d time.Duration, n int) int {
	a, b := s.line()
	rest := d.Seconds() - a - s.dev
	switch {
	case rest < 0:
		return 0
	case b == 0 || rest/b >= float64(n):
		return n
	}
	return int(rest / b)
}
