package pipeline

import "sync"

// progress is how far, in event time, the tasks of this process have come.
type progress struct {
	mu    sync.Mutex
	times map[[2]int]int64 // by stage and partition
}

func (p *progress) set(stage, partition int, watermark int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.times == nil {
		p.times = map[[2]int]int64{}
	}
	p.times[[2]int{stage, partition}] = watermark
}

func (p *progress) drop(stage, partition int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.times, [2]int{stage, partition})
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
