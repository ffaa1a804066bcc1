package openai

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/freshet-io/freshet/internal/histogram"
)

// maxModels bounds the models that usage is counted by; further ones count as "other".
const maxModels = 32

// Usage is what the calls answered by one model came to.
type Usage struct {
	// Model is the name that the server gives in its answers.
	Model string
	// Calls counts answers, whatever became of them.
	Calls uint64
	// InputTokens and OutputTokens are the server's count; where it gave none, an
	// estimate, which Estimated counts as calls.
	InputTokens, OutputTokens uint64
	Estimated                 uint64
	// Cost is in the currency of the price; 0 without one.
	Cost float64
}

// Stats is what a driver did since it was opened.
type Stats struct {
	// Models are sorted by name.
	Models []Usage
	// Held counts calls that the budget or a pause of the server refused here, and
	// Throttled those that the server refused with status 429.
	Held, Throttled uint64
	// Unfit counts answers that did not fit the schema, were cut off or declined.
	Unfit uint64
	// Recalled counts rows answered by what an earlier call of a batch that failed
	// had brought already.
	Recalled uint64
	// FirstToken is the time to the first piece of an answer, in nanoseconds, of streams.
	FirstToken histogram.Snapshot
}

type counters struct {
	mu     sync.Mutex
	models map[string]*Usage
	stats  Stats
	first  histogram.Histogram
}

func (c *counters) used(model string, u usage, estimated bool, cost float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.models[model]
	if m == nil {
		if len(c.models) >= maxModels {
			model = "other"
			m = c.models[model]
		}
		if m == nil {
			m = &Usage{Model: model}
			if c.models == nil {
				c.models = map[string]*Usage{}
			}
			c.models[model] = m
		}
	}
	m.Calls++
	m.InputTokens += uint64(u.Prompt)
	m.OutputTokens += uint64(u.Completion)
	m.Cost += cost
	if estimated {
		m.Estimated++
	}
}

func (c *counters) count(n *uint64) {
	c.mu.Lock()
	*n++
	c.mu.Unlock()
}

func (c *counters) firstToken(d time.Duration) { c.first.Record(int64(d)) }

// Stats returns the counters; see Stats.
func (d *Driver) Stats() Stats {
	c := &d.counters
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	for _, name := range slices.Sorted(maps.Keys(c.models)) {
		s.Models = append(s.Models, *c.models[name])
	}
	s.FirstToken = c.first.Snapshot()
	return s
}
