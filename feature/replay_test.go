package feature

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// fullState is every key's state in the snapshot's form, by key.
func fullState(w *Windows) map[string]string {
	state := map[string]string{}
	for k := range uint32(w.index.size()) {
		key := strings.Clone(w.index.key(k))
		if r := w.ring(k); r.start != r.tail {
			state[key] = string(w.appendKey(nil, k))
		}
	}
	return state
}

type logged struct {
	snapshot bool
	bytes    []byte
}

// replayedWindows is definitions whose states are replayed.
func replayedWindows(retain time.Duration) []Config {
	short := []extent{{20, 0}, {300, 0}, {50, 30}}
	return []Config{
		{Windows: allWindows(NoLabels, short...), Retain: retain},
		{Windows: allWindows(ByEvent, short...), Retain: retain, Labels: ByEvent},
		{Windows: allWindows(ByKey, short...), Retain: retain, Labels: ByKey},
	}
}

func TestReplayFromAnyCompleteCycleGivesTheSameState(t *testing.T) {
	points := 0
	for seed := range seeds(12) {
		for _, c := range replayedWindows(time.Duration(seed * 20)) {
			_, w := newNaive(t, c)
			h := &history{rng: rand.New(rand.NewPCG(seed, 2)), keys: 30, late: float64(seed%3) / 10, far: 0.1, step: 6, values: nasty}
			if seed%2 == 0 {
				h.values = cents
			}
			var log []logged
			complete, begin := -1, 0
			w.BeginSnapshot()
			for round := range 60 {
				if h.rng.IntN(10) == 0 {
					h.now += 2000 // a silence, after which old keys are dropped
				}
				b := h.nextLabelled(w, 1+h.rng.IntN(12))
				log = append(log, logged{false, w.Update(b.input(), newOut(w), nil)})
				chunk, done := w.AppendSnapshot(nil, 300+h.rng.IntN(6000))
				log = append(log, logged{true, chunk})
				if done {
					complete, begin = begin, len(log)
					w.BeginSnapshot()
				}
				if complete < 0 || round%3 != 0 {
					continue
				}
				// A crash here: replay, then go on beside the original.
				points++
				_, r := newNaive(t, c)
				for _, l := range log[complete:] {
					apply := r.ApplyDelta
					if l.snapshot {
						apply = r.ApplySnapshot
					}
					if err := apply(l.bytes); err != nil {
						t.Fatal(err)
					}
				}
				what := fmt.Sprintf("seed %d join %d round %d", seed, c.Labels, round)
				if diff := cmp.Diff(fullState(w), fullState(r)); diff != "" {
					t.Fatalf("%s: state differs", what)
				}
				if round%6 == 0 {
					goOnAlike(t, what, h, c, w, r)
				}
			}
		}
	}
	t.Logf("%d crash points replayed", points)
}

// copyOf restores a state from a snapshot of the whole.
func copyOf(t *testing.T, c Config, w *Windows) *Windows {
	t.Helper()
	_, r := newNaive(t, c)
	all := binary.AppendUvarint([]byte{formatVersion, snapshotRecord}, zigzag(w.watermark))
	for _, state := range fullState(w) {
		all = append(all, state...)
	}
	if err := r.ApplySnapshot(all); err != nil {
		t.Fatal(err)
	}
	return r
}

// goOnAlike feeds the same rows to two states, the second a replay of a copy of
// the first, and wants the same bytes and bits from both.
func goOnAlike(t *testing.T, what string, h *history, c Config, w, r *Windows) {
	t.Helper()
	// The original goes on for real, so run it on a copy.
	w = copyOf(t, c, w)
	fork := *h
	fork.rng = rand.New(rand.NewPCG(uint64(h.now), 3))
	fork.ids = slices.Clone(h.ids)
	for range 5 {
		b := fork.nextLabelled(w, 40)
		out1, out2 := newOut(w), newOut(r)
		d1 := w.Update(b.input(), out1, nil)
		d2 := r.Update(b.input(), out2, nil)
		if !bytes.Equal(d1, d2) {
			t.Fatalf("%s: deltas differ", what)
		}
		for j := range out1 {
			for i := range len(b.keys) {
				if x, y := cell(out1[j], i), cell(out2[j], i); x != y {
					t.Fatalf("%s: row %d window %s: %v and %v", what, i, c.Windows[j].Name, x, y)
				}
			}
		}
	}
}

