package pipeline

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/internal/histogram"
)

// counters are what all tasks of a pipeline count into, once a batch.
type counters struct {
	consumed      atomic.Uint64
	predictions   atomic.Uint64
	failures      atomic.Uint64 // rows that the model did not score
	fallbacks     atomic.Uint64
	late          atomic.Uint64 // events later than allowed
	filled        atomic.Uint64 // rows of series that no reading stands behind
	exprFaults    atomic.Uint64
	lookupMisses  atomic.Uint64
	freshness     histogram.Histogram
	sinceArrival  histogram.Histogram
	lookupSeconds histogram.Histogram
	batchRows     histogram.Histogram
	routes        []atomic.Uint64 // by route case

	mu      sync.Mutex
	reasons map[string]uint64
	keys    map[[2]int]int64 // by stage and partition
	bytes   map[[2]int]int64
	// checkpoints are what was written last, by stage and partition.
	checkpoints map[[2]int]checkpointed
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
	c.keys[task], c.bytes[task] = keys, bytes
}

// checkpoint notes that a task's checkpoint holds bytes, and when it was written.
func (c *counters) checkpoint(task [2]int, bytes int64, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.checkpoints == nil {
		c.checkpoints = map[[2]int]checkpointed{}
	}
	c.checkpoints[task] = checkpointed{bytes, at}
}

type checkpointed struct {
	bytes int64
	at    time.Time
}

// Stats is what a pipeline did since it began to run.
type Stats struct {
	Name string
	// Model and Version name the model in use; empty without one.
	Model, Version string
	// Consumed counts events read, Predictions results whose commit is durable,
	// DeadLetters by reason the events that could not be processed.
	Consumed, Predictions uint64
	DeadLetters           map[string]uint64
	// Failures counts rows that the model did not score, Fallbacks those of them that the fallback did.
	Failures, Fallbacks uint64
	// ExpressionFaults counts values that an expression could not compute, LookupMisses keys that a table did not have.
	ExpressionFaults, LookupMisses uint64
	// Late counts events that came later than allowed, whatever became of them.
	Late uint64
	// Filled counts the rows of a series that no reading stands behind.
	Filled uint64
	// Routes counts predictions by route.
	Routes map[string]uint64
	// Freshness is publication time minus event time, SinceArrival minus the
	// time the broker stored the event; both in nanoseconds.
	Freshness, SinceArrival histogram.Snapshot
	// FeatureLookup is the time of one feature step over one batch, in nanoseconds.
	FeatureLookup histogram.Snapshot
	// BatchRows is the number of events of each commit.
	BatchRows histogram.Snapshot
	// InferenceBatch is the rows of each call of the model; Inference its time in nanoseconds.
	InferenceBatch, Inference histogram.Snapshot
	// Flushes counts the model's batches by the reason for which they were closed.
	Flushes map[string]uint64
	// BusySeconds is the time that the model's instances spent in calls, and Instances how many there are.
	BusySeconds float64
	Instances   int
	// Running is the time since the pipeline was made.
	Running time.Duration
	// StateKeys and StateBytes are the keyed state's size, and States that of
	// each stage's, by the key that it goes by.
	StateKeys, StateBytes int64
	States                []StageState
	// CheckpointBytes is what lies in the store of checkpoints, and CheckpointAt
	// when the oldest of the tasks' checkpoints was written; zero without.
	CheckpointBytes int64
	CheckpointAt    time.Time
}

// StageState is the size of a stage's keyed state.
type StageState struct {
	// Stage is the key that it goes by.
	Stage       string
	Keys, Bytes int64
}

// Stats returns the pipeline's counters.
func (p *Pipeline) Stats() Stats {
	c := &p.counters
	s := Stats{
		Name:     p.plan.Spec.Name,
		Consumed: c.consumed.Load(), Predictions: c.predictions.Load(),
		Failures: c.failures.Load(), Fallbacks: c.fallbacks.Load(),
		ExpressionFaults: c.exprFaults.Load(), LookupMisses: c.lookupMisses.Load(),
		Late: c.late.Load(), Filled: c.filled.Load(),
		Freshness: c.freshness.Snapshot(), SinceArrival: c.sinceArrival.Snapshot(),
		FeatureLookup: c.lookupSeconds.Snapshot(), BatchRows: c.batchRows.Snapshot(),
		Routes: map[string]uint64{}, Flushes: map[string]uint64{},
		Running: time.Since(p.began),
	}
	for i := range c.routes {
		s.Routes[p.plan.routes[i].name] += c.routes[i].Load()
	}
	if p.model != nil {
		meta, ms := p.model.Metadata(), p.model.Stats()
		s.Model, s.Version = meta.Name, meta.Version
		s.InferenceBatch, s.Inference = ms.Batches.Snapshot(), ms.Seconds.Snapshot()
		s.BusySeconds, s.Instances = float64(ms.Busy.Load())/1e9, p.model.Instances()
		for i, r := range inference.FlushReasons {
			s.Flushes[r.String()] = ms.Flushes[i].Load()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.DeadLetters = maps.Clone(c.reasons)
	for i, st := range p.plan.stages {
		z := StageState{Stage: st.by}
		for task := range c.keys {
			if task[0] == i {
				z.Keys += c.keys[task]
				z.Bytes += c.bytes[task]
			}
		}
		s.States = append(s.States, z)
		s.StateKeys += z.Keys
		s.StateBytes += z.Bytes
	}
	for _, c := range c.checkpoints {
		s.CheckpointBytes += c.bytes
		if s.CheckpointAt.IsZero() || c.at.Before(s.CheckpointAt) {
			s.CheckpointAt = c.at
		}
	}
	return s
}

// Letters is the number of dead letters of all reasons.
func (s *Stats) Letters() (n uint64) {
	for _, c := range s.DeadLetters {
		n += c
	}
	return n
}
