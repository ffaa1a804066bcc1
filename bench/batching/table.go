package batching

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/freshet-io/freshet/inference"
)

// Table is all results.
type Table struct {
	Server    Server  `json:"server"`
	Objective float64 `json:"objective_ms"`
	// Most is the number of rows a second that the server can do in its largest batches.
	Most  float64 `json:"server_rows_per_s"`
	Lines []Line  `json:"lines"`
	// Gains are by load, Throughput by arrivals.
	Gains      []Gain       `json:"gains"`
	Throughput []Throughput `json:"throughput"`
	// Setting is the one fixed wait that keeps the objective under most loads, the
	// cheapest of those, and the number of loads: all, and those that it, and deadline batching, keeps.
	Setting  string `json:"one_setting"`
	Loads    int    `json:"loads"`
	Kept     int    `json:"loads_kept_by_one_setting"`
	Deadline int    `json:"loads_kept_by_deadline"`
}

// Line is one run.
type Line struct {
	Arrivals string  `json:"arrivals"`
	Rate     float64 `json:"rows_per_s"`
	Policy   string  `json:"policy"`
	Result
	// Keeps says that the 99th percentile is within the objective.
	Keeps bool `json:"keeps"`
}

// Gain compares deadline batching with another way at the same load, where
// both keep the objective for 99 of 100 rows: the other's calls and seconds of the server over its own.
type Gain struct {
	Arrivals string  `json:"arrivals"`
	Rate     float64 `json:"rows_per_s"`
	Against  string  `json:"against"`
	Setting  string  `json:"setting"`
	Calls    float64 `json:"calls_ratio"`
	Busy     float64 `json:"busy_ratio"`
}

// Throughput is the greatest rate at which a way keeps the objective for 99 of 100 rows.
type Throughput struct {
	Arrivals string  `json:"arrivals"`
	Policy   string  `json:"policy"`
	Setting  string  `json:"setting"`
	Rate     float64 `json:"rows_per_s"`
}

const (
	deadlineName = "deadline"
	idleName     = "no wait"
	waitName     = "fixed wait"
	sizeName     = "fixed size"
	oneName      = "one fixed wait for all loads"
)

// policies are all ways with all settings, by name.
func policies() map[string][]Policy {
	ps := map[string][]Policy{
		deadlineName: {{Name: deadlineName, Freshet: true, Prefer: inference.Throughput}},
		idleName:     {{Name: idleName, Freshet: true, Prefer: inference.Latency}},
	}
	for _, ms := range []int{5, 10, 20, 30, 40, 50, 60, 70, 80} {
		w := time.Duration(ms) * time.Millisecond
		ps[waitName] = append(ps[waitName], Policy{Name: fmt.Sprint("wait ", w), Size: 1 << 30, Wait: w})
	}
	for _, n := range []int{4, 8, 16, 32, 64, 128} {
		ps[sizeName] = append(ps[sizeName], Policy{Name: fmt.Sprint("size ", n), Size: n})
	}
	return ps
}

// Compare runs every policy under every load. The rates are shares of what the server can do.
func Compare(t *testing.T, s Server, objective time.Duration, loads map[string]Arrivals, shares []float64) Table {
	tab := Table{Server: s, Objective: float64(objective) / float64(time.Millisecond), Most: s.Most()}
	kept := map[string]int{}
	calls := map[string]int{}
	all := policies()
	for _, name := range slices.Sorted(maps.Keys(loads)) {
		for _, share := range shares {
			rate := share * s.Most()
			a := loads[name].At(rate)
			run := func(p Policy) Line {
				r := Simulate(t, s, p, a, objective)
				l := Line{Arrivals: name, Rate: rate, Policy: p.Name, Result: r, Keeps: r.P99 <= tab.Objective}
				tab.Lines = append(tab.Lines, l)
				return l
			}
			ours := run(all[deadlineName][0])
			tab.Loads++
			if ours.Keeps {
				tab.Deadline++
			}
			for _, way := range []string{idleName, waitName, sizeName} {
				var best *Line
				for _, p := range all[way] {
					l := run(p)
					if way == waitName && l.Keeps {
						kept[p.Name]++
					}
					calls[p.Name] += l.Calls
					if l.Keeps && (best == nil || l.Calls < best.Calls) {
						best = &l
					}
				}
				if best != nil && ours.Keeps {
					tab.Gains = append(tab.Gains, Gain{Arrivals: name, Rate: rate, Against: way, Setting: best.Policy,
						Calls: float64(best.Calls) / float64(ours.Calls), Busy: best.Busy / ours.Busy})
				}
			}
		}
		for _, way := range []string{deadlineName, idleName, waitName, sizeName} {
			best := Throughput{Arrivals: name, Policy: way}
			for _, p := range all[way] {
				if r := greatest(t, s, p, loads[name], objective); r > best.Rate {
					best.Rate, best.Setting = r, p.Name
				}
			}
			tab.Throughput = append(tab.Throughput, best)
		}
	}
	for _, p := range all[waitName] {
		if n := kept[p.Name]; n > tab.Kept || n == tab.Kept && n > 0 && calls[p.Name] < calls[tab.Setting] {
			tab.Kept, tab.Setting = n, p.Name
		}
	}
	tab.againstOneSetting()
	return tab
}

// againstOneSetting compares with a fixed wait that is set once, as it is in practice: loads change.
func (tab *Table) againstOneSetting() {
	var ours Line
	for _, l := range tab.Lines { // those of a load stand together, deadline batching first
		switch {
		case l.Policy == deadlineName:
			ours = l
		case l.Policy == tab.Setting && l.Keeps && ours.Keeps:
			tab.Gains = append(tab.Gains, Gain{Arrivals: l.Arrivals, Rate: l.Rate, Against: oneName, Setting: l.Policy,
				Calls: float64(l.Calls) / float64(ours.Calls), Busy: l.Busy / ours.Busy})
		}
	}
}

// greatest searches the rate by halves, to 1 % of what the server can do.
func greatest(t *testing.T, s Server, p Policy, a Arrivals, objective time.Duration) float64 {
	lo, hi := 0.0, 1.0
	for hi-lo > 0.01 {
		mid := (lo + hi) / 2
		if r := Simulate(t, s, p, a.At(mid*s.Most()), objective); r.P99 <= float64(objective)/float64(time.Millisecond) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo * s.Most()
}
