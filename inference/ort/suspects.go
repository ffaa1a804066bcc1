package ort

import (
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/ort/internal/frame"
)

const (
	// guilty is after how many ends of a worker rows are refused; but for the first
	// they were there alone.
	guilty = 3
	// maxSuspects bounds what is remembered, suspicion how long; the guilty stay.
	maxSuspects = 256
	suspicion   = 10 * time.Minute
)

// suspects are inputs that were there when a worker ended, by hash.
type suspects struct {
	seed maphash.Seed
	some atomic.Bool // there are any: calls ask this without a lock
	mu   sync.Mutex
	ends map[uint64]int
	look time.Time // when to forget those who never came back
}

func newSuspects() *suspects {
	return &suspects{seed: maphash.MakeSeed(), ends: map[uint64]int{}}
}

// of is how often a worker has ended beside this input.
func (s *suspects) of(in []inference.Tensor) int {
	if !s.some.Load() {
		return 0
	}
	h := s.hash(in)
	s.mu.Lock()
	defer s.mu.Unlock()
	ends := s.ends[h]
	if now := time.Now(); now.After(s.look) {
		maps.DeleteFunc(s.ends, func(_ uint64, n int) bool { return n < guilty })
		s.some.Store(len(s.ends) > 0)
	}
	return ends
}

// add counts an end.
func (s *suspects) add(hash uint64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ends) >= maxSuspects && s.ends[hash] == 0 {
		clear(s.ends)
	}
	s.ends[hash]++
	s.look = time.Now().Add(suspicion)
	s.some.Store(true)
	return s.ends[hash]
}

// clear takes an input off the list, which was answered.
func (s *suspects) clear(hash uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ends, hash)
	s.some.Store(len(s.ends) > 0)
}

func (s *suspects) hash(in []inference.Tensor) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for i := range in {
		t := &in[i]
		maphash.WriteComparable(&h, t.Type)
		for _, d := range t.Shape {
			maphash.WriteComparable(&h, d)
		}
		_, _ = h.Write(frame.Raw(t))
		for _, v := range t.Str {
			maphash.WriteComparable(&h, v)
		}
	}
	return h.Sum64()
}
