package live

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/freshet-io/freshet/bench/workload"
	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// feedStep is how often what is due is published, by the clock.
const feedStep = 500 * time.Microsecond

// feeder publishes payments at the times of a trace, whatever becomes of them: an open loop.
type feeder struct {
	b     *broker.Broker
	topic string
	speed float64
	gen   *workload.Generator
	// due is how many events have arrived by the end of each tick.
	due  []float64
	tick time.Duration

	sent   int
	behind time.Duration // the most that publishing was behind, by the clock
}

// cumulative counts of a trace, with its spikes.
func cumulative(t *trace.Trace, faults []simulate.Fault) []float64 {
	out := make([]float64, len(t.Counts))
	sum := 0.0
	for i, n := range t.Counts {
		if math.IsNaN(n) {
			n = 0
		}
		at := time.Duration(i) * t.Step
		for _, f := range faults {
			if f.Kind == simulate.Spike && at >= f.At && at < f.At+f.Duration {
				n *= f.Size
			}
		}
		sum += n
		out[i] = sum
	}
	return out
}

// dueAt is how many events have arrived at a time of the trace.
func (f *feeder) dueAt(at time.Duration) int {
	i := int(at / f.tick)
	if i >= len(f.due) {
		return int(f.due[len(f.due)-1])
	}
	before := 0.0
	if i > 0 {
		before = f.due[i-1]
	}
	return int(before + (f.due[i]-before)*float64(at%f.tick)/float64(f.tick))
}

// run publishes until the trace's end or that of ctx.
func (f *feeder) run(ctx context.Context, start time.Time) error {
	const most = 2000 // of one publication
	recs := make([]event.Record, 0, most)
	var buf []byte
	var p workload.Payment
	end := time.Duration(len(f.due)) * f.tick
	next := start
	for {
		at := time.Duration(float64(time.Since(start)) * f.speed)
		want := f.dueAt(min(at, end))
		for f.sent < want {
			recs, buf = recs[:0], buf[:0]
			for ; f.sent < want && len(recs) < most; f.sent++ {
				if !f.gen.Next(&p) {
					break
				}
				from := len(buf)
				buf = strconv.AppendInt(buf, p.ID, 10)
				id := len(buf)
				buf = strconv.AppendInt(buf, int64(p.Customer), 10)
				key := len(buf)
				buf = p.AppendJSON(buf)
				recs = append(recs, event.Record{ID: buf[from:id:id], Key: buf[id:key:key], Value: buf[key:len(buf):len(buf)]})
			}
			if _, err := f.b.Publish(ctx, f.topic, recs); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
		f.behind = max(f.behind, time.Since(next))
		if at >= end {
			return nil
		}
		next = next.Add(feedStep)
		if now := time.Now(); next.Before(now) {
			next = now
		}
		sleepUntil(ctx, next)
		if ctx.Err() != nil {
			return nil
		}
	}
}
