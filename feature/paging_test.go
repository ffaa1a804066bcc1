package feature

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// pager keeps evicted state in a map.
type pager struct {
	*Windows
	store   map[string][]byte
	evicted int
}

func (p *pager) load(t *testing.T, keys []string) {
	t.Helper()
	for _, key := range keys {
		if state, ok := p.store[key]; ok {
			if err := p.Load(state); err != nil {
				t.Fatal(err)
			}
			delete(p.store, key)
		}
	}
}

func (p *pager) evict(t *testing.T, budget int64) {
	t.Helper()
	err := p.Evict(budget, func(key string, state []byte) error {
		p.evicted++
		p.store[key] = bytes.Clone(state)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPagedStateGivesTheSameBits pages one of two windows through a tiny memory, and a replay of its deltas too.
func TestPagedStateGivesTheSameBits(t *testing.T) {
	for seed := range seeds(3) {
		for _, c := range replayedWindows(100) {
			_, whole := newNaive(t, c)
			paged, replay := &pager{store: map[string][]byte{}}, &pager{store: map[string][]byte{}}
			_, paged.Windows = newNaive(t, c)
			_, replay.Windows = newNaive(t, c)
			h := &history{rng: rand.New(rand.NewPCG(seed, 7)), keys: 40, late: 0.2, far: 0.1, step: 6, values: nasty}
			for range 60 {
				b := h.nextLabelled(whole, 8)
				var missing []string
				for _, i := range paged.Missing(b.keys, nil) {
					missing = append(missing, b.keys[i])
				}
				paged.load(t, paged.LabelKeys(&b.Labels, missing))
				out1, out2 := newOut(whole), newOut(paged.Windows)
				d1 := whole.Update(b.input(), out1, nil)
				d2 := paged.Update(b.input(), out2, nil)
				if !bytes.Equal(d1, d2) {
					t.Fatalf("seed %d join %d: deltas differ", seed, c.Labels)
				}
				for j := range out1 {
					for i := range b.keys {
						if x, y := cell(out1[j], i), cell(out2[j], i); x != y {
							t.Fatalf("seed %d window %s: %v and %v", seed, c.Windows[j].Name, x, y)
						}
					}
				}
				keys, err := replay.DeltaKeys(d1, nil)
				if err != nil {
					t.Fatal(err)
				}
				if replay.load(t, keys); replay.ApplyDelta(d1) != nil {
					t.Fatal("the delta does not apply")
				}
				paged.evict(t, 20_000)
				replay.evict(t, 20_000)
			}
			want := fullState(whole)
			for _, p := range []*pager{paged, replay} {
				if p.evicted == 0 || len(p.store) == 0 {
					t.Fatalf("nothing was evicted: %d bytes", p.Bytes())
				}
				for key := range p.store {
					p.load(t, []string{key})
				}
				got := fullState(p.Windows)
				for key := range want {
					if got[key] != want[key] {
						t.Fatalf("seed %d join %d: state of %s differs", seed, c.Labels, key)
					}
				}
			}
		}
	}
}

func TestEvictionKeepsTheKeysOfTheLastBatchAndThoseThatCannotBeStored(t *testing.T) {
	c := replayedWindows(0)[1]
	_, w := newNaive(t, c)
	h := &history{rng: rand.New(rand.NewPCG(1, 8)), keys: 20, step: 6, values: cents}
	p := &pager{Windows: w, store: map[string][]byte{}}
	p.evict(t, 1<<40) // paging begins
	w.Update(h.nextLabelled(w, 60).input(), newOut(w), nil)
	before, size := w.Keys(), w.Bytes()
	if p.evict(t, 0); p.evicted != 0 {
		t.Fatalf("%d keys of the last batch were evicted", p.evicted)
	}
	h.keys = 1
	w.Update(h.nextLabelled(w, 1).input(), newOut(w), nil)
	full := errors.New("disk full")
	if err := w.Evict(0, func(string, []byte) error { return full }); !errors.Is(err, full) || w.Keys() != before {
		t.Fatalf("got %v with %d of %d keys left", err, w.Keys(), before)
	}
	if p.evict(t, 0); w.Keys() != 1 || w.Bytes() > size/2 {
		t.Fatalf("%d keys left, %d of %d bytes", w.Keys(), w.Bytes(), size)
	}
	for _, state := range p.store {
		for n := range state {
			if w.Load(state[:n]) == nil {
				t.Fatalf("a state cut at %d of %d was taken", n, len(state))
			}
		}
		break
	}
	// After a restart the ids are known again from the states.
	_, again := newNaive(t, c)
	for _, state := range p.store {
		if err := again.Enlist(state); err != nil {
			t.Fatal(err)
		}
	}
	labels := &Labels{IDs: h.ids[:40]}
	if got, want := len(again.LabelKeys(labels, nil)), len(w.LabelKeys(labels, nil)); got != want || got == 0 {
		t.Fatalf("%d keys after the restart, %d before", got, want)
	}
	for _, state := range p.store {
		if err := again.Discard(state); err != nil {
			t.Fatal(err)
		}
	}
	if got := again.LabelKeys(labels, nil); len(got) != 0 || again.pages.ids.n != 0 {
		t.Fatalf("%v are still known", got)
	}
}
