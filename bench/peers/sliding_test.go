package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

// plainAnswers counts every window anew for the events that are compared.
func plainAnswers(w *slidingWork) (answers []slidingAnswer) {
	byKey := map[uint32][]int{}
	for i, k := range w.keys {
		byKey[k] = append(byKey[k], i)
		if i%slidingEach != 0 {
			continue
		}
		a := slidingAnswer{Event: i}
		for n, over := range slidingSpans {
			cents := 0
			for _, j := range byKey[k] {
				if w.at(i)-w.at(j) < int64(over) {
					a.Counts[n]++
					cents += int(w.cents[j])
				}
			}
			a.Means[n] = float64(cents) / 100 / float64(a.Counts[n])
		}
		answers = append(answers, a)
	}
	return answers
}

// The comparison of exact windows is one of programs that all give the plain result.
func TestSlidingEnginesGiveTheSameResults(t *testing.T) {
	const keys, events = 300, 40_000
	w := newSlidingWork(keys, events)
	want := plainAnswers(w)
	wrong := append([]slidingAnswer(nil), want...)
	wrong[len(wrong)-1].Counts[2]++
	for _, e := range slidingEngines() {
		t.Run(e.name, func(t *testing.T) {
			if e.missing != "" {
				t.Skip("NOT RUN: " + e.missing)
			}
			dir := t.TempDir()
			var got slidingResult
			var err error
			if e.run != nil {
				got, err = e.run(t.Context(), w, dir, time.Minute)
			} else {
				got, err = runSliding(t.Context(), &e, dir, keys, events, time.Minute)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := agreeOn(want, got.Answers); err != nil {
				t.Error(err)
			}
			if err := agreeOn(wrong, got.Answers); err == nil {
				t.Error("a wrong answer is not seen")
			}
			if n := events - w.filled(); got.Events != n && got.Events != events || len(got.Answers) < n/slidingEach-1 {
				t.Errorf("%d events, %d answers", got.Events, len(got.Answers))
			}
		})
	}
}

func TestRestoredStateGoesOn(t *testing.T) {
	c := &comparison{options: options{stateBytes: 20_000_000}, dir: t.TempDir()}
	files, bytes, keys, err := c.stateFiles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		total += st.Size()
	}
	if len(files) != partitions || total != bytes || bytes < c.stateBytes {
		t.Errorf("%d files of %d bytes, said to be %d", len(files), total, bytes)
	}
	s, err := restorePartition(t.Context(), files[1])
	if err != nil {
		t.Fatal(err)
	}
	w := s.(feature.Aggregator)
	if w.Keys()*partitions != keys {
		t.Errorf("%d keys of %d", w.Keys()*partitions, keys)
	}
	// The rows of a key are 12 hours apart: with a row 12 hours after the last, 60 are younger than 30 days.
	b := feature.Batch{N: 1, Keys: []string{"customer-00000007"}, Times: []int64{slidingStart + int64(restoreRows*12*time.Hour) + int64(34*time.Second)},
		Fields: []*event.Column{{Kind: event.Float, Floats: []float64{1}}}}
	out := make([]*event.Column, 6)
	for i := range out {
		out[i] = &event.Column{}
	}
	w.Update(&b, out, nil)
	if n := out[4].Ints[0]; n != restoreRows && n != restoreRows+1 {
		t.Errorf("%d rows in 30 days after the restore", n)
	}
	if m := out[5].Floats[0]; math.IsNaN(m) || m < 50 || m > 150 {
		t.Errorf("their mean is %v", m)
	}
	if _, err := readState(t.Context(), files, keys, "", readPartition); err != nil {
		t.Error(err)
	}
	data, err := os.ReadFile(files[2])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2]++
	damaged := filepath.Join(t.TempDir(), "damaged")
	if err := os.WriteFile(damaged, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := restorePartition(t.Context(), damaged); err == nil {
		t.Error("a damaged file is restored")
	}
}

func TestVariantsOfThePipelineScoreEverything(t *testing.T) {
	const events = 20_000
	s, err := newScenario(t.TempDir(), "../..", events)
	if err != nil {
		t.Fatal(err)
	}
	c := &comparison{options: options{events: events}, s: s}
	for _, side := range []side{
		c.variant("one key", "", events, unchanged, unchecked),
		c.variant("one shuffle", "", events, shuffled, unchecked),
		c.variant("with checkpoints", "", events, checkpointed, unchecked),
	} {
		t.Run(side.Name, func(t *testing.T) {
			got, err := inFreshDir(t.Context(), t.TempDir(), side.run)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.0f events/s", got.rate())
		})
	}
}