func TestDamagedBytesAreCorruptAndADamagedDeltaChangesNothing(t *testing.T) {
	for _, c := range replayedWindows(0) {
		delta, snapshot := seedBytes(t, c)
		for name, good := range map[string][]byte{"delta": delta, "snapshot": snapshot} {
			_, w := newNaive(t, c)
			apply := w.ApplyDelta
			if name == "snapshot" {
				apply = w.ApplySnapshot
			}
			for n := range good {
				if err := apply(good[:n]); err == nil {
					// A snapshot may end after any key; nothing else may.
					if name == "delta" {
						t.Fatalf("%s cut at %d of %d was taken", name, n, len(good))
					}
				} else if !errkind.Is(err, errkind.Corrupt) {
					t.Fatalf("%s cut at %d: kind %v: %v", name, n, errkind.Of(err), err)
				} else if name == "delta" && w.Keys() != 0 {
					t.Fatalf("%s cut at %d changed the state", name, n)
				}
			}
		}
	}
}

func seedBytes(t testing.TB, c Config) (delta, snapshot []byte) {
	_, w := newNaive(t, c)
	h := &history{rng: rand.New(rand.NewPCG(1, 4)), keys: 4, late: 0.2, step: 6, values: cents}
	delta = w.Update(h.nextLabelled(w, 30).input(), newOut(w), nil)
	w.BeginSnapshot()
	snapshot, _ = w.AppendSnapshot(nil, 1<<20)
	return delta, snapshot
}

func fuzzState(f *testing.F, apply func(*Windows, []byte) error) {
	configs := replayedWindows(0)
	var deltas [3][]byte
	for i, c := range configs {
		delta, snapshot := seedBytes(f, c)
		deltas[i] = delta
		f.Add(i, delta)
		f.Add(i, snapshot)
	}
	f.Fuzz(func(t *testing.T, which int, b []byte) {
		which = int(uint(which) % 3)
		c := configs[which]
		_, w := newNaive(t, c)
		if err := w.ApplyDelta(deltas[which]); err != nil {
			t.Fatal(err)
		}
		if err := apply(w, b); err != nil {
			if !errkind.Is(err, errkind.Corrupt) {
				t.Fatalf("kind %v: %v", errkind.Of(err), err)
			}
			return
		}
		// What was taken must be workable.
		h := &history{rng: rand.New(rand.NewPCG(1, 5)), keys: 4, late: 0.2, step: 6, values: cents}
		w.Update(h.nextLabelled(w, 20).input(), newOut(w), nil)
		w.BeginSnapshot()
		all, _ := w.AppendSnapshot(nil, 1<<20)
		_, again := newNaive(t, c)
		if err := again.ApplySnapshot(all); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzApplyDelta(f *testing.F) { fuzzState(f, (*Windows).ApplyDelta) }

func FuzzApplySnapshot(f *testing.F) { fuzzState(f, (*Windows).ApplySnapshot) }

func TestDeltasAreCompact(t *testing.T) {
	w, err := NewWindows(Config{Windows: []Window{{Name: "m", Aggregate: Mean, Field: "amount", Over: 24 * time.Hour}}})
	if err != nil {
		t.Fatal(err)
	}
	b := newBatch(w.Fields(), 100)
	for i := range 100 {
		b.set(i, fmt.Sprint(1000+i), int64(1522540800+i*3)*1e9, []any{float64(i) * 1.37 * 100 / 100})
		b.fields[0].Floats[i] = float64(i*137) / 100
	}
	delta := w.Update(&Batch{N: 100, Keys: b.keys, Times: b.times, Fields: b.fields}, []*event.Column{{}}, nil)
	if perRow := float64(len(delta)) / 100; perRow > 10.5 {
		t.Fatalf("%.1f bytes a row: want at most 10.5 (1 reference, 5 key, 1 time, 3 amount)", perRow)
	}
}
