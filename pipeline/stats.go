package pipeline

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/internal/histogram"
	"github.com/freshet-io/freshet/state"
)

// counters are what all tasks of a pipeline count into, once a batch.
type counters struct {
	consumed      atomic.Uint64
	processed     atomic.Uint64 // of the source, committed by the first stage
	predictions   atomic.Uint64
	failures      atomic.Uint64 // rows that the model did not score
	fallbacks     atomic.Uint64
	late          atomic.Uint64 // events later than allowed
	filled        atomic.Uint64 // rows of series that no reading stands behind
	lateReadings  atomic.Uint64 // readings older than their key's newest
	sourceRepeats atomic.Uint64 // events that had come before
	repeats       atomic.Uint64 // records between stages that came twice
	exprFaults    atomic.Uint64
	lookupMisses  atomic.Uint64
	freshness     histogram.Histogram
	sinceArrival  histogram.Histogram
	lookupSeconds histogram.Histogram
	batchRows     histogram.Histogram
	routes        []atomic.Uint64 // by route case
	tables        []*tableCounters
	steps         []*stepCounters

	mu      sync.Mutex
	reasons map[string]uint64
	// Of the tasks that run, by stage and partition.
	states      map[[2]int]stateSize
	spaces      map[[2]int][]*state.Space
	checkpoints map[[2]int]checkpointed
}

type stateSize struct{ keys, bytes int64 }

type checkpointed struct {
	bytes int64
	upTo  time.Time
}

func (c *counters) dead(ls []letter) {
	if len(ls) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range ls {
		c.reasons[ls[i].reason]++
	}
}

func (c *counters) state(task [2]int, keys, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states[task] = stateSize{keys, bytes}
}

// store notes a part of the local store that holds keys of a task.
func (c *counters) store(task [2]int, s *state.Space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spaces == nil {
		c.spaces = map[[2]int][]*state.Space{}
	}
	c.spaces[task] = append(c.spaces[task], s)
}

// checkpoint notes that a task's checkpoint has a size and holds what was committed up to a time.
func (c *counters) checkpoint(task [2]int, bytes int64, upTo time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkpoints[task] = checkpointed{bytes, upTo}
}

// forget takes out what a task that ends has.
func (c *counters) forget(task [2]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.states, task)
	delete(c.spaces, task)
	delete(c.checkpoints, task)
}

// Stats is what a pipeline did since it began to run.
type Stats struct {
	Name string
	// Model and Version name the champion of the step that gives the score; empty without one.
	Model, Version string
	// Source is the topic of the events; Target the freshness that is promised.
	Source string
	Target time.Duration
	// Consumed counts events read, Processed those of the source that the first stage has
	// done with and committed, Predictions results whose commit is durable,
	// DeadLetters by reason the events that could not be processed.
	Consumed, Processed, Predictions uint64
	DeadLetters                      map[string]uint64
	// Failures counts rows that the model did not score, Fallbacks those of them that the fallback did.
	Failures, Fallbacks uint64
	// ExpressionFaults counts values that an expression could not compute, LookupMisses keys that a table did not have.
	ExpressionFaults, LookupMisses uint64
	// Late counts events that came later than allowed, whatever became of them:
	// LatePolicy says what.
	Late       uint64
	LatePolicy LatePolicy
	// Repeats counts records between stages that a task published again after it had
	// started again, and that were dropped.
	Repeats uint64
	// SourceRepeats counts events that were on the source twice, and were processed once.
	SourceRepeats uint64
	// Bridges is what came from a bus, and what was handed over.
	Bridges []BridgeStats
	// Filled counts the rows of a series that no reading stands behind.
	Filled uint64
	// LateReadings counts the readings that gave out no rows of their series because
	// their key had a newer one already, however late they were.
	LateReadings uint64
	// Routes counts predictions by route.
	Routes map[string]uint64
	// Freshness is publication time minus event time, SinceArrival minus the
	// time the broker stored the event; both in nanoseconds.
	Freshness, SinceArrival histogram.Snapshot
	// FeatureLookup is the time of one feature step over one batch, in nanoseconds.
	FeatureLookup histogram.Snapshot
	// BatchRows is the number of events of each commit.
	BatchRows histogram.Snapshot
	// Steps are the infer steps.
	Steps []StepStats
	// Running is the time since the pipeline was made.
	Running time.Duration
	// Stages are the parts of the pipeline between two changes of key, the one
	// that reads the source first.
	Stages []StageStats
	// Tables are those that are looked up in.
	Tables []TableStats
	// CheckpointBytes is what lies in the store of checkpoints; all that was
	// committed before CheckpointAt is there. Zero without a store.
	CheckpointBytes int64
	CheckpointAt    time.Time
}

