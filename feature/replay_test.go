package feature

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// fullState is every key's state in the snapshot's form, by key.
func fullState(w *Windows) map[string]string {
	state := map[string]string{}
	for k, key := range w.index.keys {
		if r := w.rings[k]; r.start != r.tail {
			state[key] = string(w.appendKey(nil, uint32(k)))
		}
	}
	return state
}

type logged struct {
	snapshot bool
	bytes    []byte
}

func TestReplayFromAnyCompleteCycleGivesTheSameState(t *testing.T) {
	points := 0
	for seed := range seeds(12) {
		ws := allWindows(20, 300)
		retain := time.Duration(seed * 20)
		_, w := newNaive(t, ws, retain)
		h := &history{rng: rand.New(rand.NewPCG(seed, 2)), keys: 30, late: float64(seed%3) / 10, far: 0.1, step: 6, values: nasty}
		if seed%2 == 0 {
			h.values = cents
		}
		var log []logged
		begin, complete := 0, -1
		w.BeginSnapshot()
		for round := range 60 {
			if h.rng.IntN(10) == 0 {
				h.now += 2000 // a silence, after which old keys are dropped
			}
			b := h.next(w.Fields(), 1+h.rng.IntN(12))
			before := len(log)
			delta := w.Update(&Batch{N: len(b.keys), Keys: b.keys, Times: b.times, Fields: b.fields}, newOut(w), nil)
			log = append(log, logged{false, delta})
			chunk, done := w.AppendSnapshot(nil, 300+h.rng.IntN(3000))
			log = append(log, logged{true, chunk})
			if done {
				complete, begin = begin, len(log)
				w.BeginSnapshot()
			}
			if complete < 0 {
				continue
			}
			// A crash here: replay, then go on beside the original.
			points++
			_, r := newNaive(t, ws, retain)
			for _, l := range log[complete:] {
				apply := r.ApplyDelta
				if l.snapshot {
					apply = r.ApplySnapshot
				}
				if err := apply(l.bytes); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(fullState(w), fullState(r)); diff != "" {
				t.Fatalf("seed %d round %d (log of %d from %d): state differs", seed, round, before, complete)
			}
			if round%7 == 0 {
				goOnAlike(t, fmt.Sprintf("seed %d round %d", seed, round), h, w, r)
			}
		}
	}
	t.Logf("%d crash points replayed", points)
}

// goOnAlike feeds the same rows to two states, the second a replay of a copy of
// the first, and wants the same bytes and bits from both.
func goOnAlike(t *testing.T, what string, h *history, w, r *Windows) {
	t.Helper()
	// The original goes on for real, so run it on a copy.
	_, c := newNaive(t, allWindows(20, 300), time.Duration(w.horizon-300))
	all := binary.AppendUvarint([]byte{formatVersion, snapshotRecord}, zigzag(w.watermark))
	for _, state := range fullState(w) {
		all = append(all, state...)
	}
	if err := c.ApplySnapshot(all); err != nil {
		t.Fatal(err)
	}
	fork := *h
	fork.rng = rand.New(rand.NewPCG(uint64(h.now), 3))
	for range 5 {
		b := fork.next(c.Fields(), 40)
		out1, out2 := newOut(c), newOut(r)
		d1 := c.Update(&Batch{N: len(b.keys), Keys: b.keys, Times: b.times, Fields: b.fields}, out1, nil)
		d2 := r.Update(&Batch{N: len(b.keys), Keys: b.keys, Times: b.times, Fields: b.fields}, out2, nil)
		if !bytes.Equal(d1, d2) {
			t.Fatalf("%s: deltas differ", what)
		}
		for j := range out1 {
			for i := range b.keys {
				if a, b := cell(out1[j], i), cell(out2[j], i); a != b {
					t.Fatalf("%s: row %d window %d: %v and %v", what, i, j, a, b)
				}
			}
		}
	}
}

func TestDamagedBytesAreCorruptAndChangeNothing(t *testing.T) {
	delta, snapshot := seedBytes(t)
	for name, good := range map[string][]byte{"delta": delta, "snapshot": snapshot} {
		_, w := newNaive(t, allWindows(20, 300), 0)
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

func seedBytes(t testing.TB) (delta, snapshot []byte) {
	w, err := NewWindows(Config{Windows: allWindows(20, 300)})
	if err != nil {
		t.Fatal(err)
	}
	h := &history{rng: rand.New(rand.NewPCG(1, 4)), keys: 4, late: 0.2, step: 6, values: cents}
	b := h.next(w.Fields(), 30)
	delta = w.Update(&Batch{N: 30, Keys: b.keys, Times: b.times, Fields: b.fields}, newOut(w), nil)
	w.BeginSnapshot()
	snapshot, _ = w.AppendSnapshot(nil, 1<<20)
	return delta, snapshot
}

func fuzzState(f *testing.F, apply func(*Windows, []byte) error) {
	delta, snapshot := seedBytes(f)
	f.Add(delta)
	f.Add(snapshot)
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := NewWindows(Config{Windows: allWindows(20, 300)})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.ApplyDelta(delta); err != nil {
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
		rows := h.next(w.Fields(), 20)
		w.Update(&Batch{N: 20, Keys: rows.keys, Times: rows.times, Fields: rows.fields}, newOut(w), nil)
		w.BeginSnapshot()
		all, _ := w.AppendSnapshot(nil, 1<<20)
		again, err := NewWindows(Config{Windows: allWindows(20, 300)})
		if err != nil {
			t.Fatal(err)
		}
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
