package policy

import (
	"math"
	"sort"
	"time"

	"github.com/freshet-io/freshet/orchestrator/trace"
)

// farthest is how many ticks ahead a level plan looks: far enough to be level, and near enough
// to be made for a year.
const farthest = 240

// levelPlan is a schedule of workers per tick that serves every event within slack, where one worker
// serves rate: in each tick the smallest number that, kept on, would serve in time everything
// due within the slack. It follows Bound's schedule with a lower peak and fewer changes.
func levelPlan(arrivals *trace.Trace, f *fleet, rate float64, slack time.Duration, least int) []int {
	a := newArrived(arrivals)
	seconds := arrivals.Step.Seconds()
	delay := max(slack, 0).Seconds() / seconds
	ahead := int(math.Ceil(min(delay, farthest)))
	plan := make([]int, len(arrivals.Counts))
	due := make([]float64, len(plan)+ahead) // at the end of each tick
	for t := range due {
		due[t] = a.at(float64(t+1) - delay)
	}
	share := make([]float64, ahead+1) // what a tick does of the work of 1, 2 … ticks, a second
	for k := range share {
		share[k] = 1 / (float64(k+1) * seconds)
	}
	served := 0.0
	for t := range plan {
		demand := 0.0
		for k, d := range due[t : t+ahead+1] {
			demand = max(demand, (d-served)*share[k])
		}
		n := max(f.need(demand/rate), least)
		plan[t] = n
		served = min(served+f.of(n)*rate*seconds, a.at(float64(t+1)))
	}
	return plan
}

// early is, for each tick, the largest of the plan from it to ahead ticks later: orders given that early are
// ready in time, and gaps shorter than that are kept.
func early(plan []int, ahead int) []int {
	out := make([]int, len(plan))
	var window []int // indices of falling values, from the end
	for t := len(plan) - 1; t >= 0; t-- {
		for len(window) > 0 && plan[window[len(window)-1]] <= plan[t] {
			window = window[:len(window)-1]
		}
		window = append(window, t)
		for window[0] > t+ahead {
			window = window[1:]
		}
		out[t] = plan[window[0]]
	}
	return out
}

// readied is how many workers are surely ready in each tick: the fewest ordered in it and in the ticks before it
// that a start-up may take. Those at the beginning are taken to be ready.
func readied(orders []int, ahead int) []int {
	out := make([]int, len(orders))
	var window []int // indices of rising values
	for t, n := range orders {
		for len(window) > 0 && orders[window[len(window)-1]] >= n {
			window = window[:len(window)-1]
		}
		window = append(window, t)
		for window[0] < t-ahead {
			window = window[1:]
		}
		out[t] = orders[window[0]]
	}
	return out
}

// lateShare is the share of events that a schedule of ready workers serves later than slack after they came.
func lateShare(arrivals *trace.Trace, f *fleet, rate float64, slack time.Duration, ready []int) float64 {
	a := newArrived(arrivals)
	seconds := arrivals.Step.Seconds()
	delay := slack.Seconds() / seconds
	served, late, before := 0.0, 0.0, 0.0
	for t, n := range ready {
		served = min(served+f.of(n)*rate*seconds, a.at(float64(t+1)))
		due := a.at(float64(t+1) - delay)
		late += max(0, due-max(before, served))
		before = due
	}
	if all := a.sum[len(a.sum)-1]; all > 0 {
		return late / all
	}
	return 0
}

// quantileNeed is the number of workers that is enough for the share q of the time, when demand is
// taken over stretches as long as slack.
func quantileNeed(arrivals *trace.Trace, f *fleet, rate float64, slack time.Duration, q float64) int {
	a := newArrived(arrivals)
	width := max(1, int(slack/arrivals.Step))
	var rates []float64
	for t := 0; t < len(arrivals.Counts); t += width {
		end := min(t+width, len(arrivals.Counts))
		rates = append(rates, (a.sum[end]-a.sum[t])/(float64(end-t)*arrivals.Step.Seconds()))
	}
	if len(rates) == 0 {
		return 0
	}
	sort.Float64s(rates)
	i := int(math.Ceil(q*float64(len(rates)))) - 1
	return f.need(rates[min(max(i, 0), len(rates)-1)] / rate)
}
