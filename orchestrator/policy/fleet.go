package policy

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/freshet-io/freshet/orchestrator"
)

// fleet answers what n workers do together, from a table that is made anew when the capacity changes.
type fleet struct {
	eff      []float64 // by the number of workers
	peak     []float64 // by the number of workers: the most of that many or fewer
	top      int
	exponent float64
	parts    int
	shares   []float64
}

// update makes the table for up to top workers.
func (f *fleet) update(c *orchestrator.Capacity, top int) {
	top = min(max(top, 1), 100_000)
	if p := c.Partitions; p > 0 {
		top = min(top, p)
	}
	same := f.parts == c.Partitions && len(f.shares) == len(c.Shares) && (len(c.Shares) == 0 || &f.shares[0] == &c.Shares[0])
	if same && f.top == top && math.Abs(f.exponent-c.Exponent) < 5e-3 {
		return
	}
	f.parts, f.shares, f.exponent, f.top = c.Partitions, c.Shares, c.Exponent, top
	f.eff = f.eff[:0]
	even := *c
	for n := 0; n <= top; n++ {
		e := even.Effective(n)
		if !(e >= 0) || math.IsInf(e, 0) {
			e = float64(n)
		}
		f.eff = append(f.eff, e)
	}
	f.skew(c)
	f.peak = append(f.peak[:0], f.eff...)
	for n := 1; n <= top; n++ {
		f.peak[n] = max(f.peak[n], f.peak[n-1])
	}
}

// deals is how many deals of partitions are drawn to find how unevenly they fall.
const deals = 5

// skew takes into account that the worker with the busiest partitions is the limit, where
// partitions have shares of their own. Who gets which partition is not known: the mean of a few deals counts.
func (f *fleet) skew(c *orchestrator.Capacity) {
	p := c.Partitions
	if p == 0 || len(c.Shares) != p {
		return
	}
	total := 0.0
	for _, s := range c.Shares {
		if !(s >= 0) || math.IsInf(s, 0) {
			return
		}
		total += s
	}
	if total <= 0 {
		return
	}
	rng := rand.New(rand.NewPCG(uint64(p), 1))
	worst := make([]float64, f.top+1)
	loads := make([]float64, f.top)
	for range deals {
		order := rng.Perm(p)
		for n := 1; n <= f.top; n++ {
			for w, at := 0, 0; w < n; w++ {
				end := at + p/n
				if w < p%n {
					end++
				}
				sum := 0.0
				for ; at < end; at++ {
					sum += c.Shares[order[at]]
				}
				loads[w] = sum / total
			}
			worst[n] += busiest(loads[:n]) / deals
		}
	}
	for n := 1; n <= f.top; n++ {
		// The fullest share is at least that of an even deal, which Effective has taken into account.
		loss := float64((p+n-1)/n) / float64(p) / worst[n]
		f.eff[n] *= min(loss, 1)
	}
}

// beyond is the share of the events that may meet workers with more to do than is reckoned with: to
// save the last of many workers would cost more than its few events are worth.
const beyond = 0.03

// busiest is the load that all but beyond of the events meet, between the loads of neighbours.
func busiest(loads []float64) float64 {
	slices.Sort(loads)
	left := beyond
	for i := len(loads) - 1; i > 0; i-- {
		if left < loads[i] {
			return loads[i] - left/loads[i]*(loads[i]-loads[i-1])
		}
		left -= loads[i]
	}
	return loads[0]
}

// of returns what n workers do, in workers.
func (f *fleet) of(n int) float64 {
	return f.eff[min(max(n, 0), f.top)]
}

// need returns the fewest workers that do the work of so many, and the most there are where none do.
func (f *fleet) need(work float64) int {
	if !(work > 0) {
		return 0
	}
	lo, hi := 0, f.top
	for lo < hi {
		mid := (lo + hi) / 2
		if f.peak[mid] >= work-1e-9 {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
