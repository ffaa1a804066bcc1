package feature

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/freshet-io/freshet/errkind"
)

// fullSeries is every key's state in the snapshot's form, by key.
func fullSeries(r *Resampler) map[string]string {
	state := map[string]string{}
	for k := range uint32(r.index.size()) {
		key := strings.Clone(r.index.key(k))
		if r.marks[k] != 0 {
			state[key] = string(r.appendKey(nil, uint32(k)))
		}
	}
	return state
}

func replayed(t *testing.T, c ResampleConfig, log []logged) *Resampler {
	t.Helper()
	r := newTestResampler(t, c)
	for _, l := range log {
		apply := r.ApplyDelta
		if l.snapshot {
			apply = r.ApplySnapshot
		}
		if err := apply(l.bytes); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func TestReplayOfASeriesFromAnyCompleteCycleGivesTheSameState(t *testing.T) {
	points, dropped := 0, 0
	for seed := range seeds(12) {
		c := everyFill(7, 50, 20)
		r := newTestResampler(t, c)
		h := &history{rng: rand.New(rand.NewPCG(seed, 2)), keys: 30, late: float64(seed%3) / 10, far: 0.1, step: 6, values: nasty}
		out := &Series{}
		var log []logged
		begin, complete := 0, -1
		r.BeginSnapshot()
		for round := range 60 {
			if h.rng.IntN(10) == 0 {
				h.now += 2000 // a silence, after which old keys are dropped
			}
			b := h.next(r.Fields(), 1+h.rng.IntN(12))
			in := &Batch{N: len(b.keys), Keys: b.keys, Times: b.times, Fields: b.fields}
			for from := 0; from < in.N; {
				var delta []byte
				if from, delta = r.Resample(in, from, 5, out, nil); len(delta) > 0 {
					log = append(log, logged{false, delta})
				}
			}
			keys := r.Keys()
			chunk, done := r.AppendSnapshot(nil, 100+h.rng.IntN(1000))
			dropped += keys - r.Keys()
			log = append(log, logged{true, chunk})
			if done {
				complete, begin = begin, len(log)
				r.BeginSnapshot()
			}
			if complete < 0 {
				continue
			}
			// A crash here: replay, then go on beside a replay of everything.
			points++
			again := replayed(t, c, log[complete:])
			if diff := cmp.Diff(fullSeries(r), fullSeries(again)); diff != "" || r.watermark != again.watermark {
				t.Fatalf("seed %d round %d (log of %d from %d): state differs: %s", seed, round, len(log), complete, diff)
			}
			if round%9 == 0 {
				goOnAlikeSeries(t, h, replayed(t, c, log), again)
			}
		}
	}
	if t.Logf("%d crash points replayed, %d keys dropped", points, dropped); dropped == 0 {
		t.Error("no key was dropped")
	}
}

// goOnAlikeSeries feeds the same readings to both and wants the same rows and bytes.
func goOnAlikeSeries(t *testing.T, h *history, a, b *Resampler) {
	t.Helper()
	fork := *h
	fork.rng = rand.New(rand.NewPCG(uint64(h.now), 3))
	for range 5 {
		rows := fork.next(a.Fields(), 40)
		in := &Batch{N: 40, Keys: rows.keys, Times: rows.times, Fields: rows.fields}
		out1, out2 := &Series{}, &Series{}
		_, d1 := a.Resample(in, 0, 1<<20, out1, nil)
		_, d2 := b.Resample(in, 0, 1<<20, out2, nil)
		if diff := cmp.Diff(out1, out2, cmpopts.IgnoreUnexported(Series{}), cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
			t.Fatalf("rows differ: %s", diff)
		}
		if !bytes.Equal(d1, d2) {
			t.Fatal("changes differ")
		}
	}
}

func seriesBytes(t testing.TB) (delta, snapshot []byte) {
	r := newTestResampler(t, everyFill(7, 70, 0))
	h := &history{rng: rand.New(rand.NewPCG(1, 4)), keys: 4, late: 0.2, step: 6, values: cents}
	b := h.next(r.Fields(), 30)
	_, delta = r.Resample(&Batch{N: 30, Keys: b.keys, Times: b.times, Fields: b.fields}, 0, 1<<20, &Series{}, nil)
	r.BeginSnapshot()
	snapshot, _ = r.AppendSnapshot(nil, 1<<20)
	return delta, snapshot
}

func TestDamagedSeriesBytesAreCorruptAndChangeNothing(t *testing.T) {
	delta, snapshot := seriesBytes(t)
	r := newTestResampler(t, everyFill(7, 70, 0))
	if err := r.ApplyDelta(delta); err != nil {
		t.Fatal(err)
	}
	before := fullSeries(r)
	for name, good := range map[string][]byte{"delta": delta, "snapshot": snapshot} {
		apply := r.ApplyDelta
		if name == "snapshot" {
			apply = r.ApplySnapshot
		}
		for n := range good {
			// A record may end after any key; nothing else may.
			if err := apply(good[:n]); err != nil && !errkind.Is(err, errkind.Corrupt) {
				t.Fatalf("%s cut at %d: kind %v: %v", name, n, errkind.Of(err), err)
			}
			if diff := cmp.Diff(before, fullSeries(r)); diff != "" {
				t.Fatalf("%s cut at %d changed the state: %s", name, n, diff)
			}
		}
	}
	for what, b := range map[string][]byte{
		"a delta as a snapshot":    append([]byte{formatVersion, seriesSnapshot, 0}, delta...),
		"a field too many":         {formatVersion, seriesDelta, keyState, 1, 'k', 0, 0x80, 2},
		"infinite":                 {formatVersion, seriesDelta, keyState, 1, 'k', 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f},
		"a drop in a delta":        {formatVersion, seriesDelta, keyEvicted, 1, 'k'},
		"half true":                {formatVersion, seriesDelta, keyState, 1, 'k', 0, 16, 0, 4},
		"older than all time":      append([]byte{formatVersion, seriesDelta, keyState, 1, 'k', 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, make([]byte, 8)...),
		"another version":          {formatVersion + 1, seriesDelta},
		"nothing, not even a head": nil,
	} {
		apply := r.ApplyDelta
		if what == "a delta as a snapshot" {
			apply = r.ApplySnapshot
		}
		if err := apply(b); !errkind.Is(err, errkind.Corrupt) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if diff := cmp.Diff(before, fullSeries(r)); diff != "" {
		t.Errorf("state changed: %s", diff)
	}
}

func FuzzApplySeries(f *testing.F) {
	delta, snapshot := seriesBytes(f)
	f.Add(delta)
	f.Add(snapshot)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := everyFill(7, 70, 0)
		r := replayed(t, c, []logged{{false, delta}})
		if errD, errS := r.ApplyDelta(b), r.ApplySnapshot(b); errD != nil && errS != nil {
			if !errkind.Is(errD, errkind.Corrupt) || !errkind.Is(errS, errkind.Corrupt) {
				t.Fatalf("%v, %v", errD, errS)
			}
			return
		}
		// What was taken must be workable.
		h := &history{rng: rand.New(rand.NewPCG(1, 5)), keys: 4, late: 0.2, step: 6, values: cents}
		rows := h.next(r.Fields(), 20)
		r.Resample(&Batch{N: 20, Keys: rows.keys, Times: rows.times, Fields: rows.fields}, 0, 1<<20, &Series{}, nil)
		r.BeginSnapshot()
		all, _ := r.AppendSnapshot(nil, 1<<20)
		again := replayed(t, c, []logged{{true, all}})
		if diff := cmp.Diff(fullSeries(r), fullSeries(again)); diff != "" {
			t.Fatal(diff)
		}
	})
}
