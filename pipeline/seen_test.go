package pipeline

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestSeenKnowsRepeatsThroughRestarts compares it with a plain map, and restores
// it from a snapshot that was taken in slices while ids came in.
func TestSeenKnowsRepeatsThroughRestarts(t *testing.T) {
	const window = 100
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := newSeen(window * time.Nanosecond)
		last := map[string]int64{}
		now := int64(r.IntN(1000))
		var log [][]byte // since the snapshot began
		begun := false
		for range 5000 {
			now += int64(r.IntN(5))
			id := fmt.Sprint(r.IntN(200))
			at, known := last[id]
			delta, again := s.repeat(id, now, nil)
			switch {
			case again && !known:
				t.Fatalf("seed %d: %s has never come", seed, id)
			case !again && known && now-at < window:
				t.Fatalf("seed %d: %s came %d ago and is not known", seed, id, now-at)
			case again && now-at > 3*window:
				t.Fatalf("seed %d: %s came %d ago and is still known", seed, id, now-at)
			}
			if !again {
				last[id] = now
			}
			if !begun {
				s.BeginSnapshot()
				begun, log = true, nil
			} else {
				log = append(log, delta)
			}
			slice, done := s.AppendSnapshot(nil, 100)
			log = append(log, slice)
			if done {
				restored := newSeen(window * time.Nanosecond)
				for _, b := range log {
					if err := restored.ApplyDelta(b); err != nil {
						t.Fatal(err)
					}
				}
				for id := range last {
					if d := digestOf(id); s.has(d, s.newest) && !restored.has(d, s.newest) {
						t.Fatalf("seed %d: %s is forgotten in the restart", seed, id)
					}
				}
				s, begun = restored, false
			}
		}
	}
}

func FuzzSeenChange(f *testing.F) {
	s := newSeen(time.Minute)
	delta, _ := s.repeat("a", int64(time.Hour), nil)
	f.Add(delta)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newSeen(time.Minute)
		if s.ApplyDelta(b) != nil {
			return
		}
		again := newSeen(time.Minute)
		s.BeginSnapshot()
		for done := false; !done; {
			var slice []byte
			slice, done = s.AppendSnapshot(nil, 64)
			if err := again.ApplySnapshot(slice); err != nil {
				t.Fatal(err)
			}
		}
		if again.Keys() != s.Keys() {
			t.Fatalf("%d ids became %d", s.Keys(), again.Keys())
		}
	})
}