// StageStats is where the tasks of one stage are that run in this process.
type StageStats struct {
	// Topic is what the stage reads, and By the field that its windows go by.
	Topic, By string
	// Keys and Bytes are the size of its keyed state in memory; windows that
	// cannot share state count their keys each.
	Keys, Bytes int64
	// StoredKeys and StoredBytes are an estimate of what lies in the local store
	// instead; Store says whether there is one.
	Store                   bool
	StoredKeys, StoredBytes int64
	// Held counts the events that were read and wait for their turn in the order of time.
	Held int64
	// Watermarks are the event times that it has reached, by partition, in Unix nanoseconds.
	Watermarks map[int]int64
}

// Stats returns the pipeline's counters.
func (p *Pipeline) Stats() Stats {
	c := &p.counters
	s := Stats{
		Name:   p.plan.Spec.Name,
		Source: p.plan.Spec.Source.Topic, Target: p.plan.Spec.Freshness.Target,
		Consumed: c.consumed.Load(), Processed: c.processed.Load(), Predictions: c.predictions.Load(),
		Failures: c.failures.Load(), Fallbacks: c.fallbacks.Load(),
		ExpressionFaults: c.exprFaults.Load(), LookupMisses: c.lookupMisses.Load(),
		Late: c.late.Load(), LatePolicy: p.plan.Spec.Source.Late, Filled: c.filled.Load(), LateReadings: c.lateReadings.Load(), Repeats: c.repeats.Load(), SourceRepeats: c.sourceRepeats.Load(), Bridges: p.bridgeStats(),
		Freshness: c.freshness.Snapshot(), SinceArrival: c.sinceArrival.Snapshot(),
		FeatureLookup: c.lookupSeconds.Snapshot(), BatchRows: c.batchRows.Snapshot(),
		Routes:  map[string]uint64{},
		Running: time.Since(p.began),
	}
	for i := range c.routes {
		s.Routes[p.plan.routes[i].name] += c.routes[i].Load()
	}
	for i, ip := range p.plan.infers {
		s.Steps = append(s.Steps, c.steps[i].stats(ip))
	}
	if in := p.plan.main(); in != nil {
		served := s.Steps[in.index].Served[0]
		s.Model, s.Version = served.Model, served.Version
	}
	for _, t := range c.tables {
		s.Tables = append(s.Tables, t.stats())
	}
	for i, st := range p.plan.stages {
		z := StageStats{Topic: st.topic, By: st.by}
		z.Watermarks, z.Held = p.progress.of(i)
		s.Stages = append(s.Stages, z)
	}
	c.stored(s.Stages)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.DeadLetters = maps.Clone(c.reasons)
	for task, z := range c.states {
		s.Stages[task[0]].Keys += z.keys
		s.Stages[task[0]].Bytes += z.bytes
	}
	for _, c := range c.checkpoints {
		s.CheckpointBytes += c.bytes
		if s.CheckpointAt.IsZero() || c.upTo.Before(s.CheckpointAt) {
			s.CheckpointAt = c.upTo
		}
	}
	return s
}

// stored measures the local store. That may take a while, in which tasks count on.
func (c *counters) stored(stages []StageStats) {
	c.mu.Lock()
	spaces := maps.Clone(c.spaces)
	c.mu.Unlock()
	for task, parts := range spaces {
		z := &stages[task[0]]
		z.Store = true
		for _, space := range parts {
			size, err := space.Stats()
			if err != nil {
				continue // the task has ended meanwhile
			}
			z.StoredKeys += size.Keys
			z.StoredBytes += size.DiskBytes
		}
	}
}

// Letters is the number of dead letters of all reasons.
func (s *Stats) Letters() (n uint64) {
	for _, c := range s.DeadLetters {
		n += c
	}
	return n
}
