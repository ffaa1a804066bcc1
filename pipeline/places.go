package pipeline

import "sync"

// places says where on its topic a task's state records lie: their numbers are
// not their positions.
type places struct {
	mu   sync.Mutex
	list []place
}

// place says that the records from a number on lie at a position or behind it.
type place struct {
	number   uint64
	position int64
}

// placesEvery is every how many state records a place is noted.
const placesEvery = 256

// wants reports whether a place is missing for a record that is about to be written.
func (p *places) wants(number uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.list)
	return n == 0 || number >= p.list[n-1].number+placesEvery
}

func (p *places) add(here place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, here)
}

// of is a position that no record from the given number on lies before; -1 where
// none is known. What lies before it is not asked for again.
func (p *places) of(number uint64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := -1
	for i := range p.list {
		if p.list[i].number <= number {
			last = i
		}
	}
	if last < 0 {
		return -1
	}
	p.list = p.list[last:]
	return p.list[0].position
}
