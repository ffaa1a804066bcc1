package batching

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/inference"
)

// Server is the model server that is simulated.
type Server struct {
	// Fixed and PerRow are a and b of a call's time a + b·rows.
	Fixed, PerRow time.Duration
	// Jitter is the share by which a call's time varies (a log-normal's sigma).
	Jitter float64
	// Instances is how many calls run at once, Largest the rows of one at most.
	Instances, Largest int
}

// Most is the number of rows a second that the server can do.
func (s Server) Most() float64 {
	return float64(s.Instances*s.Largest) / (s.Fixed + time.Duration(s.Largest)*s.PerRow).Seconds()
}

// Result is what a run came to.
type Result struct {
	Rows int `json:"rows"`
	// Calls is the number of calls, Busy the seconds of instances spent in them.
	Calls int     `json:"calls"`
	Busy  float64 `json:"busy_s"`
	// P50, P99 and Max are of the time from arrival to answer, in milliseconds.
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
	// Late is the share of rows answered after the objective.
	Late float64 `json:"late"`
}

// server is the driver.
type server struct {
	Server
	mu     sync.Mutex
	random *rand.Rand
	calls  int
	busy   time.Duration
	places chan struct{}
}

func (s *server) Metadata() inference.Metadata {
	return inference.Metadata{Name: "simulated", Version: "1", Format: "simulation",
		Inputs:  []inference.Signature{{Name: "x", Type: inference.Float32, Shape: []int{1}}},
		Outputs: []inference.Signature{{Name: "y", Type: inference.Float32, Shape: []int{1}}}}
}
func (s *server) Concurrency() int { return s.Instances }
func (s *server) Close() error     { return nil }
func (s *server) Infer(_ context.Context, in, out []inference.Tensor) error {
	s.places <- struct{}{}
	defer func() { <-s.places }()
	n := in[0].Rows()
	took := s.Fixed + time.Duration(n)*s.PerRow
	s.mu.Lock()
	took = time.Duration(float64(took) * math.Exp(s.Jitter*s.random.NormFloat64()))
	s.calls++
	s.busy += took
	s.mu.Unlock()
	time.Sleep(took)
	out[0].Type, out[0].Shape = inference.Float32, append(out[0].Shape[:0], n, 1)
	out[0].F32 = append(out[0].F32[:0], in[0].F32...)
	return nil
}

// Simulate sends rows at their times through a policy, in simulated time.
// Objective is the freshness wanted of each.
func Simulate(t *testing.T, s Server, p Policy, arrivals Arrivals, objective time.Duration) (res Result) {
	synctest.Test(t, func(*testing.T) {
		d := &server{Server: s, random: rand.New(rand.NewPCG(7, 7)), places: make(chan struct{}, s.Instances)}
		var out sink
		if p.Freshet {
			out = &freshet{m: inference.New(d, inference.Config{MaxBatch: s.Largest, Prefer: p.Prefer, Queue: 1 << 30, Timeout: time.Hour})}
		} else {
			out = newFixed(p, d, s.Largest)
		}
		began := time.Now()
		rows := make([]inference.Request, len(arrivals))
		for i, at := range arrivals {
			if rest := at - time.Since(began); rest > 0 {
				time.Sleep(rest)
			}
			r := &rows[i]
			r.In = []inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int{1, 1}, F32: []float32{float32(i)}}}
			r.Deadline = began.Add(at + objective)
			out.put(r)
		}
		out.finish()
		took := make([]time.Duration, len(rows))
		late := 0
		for i := range rows {
			took[i] = rows[i].Answered.Sub(began.Add(arrivals[i]))
			if took[i] > objective {
				late++
			}
		}
		slices.Sort(took)
		ms := func(q float64) float64 {
			return float64(took[min(int(q*float64(len(took))), len(took)-1)]) / float64(time.Millisecond)
		}
		res = Result{Rows: len(rows), Calls: d.calls, Busy: d.busy.Seconds(), P50: ms(0.5), P99: ms(0.99), Max: ms(1), Late: float64(late) / float64(len(rows))}
	})
	return res
}
