package inference

// Limit is how much of a model may be used at the moment: what an autoscaler
// orders. Zero values mean as much as the Config allows.
type Limit struct {
	// Calls at a time, at most Config.Concurrency.
	Calls int
	// Batch is the most rows of a call, at most Config.MaxBatch.
	Batch int
}

// SetLimit changes how much of the model may be used, from the next batch on. Values
// outside of what the Config allows are brought within it; calls under way go on.
func (m *Model) SetLimit(l Limit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ordered = Limit{within(l.Calls, m.cfg.Concurrency), within(l.Batch, m.cfg.MaxBatch)}
	m.batch.Store(int64(m.ordered.Batch))
	m.work.Broadcast()
	if m.leader {
		m.wakeLeader()
	}
}

// Limit is what is in force: never zero, never more than the Config allows.
func (m *Model) Limit() Limit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ordered
}

// Batch is the most rows of a call at the moment. A request of more rows travels in one
// call all the same, so who submits asks first.
func (m *Model) Batch() int { return int(m.batch.Load()) }

// places is how many calls may be made at a time. The lock is held.
func (m *Model) places() int { return min(m.ordered.Calls, m.limit.size()) }

func within(n, most int) int {
	if n <= 0 {
		return most
	}
	return min(n, most)
}
