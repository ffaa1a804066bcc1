package inference

import "time"

// serviceTime learns the time of one call as a + b·rows by least squares with
// exponential forgetting, so that a batch of a size not seen yet can be judged.
type serviceTime struct {
	w, n, t, nn, nt float64 // weighted sums of 1, rows, seconds, rows², rows·seconds
	dev             float64 // weighted mean of |error|, seconds
}

// forget is the weight left to the past at each observation: half of it is gone after about 35.
const forget = 0.98

func (s *serviceTime) observe(rows int, d time.Duration) {
	n, t := float64(rows), d.Seconds()
	if s.w > 0 {
		e := t - s.seconds(rows)
		if e < 0 {
			e = -e
		}
		s.dev = forget*s.dev + (1-forget)*e
	}
	s.w = forget*s.w + 1
	s.n = forget*s.n + n
	s.t = forget*s.t + t
	s.nn = forget*s.nn + n*n
	s.nt = forget*s.nt + n*t
}

func (s *serviceTime) seconds(rows int) float64 {
	if s.w == 0 {
		return 0
	}
	mean := s.t / s.w
	if det := s.w*s.nn - s.n*s.n; det > 1e-9*s.w*s.nn {
		b := max(0, (s.w*s.nt-s.n*s.t)/det)
		a := max(0, mean-b*s.n/s.w)
		return a + b*float64(rows)
	}
	return mean // one size only: no slope to be had
}

// predict is what a call of this many rows is expected to take, with a margin
// of three mean deviations.
func (s *serviceTime) predict(rows int) time.Duration {
	return time.Duration((s.seconds(rows) + 3*s.dev) * float64(time.Second))
}
