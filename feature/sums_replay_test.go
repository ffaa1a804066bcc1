package feature

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
)

func fullSums(s *Sums) map[string]string {
	state := map[string]string{}
	for k := range uint32(s.index.size()) {
		key := strings.Clone(s.index.key(k))
		if s.used[k] != keyFree {
			state[key] = string(s.appendState(nil, uint32(k)))
		}
	}
	return state
}

// wholeSnapshot is all keys of a state.
func wholeSnapshot(s *Sums) []byte {
	all := binary.AppendUvarint([]byte{sumsVersion, snapshotRecord}, zigzag(s.watermark))
	for _, state := range fullSums(s) {
		all = append(all, state...)
	}
	return all
}

// manyValues makes sketches dense and digests full.
func manyValues(rng *rand.Rand) float64 { return rng.NormFloat64() * 100 }

func TestReplayOfSumsFromAnyCompleteCycleGivesTheSameState(t *testing.T) {
	points := 0
	for seed := range seeds(9) {
		ws := sumWindows(300, 5)
		retain := time.Duration(seed * 20)
		_, s := newNaiveSums(t, ws, retain)
		h := &history{rng: rand.New(rand.NewPCG(seed, 2)), keys: 20, late: float64(seed%3) / 10, far: 0.1, step: 6, values: cents}
		rows := 12
		if seed%3 == 2 {
			h.keys, h.step, h.values, rows = 2, 2, manyValues, 300
		}
		var log []logged
		begin, complete := 0, -1
		s.BeginSnapshot()
		for round := range 40 {
			if h.rng.IntN(10) == 0 {
				h.now += 20_000 // a silence, after which old keys are dropped
			}
			b := h.next(s.Fields(), 1+h.rng.IntN(rows))
			log = append(log, logged{false, s.Update(b.asBatch(), outFor(len(ws)), nil)})
			chunk, done := s.AppendSnapshot(nil, 300+h.rng.IntN(6000))
			log = append(log, logged{true, chunk})
			if done {
				complete, begin = begin, len(log)
				s.BeginSnapshot()
			}
			if complete < 0 || round%3 > 0 {
				continue
			}
			points++
			_, r := newNaiveSums(t, ws, retain)
			for _, l := range log[complete:] {
				apply := r.ApplyDelta
				if l.snapshot {
					apply = r.ApplySnapshot
				}
				if err := apply(l.bytes); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(fullSums(s), fullSums(r)); diff != "" {
				t.Fatalf("seed %d round %d: state differs", seed, round)
			}
			// Both go on: the original as a copy, with whatever it has merged ahead.
			_, c := newNaiveSums(t, ws, retain)
			if err := c.ApplySnapshot(wholeSnapshot(s)); err != nil {
				t.Fatal(err)
			}
			fork := *h
			fork.rng = rand.New(rand.NewPCG(uint64(round), 3))
			for range 3 {
				b := fork.next(c.Fields(), 40)
				out1, out2 := outFor(len(ws)), outFor(len(ws))
				if d1, d2 := c.Update(b.asBatch(), out1, nil), r.Update(b.asBatch(), out2, nil); !bytes.Equal(d1, d2) {
					t.Fatalf("seed %d round %d: deltas differ", seed, round)
				}
				for j := range ws {
					for i := range b.keys {
						if x, y := cell(out1[j], i), cell(out2[j], i); x != y {
							t.Fatalf("seed %d round %d %s: %v and %v", seed, round, ws[j].Name, x, y)
						}
					}
				}
			}
		}
	}
	t.Logf("%d crash points replayed", points)
}

func TestSilentKeysAreDroppedFromSums(t *testing.T) {
	ws := []Window{
		{Name: "n", Aggregate: Count, Shape: Tumbling, Over: 100},
		{Name: "d", Aggregate: Decayed, Field: "x", Over: 10}, // 40 half-lives: 400
	}
	_, s := newNaiveSums(t, ws, 100)
	update := func(key string, at int64) {
		b := newBatch(s.Fields(), 1)
		b.set(0, key, at, []any{1.0})
		s.Update(b.asBatch(), outFor(2), nil)
	}
	update("silent", 0)
	for at, want := range map[int64]int{623: 2, 625: 1} {
		_, r := newNaiveSums(t, ws, 100)
		if err := r.ApplySnapshot(wholeSnapshot(s)); err != nil {
			t.Fatal(err)
		}
		was := s
		s = r
		update("awake", at)
		s.BeginSnapshot()
		s.AppendSnapshot(nil, 1<<20)
		if s.Keys() != want {
			t.Errorf("at %d: %d keys, want %d", at, s.Keys(), want)
		}
		s = was
	}
}

func TestDamagedSumsAreCorruptAndChangeNothing(t *testing.T) {
	delta, snapshot, paged := sumsBytes(t)
	for name, good := range map[string][]byte{"delta": delta, "snapshot": snapshot, "paged": paged} {
		step := 3
		if raceDetector {
			step = 97
		}
		for n := 0; n < 2*len(good); n += step { // cut, then bent
			bad := bytes.Clone(good)
			if n < len(good) {
				bad = bad[:n]
			} else {
				bad[n-len(good)] ^= byte(1 + n*37%255)
			}
			_, s := newNaiveSums(t, sumWindows(60, 3), 0)
			if err := s.ApplyDelta(delta); err != nil {
				t.Fatal(err)
			}
			before := fullSums(s)
			if err := applySums(s, name, bad); err == nil {
				continue // it may be good, too
			} else if !errkind.Is(err, errkind.Corrupt) {
				t.Fatalf("%s %d: kind %v: %v", name, n, errkind.Of(err), err)
			}
			if diff := cmp.Diff(before, fullSums(s)); diff != "" {
				t.Fatalf("%s %d: an error changed the state", name, n)
			}
		}
	}
}

func applySums(s *Sums, form string, b []byte) error {
	switch form {
	case "delta":
		return s.ApplyDelta(b)
	case "snapshot":
		return s.ApplySnapshot(b)
	default:
		return s.Load(b)
	}
}

func sumsBytes(t testing.TB) (delta, snapshot, paged []byte) {
	ws := sumWindows(60, 3)
	_, s := newNaiveSums(t, ws, 0)
	h := &history{rng: rand.New(rand.NewPCG(1, 4)), keys: 3, late: 0.2, step: 6, values: cents}
	delta = s.Update(h.next(s.Fields(), 30).asBatch(), outFor(len(ws)), nil)
	s.BeginSnapshot()
	snapshot, _ = s.AppendSnapshot(nil, 1<<20)
	paged, _ = s.AppendKey(nil, "k1")
	return delta, snapshot, paged
}

func FuzzApplySums(f *testing.F) {
	delta, snapshot, paged := sumsBytes(f)
	f.Add(delta)
	f.Add(snapshot)
	f.Add(paged)
	dense, err := NewSums(Config{Windows: sumWindows(60, 3)})
	if err != nil {
		f.Fatal(err)
	}
	h := &history{rng: rand.New(rand.NewPCG(1, 4)), keys: 1, step: 1, values: manyValues}
	dense.Update(h.next(dense.Fields(), 1500).asBatch(), outFor(len(dense.ops)), nil)
	f.Add(wholeSnapshot(dense))
	f.Fuzz(func(t *testing.T, b []byte) {
		ws := sumWindows(60, 3)
		for _, form := range []string{"delta", "snapshot", "paged"} {
			_, s := newNaiveSums(t, ws, 0)
			if err := s.ApplyDelta(delta); err != nil {
				t.Fatal(err)
			}
			if err := applySums(s, form, b); err != nil {
				if !errkind.Is(err, errkind.Corrupt) {
					t.Fatalf("%s: kind %v: %v", form, errkind.Of(err), err)
				}
				continue
			}
			// What was taken must be workable.
			h := &history{rng: rand.New(rand.NewPCG(1, 5)), keys: 3, late: 0.2, step: 6, values: cents}
			s.Update(h.next(s.Fields(), 20).asBatch(), outFor(len(ws)), nil)
			s.BeginSnapshot()
			all, _ := s.AppendSnapshot(nil, 1<<20)
			_, again := newNaiveSums(t, ws, 0)
			if err := again.ApplySnapshot(all); err != nil {
				t.Fatal(err)
			}
			checkAccounts(t, s)
		}
	})
}

// TestPagedSumsAreThoseInMemory keeps two keys in memory and the others aside.
func TestPagedSumsAreThoseInMemory(t *testing.T) {
	ws := sumWindows(120, 4)
	_, whole := newNaiveSums(t, ws, 10)
	_, paged := newNaiveSums(t, ws, 10)
	aside := map[string][]byte{}
	h := &history{rng: rand.New(rand.NewPCG(1, 7)), keys: 40, late: 0.2, step: 6, values: cents}
	evicted, loaded := 0, 0
	for round := range 60 {
		b := h.next(whole.Fields(), 1+h.rng.IntN(20))
		want, got := outFor(len(ws)), outFor(len(ws))
		whole.Update(b.asBatch(), want, nil)
		for _, row := range paged.Missing(b.keys, nil) {
			key := b.keys[row]
			state, ok := aside[key]
			if !ok {
				continue
			}
			if err := paged.Load(state); err != nil {
				t.Fatal(err)
			}
			delete(aside, key)
			loaded++
		}
		paged.Update(b.asBatch(), got, nil)
		for j := range ws {
			for i := range b.keys {
				if x, y := cell(want[j], i), cell(got[j], i); x != y {
					t.Fatalf("round %d %s: %v in memory, %v paged", round, ws[j].Name, x, y)
				}
			}
		}
		budget := paged.Bytes() / 2
		err := paged.Evict(budget, func(key string, state []byte) error {
			if again, ok := paged.AppendKey(nil, key); !ok || !bytes.Equal(again, state) {
				t.Fatalf("%s: AppendKey and Evict differ", key)
			}
			aside[key] = bytes.Clone(state)
			evicted++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range b.keys {
			if _, ok := aside[key]; ok {
				t.Fatalf("round %d: %s is of the batch under way and was evicted", round, key)
			}
		}
	}
	if evicted < 100 || loaded < 50 {
		t.Errorf("%d evicted, %d loaded", evicted, loaded)
	}
	refused := errors.New("full")
	paged.Missing(nil, nil)
	keys := paged.Keys()
	if err := paged.Evict(0, func(string, []byte) error { return refused }); !errors.Is(err, refused) || paged.Keys() != keys {
		t.Errorf("a refused key: %v, %d keys of %d", err, paged.Keys(), keys)
	}
}

func TestEvictGivesASecondChance(t *testing.T) {
	_, s := newNaiveSums(t, []Window{{Name: "n", Aggregate: Count, Shape: Tumbling, Over: 100}}, 0)
	use := func(keys ...string) {
		s.Missing(keys, nil)
		s.Update(&Batch{N: len(keys), Keys: keys, Times: make([]int64, len(keys))}, outFor(1), nil)
	}
	var gone []string
	evict := func() {
		if err := s.Evict(s.Bytes()-1, func(key string, _ []byte) error {
			gone = append(gone, key)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	use("a", "b", "c", "d")
	use("x")
	evict() // all were used: the hand goes round once and takes a
	use("b")
	use("x")
	evict() // b was used since
	if got := fmt.Sprint(gone); got != "[a c]" {
		t.Errorf("evicted %v, want [a c]", got)
	}
}
