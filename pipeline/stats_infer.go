package pipeline

import (
	"sync"
	"sync/atomic"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/internal/histogram"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/model"
)

// StepStats is what one infer step did.
type StepStats struct {
	Name string
	// Paths counts predictions by the way to their answer, as records name it.
	Paths map[string]uint64
	// Versions counts predictions by the version that answered.
	Versions []VersionStats
	// Explained counts predictions with an explanation, Unexplained those whose explanation failed.
	Explained, Unexplained uint64
	// Served are the versions at work.
	Served []ServedStats
	// Labels are those that came while a rollout ran.
	Labels LabelStats
	// Status is where the model's rollout stands.
	Status model.Status
}

// VersionStats counts the predictions of one version in one role.
type VersionStats struct {
	Model, Version, Role string
	Predictions          uint64
}

// ServedStats is what the calls of one version were like.
type ServedStats struct {
	Model, Version, Role string
	// Batch is the rows of each call; Seconds its time in nanoseconds.
	Batch, Seconds histogram.Snapshot
	// Flushes counts batches by the reason for which they were closed.
	Flushes map[string]uint64
	// BusySeconds is the time that the instances spent in calls, and Instances how many there are.
	BusySeconds float64
	Instances   int
	// Retries, Hedges and Timeouts count calls; Expired and Cached rows; Opened the
	// times that the circuit breaker opened.
	Retries, Hedges, Timeouts, Expired, Cached, Opened uint64
	// Health is what the version is like now.
	Health inference.Health
}

// stepCounters are what all tasks count into about one infer step, once a frame.
type stepCounters struct {
	paths                  []atomic.Uint64 // by lineage.Path
	explained, unexplained atomic.Uint64
	// Of the labels that came while a rollout ran.
	labels, unknownLabels, faultyLabels atomic.Uint64

	mu       sync.Mutex
	versions map[VersionStats]uint64 // by everything but the number
}

func newStepCounters() *stepCounters {
	return &stepCounters{paths: make([]atomic.Uint64, len(lineage.PathNames)), versions: map[VersionStats]uint64{}}
}

// scored counts a frame that was committed.
func (c *stepCounters) scored(f *frame, sc *scoring) (fallbacks uint64) {
	var paths [8]uint64
	var arms [256]uint64
	for row := range f.rows.N {
		if !f.skip[row] {
			paths[sc.path[row]]++
			arms[sc.arm[row]]++
		}
	}
	for p, n := range paths[:len(c.paths)] {
		if n > 0 {
			c.paths[p].Add(n)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, a := range sc.arms {
		if arms[i] > 0 {
			c.versions[VersionStats{Model: a.Name, Version: a.Version, Role: a.Role.String()}] += arms[i]
		}
	}
	return paths[lineage.FallbackVersion] + paths[lineage.FallbackCached] + paths[lineage.FallbackRule] + paths[lineage.FallbackValue]
}

// stats reads the counters of a step.
func (c *stepCounters) stats(ip *inferPlan) StepStats {
	s := StepStats{Name: ip.spec.Name, Paths: map[string]uint64{}, Explained: c.explained.Load(), Unexplained: c.unexplained.Load(), Status: ip.service.Status()}
	s.Labels = LabelStats{c.labels.Load(), c.unknownLabels.Load(), c.faultyLabels.Load()}
	for i, name := range lineage.PathNames {
		s.Paths[name] = c.paths[i].Load()
	}
	c.mu.Lock()
	for v, n := range c.versions {
		v.Predictions = n
		s.Versions = append(s.Versions, v)
	}
	c.mu.Unlock()
	sv := ip.service.Acquire()
	defer sv.Release()
	for _, a := range []*model.Arm{sv.Champion(), sv.Challenger()} {
		if a != nil {
			s.Served = append(s.Served, servedStats(a))
		}
	}
	return s
}

func servedStats(a *model.Arm) ServedStats {
	ms := a.Model.Stats()
	s := ServedStats{
		Model: a.Name, Version: a.Version, Role: a.Role.String(), Batch: ms.Batches.Snapshot(), Seconds: ms.Seconds.Snapshot(),
		Flushes: map[string]uint64{}, BusySeconds: float64(ms.Busy.Load()) / 1e9, Instances: a.Model.Instances(),
		Retries: ms.Retries.Load(), Hedges: ms.Hedges.Load(), Timeouts: ms.Timeouts.Load(), Expired: ms.Expired.Load(),
		Cached: ms.CacheHits.Load(), Opened: ms.Opened.Load(), Health: a.Model.Health(),
	}
	for i, r := range inference.FlushReasons {
		s.Flushes[r.String()] = ms.Flushes[i].Load()
	}
	return s
}
