package inference

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// warmUp makes the calls of Config.Warmup, as many at once as are allowed, of all
// sizes in turn, with rows of zeros and empty strings. Their answers and
// failures are not looked at: compilers, caches and connections are what is warmed.
func (m *Model) warmUp() {
	sizes := m.cfg.Buckets
	if len(sizes) == 0 {
		sizes = []int{1, m.cfg.MaxBatch}
	}
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(m.cfg.Warmup, m.cfg.Concurrency) {
		all.Go(func() {
			w := &worker{}
			for {
				i := int(next.Add(1)) - 1
				select {
				case <-m.closing:
					return
				default:
				}
				if i >= m.cfg.Warmup {
					return
				}
				rows := sizes[i%len(sizes)]
				w.fresh(len(m.meta.Inputs))
				for k, sig := range m.meta.Inputs {
					row := slices.Clone(sig.Shape)
					for d := range row {
						row[d] = max(row[d], 1) // a size left open
					}
					w.in[k].Name = sig.Name
					w.in[k].shape(sig.Type, row, rows)
				}
				_, _ = m.attempt(w, w.in, nil, rows, time.Now())
				m.stats.Warmups.Add(1)
			}
		})
	}
	all.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.warming = false
	m.work.Broadcast()
}

// padded is the number of rows that a call of so many rows is made of.
func (m *Model) padded(rows int) int {
	for _, b := range m.cfg.Buckets {
		if rows <= b {
			return b
		}
	}
	return rows
}

// pad repeats the last row.
func (m *Model) pad(in []Tensor, rows int) {
	for i := range in {
		t := &in[i]
		for last := t.Rows() - 1; t.Rows() < rows; {
			t.appendRows(t, last, 1)
		}
	}
}
