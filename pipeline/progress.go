package pipeline

import (
	"math"
	"sync"
)

// progress is how far, in event time, the tasks of this process have come, and
// how many events each holds back for their order.
type progress struct {
	mu    sync.Mutex
	times map[[2]int]int64 // by stage and partition
	held  map[[2]int]int
}

func (p *progress) set(stage, partition int, watermark int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.times == nil {
		p.times = map[[2]int]int64{}
	}
	p.times[[2]int{stage, partition}] = watermark
}

func (p *progress) hold(stage, partition, rows int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = map[[2]int]int{}
	}
	p.held[[2]int{stage, partition}] = rows
}

func (p *progress) drop(stage, partition int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.times, [2]int{stage, partition})
	delete(p.held, [2]int{stage, partition})
}

// last reports whether no task of the stage is behind this one.
func (p *progress) last(stage, partition int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := p.times[[2]int{stage, partition}]
	for at, w := range p.times {
		if at[0] == stage && w < own {
			return false
		}
	}
	return true
}

// of are a stage's watermarks by partition, where there is one yet, and its held rows.
func (p *progress) of(stage int) (watermarks map[int]int64, held int64) {
	watermarks = map[int]int64{}
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, w := range p.times {
		if at[0] == stage && w > math.MinInt64 {
			watermarks[at[1]] = w
		}
	}
	for at, n := range p.held {
		if at[0] == stage {
			held += int64(n)
		}
	}
	return watermarks, held
}
