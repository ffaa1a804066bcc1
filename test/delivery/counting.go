package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// stored is a record as a reader of our own found it.
type stored struct {
	Partition int
	Time      int64 // Unix nanoseconds
	Value     []byte
}

// counts is what the results of one cell show.
type counts struct {
	// In is how many events were acknowledged to their sender.
	In int `json:"in"`
	// RepeatsIn is how many of them lie on the source topic more than once,
	// because an acknowledgement was lost and the broker drops no repeats.
	RepeatsIn int `json:"repeats_in"`
	// Lost is how many of them have no result.
	Lost int `json:"lost"`
	// Repeats is how many results are there beyond the first of an event.
	Repeats int `json:"repeats"`
	// RepeatsByID is how many of those are left when a receiver drops ids that it knows.
	RepeatsByID int `json:"repeats_by_id"`
	// OutOfOrder is how many first results come after one of a later event of their key.
	OutOfOrder int `json:"out_of_order"`
	// WrongFeatures is how many results hold a value that the events do not give.
	WrongFeatures int `json:"wrong_features"`
	// DeadLetters is how many events the pipeline gave up; none is to be.
	DeadLetters int `json:"dead_letters"`
	// Gap is the longest time between two publications, in seconds.
	Gap float64 `json:"gap_seconds"`
}

// count compares results, as they lie on their partitions, with the events that
// were acknowledged and with the source topic. Order is that of orderBy's keys on
// each partition.
// Examples of what is wrong come with it.
func count(acked []numbered, source, results []stored, orderBy func(*numbered) string, deadLetters int) (c counts, examples []string) {
	ref, repeatsIn, err := newReference(source)
	if err != nil {
		return c, []string{err.Error()}
	}
	c.In, c.RepeatsIn, c.DeadLetters = len(acked), repeatsIn, deadLetters
	complain := func(format string, args ...any) {
		if len(examples) < 10 {
			examples = append(examples, fmt.Sprintf(format, args...))
		}
	}
	ids, sources := map[string]bool{}, map[string]bool{}
	last := map[string]string{} // key → newest event
	var times []int64
	for _, s := range results {
		times = append(times, s.Time)
		var r result
		if err := json.Unmarshal(s.Value, &r); err != nil {
			complain("a result is no JSON: %v", err)
			c.WrongFeatures++
			continue
		}
		if !ids[r.ID] && sources[r.SourceID] {
			c.RepeatsByID++
			complain("event %s has a second result with another id", r.SourceID)
		}
		ids[r.ID] = true
		if sources[r.SourceID] {
			c.Repeats++
			continue
		}
		sources[r.SourceID] = true
		if n, known := ref.events[r.SourceID]; known {
			key := fmt.Sprintf("%s on partition %d", orderBy(&n), s.Partition)
			if r.SourceID < last[key] {
				c.OutOfOrder++
				complain("key %s: the result of %s comes after that of %s", key, r.SourceID, last[key])
			}
			last[key] = max(last[key], r.SourceID)
		}
		if why := ref.wrong(&r); why != "" {
			c.WrongFeatures++
			complain("event %s: %s", r.SourceID, why)
		}
	}
	for _, n := range acked {
		if !sources[n.ID] {
			c.Lost++
			complain("event %s was acknowledged and has no result", n.ID)
		}
	}
	slices.Sort(times)
	for i := 1; i < len(times); i++ {
		c.Gap = max(c.Gap, time.Duration(times[i]-times[i-1]).Seconds())
	}
	return c, examples
}

// reference computes what the windows of an event hold: all events of its key
// that are not later.
type reference struct {
	events map[string]numbered
	by     map[string][]numbered // "customer c-1", "terminal t-1" → events by time; repeats included
}

func newReference(source []stored) (*reference, int, error) {
	r := &reference{events: map[string]numbered{}, by: map[string][]numbered{}}
	repeats := 0
	for _, s := range source {
		var n numbered
		if err := json.Unmarshal(s.Value, &n); err != nil {
			return nil, 0, fmt.Errorf("read source: %w", err)
		}
		at, err := time.Parse(time.RFC3339Nano, n.Time)
		if err != nil {
			return nil, 0, fmt.Errorf("read source: event %s: %w", n.ID, err)
		}
		n.at = at
		if _, known := r.events[n.ID]; known {
			repeats++
		}
		r.events[n.ID] = n
		for _, key := range n.keys() {
			r.by[key] = append(r.by[key], n)
		}
	}
	for _, events := range r.by {
		slices.SortStableFunc(events, func(a, b numbered) int { return a.at.Compare(b.at) })
	}
	return r, repeats, nil
}

func (n *numbered) keys() []string {
	return []string{"customer " + n.Customer, "terminal " + n.Terminal}
}

// wrong says what about the features of a result is. Where the source holds an
// event twice, windows may count it once or twice.
func (r *reference) wrong(got *result) string {
	n, known := r.events[got.SourceID]
	if !known {
		return "nobody sent it"
	}
	seen := 0
	for i, name := range []string{"customer", "terminal"} {
		has, ok := got.Features[name+"_count"]
		if !ok {
			continue
		}
		seen++
		distinct := map[string]bool{}
		least, most, leastSum, mostSum := 0.0, 0.0, 0.0, 0.0
		for _, e := range r.by[n.keys()[i]] {
			if e.at.After(n.at) {
				break
			}
			most, mostSum = most+1, mostSum+e.Amount
			if !distinct[e.ID] {
				distinct[e.ID] = true
				least, leastSum = least+1, leastSum+e.Amount
			}
		}
		if has < least || has > most {
			return fmt.Sprintf("%s_count is %v, the events give %v", name, has, most)
		}
		if sum := got.Features[name+"_sum"]; sum < leastSum || sum > mostSum {
			return fmt.Sprintf("%s_sum is %v, the events give %v", name, sum, mostSum)
		}
	}
	if seen == 0 {
		return "it has no features"
	}
	return ""
}
