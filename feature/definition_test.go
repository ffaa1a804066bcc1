package feature

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
)

func TestADefinitionSaysWhatOfItsStateCanBeKept(t *testing.T) {
	const day = 24 * time.Hour
	sum := Window{Name: "s", Aggregate: Sum, Field: "amount", Over: 7 * day}
	fraud := Window{Name: "f", Aggregate: Mean, Field: "fraud", Over: 7 * day, Delay: day, Label: true}
	with := func(j Join, unlabelled float64, ws ...Window) Config {
		c := Config{Windows: ws, Labels: j}
		if j == ByEvent {
			c.Unlabelled = []float64{unlabelled}
		}
		return c
	}
	change := func(w Window, f func(*Window)) Window { f(&w); return w }
	none := math.NaN()
	cases := []struct {
		name     string
		old, new Config
		keep     Keep
		why      string
	}{
		{"a name", with(0, 0, sum), with(0, 0, change(sum, func(w *Window) { w.Name = "x" })), Same, ""},
		{"another aggregate", with(0, 0, sum), with(0, 0, change(sum, func(w *Window) { w.Aggregate = StdDev })), Convertible, "the windows changed, and the rows kept before suffice for them"},
		{"a shorter window", with(0, 0, sum), with(0, 0, change(sum, func(w *Window) { w.Over = day })), Convertible, "the windows changed, and the rows kept before suffice for them"},
		{"a longer window", with(0, 0, sum), with(0, 0, change(sum, func(w *Window) { w.Over = 30 * day })), Different, "the longest window grew from 168h to 720h"},
		{"more lateness", with(0, 0, sum), Config{Windows: []Window{sum}, Retain: day}, Different, "the lateness allowed grew from 0s to 24h"},
		{"a new field", with(0, 0, sum), with(0, 0, change(sum, func(w *Window) { w.Field = "tip" })), Different, "field tip was not kept before"},
		{"another kind", with(0, 0, sum), with(0, 0, change(sum, func(w *Window) { w.Aggregate, w.Kind = Last, event.String })), Different, "field amount was not kept as a string before"},
		{"labels", with(0, 0, sum), with(ByEvent, none, fraud), Different, "the windows were computed without labels, now they are with labels joined by event"},
		{"a value without a label", with(ByEvent, none, fraud), with(ByEvent, 0, fraud), Convertible, "the windows changed, and the rows kept before suffice for them"},
		{"no value without a label any more", with(ByEvent, 0, fraud), with(ByEvent, none, fraud), Different, "field fraud counted otherwise before a label was known"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, old := newNaive(t, c.old)
			_, w := newNaive(t, c.new)
			if keep, why := w.Compatible(old.Definition()); keep != c.keep || why != c.why {
				t.Errorf("got %d, %q", keep, why)
			}
			if err := w.Adopt(old); (err == nil) != (c.keep != Different) {
				t.Errorf("adopt: %v", err)
			}
			again, err := NewFromDefinition(old.Definition())
			if err != nil || again.Fingerprint() != old.Fingerprint() {
				t.Errorf("the definition does not give the same windows: %v", err)
			}
		})
	}
	_, w := newNaive(t, with(0, 0, sum))
	for _, b := range []string{"", "{}", `{"format":1}`, `{"format":3,"windows":[{"aggregate":"x"}]}`} {
		if keep, why := w.Compatible([]byte(b)); keep != Different || why == "" {
			t.Errorf("%q: got %d, %q", b, keep, why)
		}
	}
}

// TestAdoptedStateGoesOnAsIfItHadAlwaysBeen compares with windows that had the
// new definition from the start.
func TestAdoptedStateGoesOnAsIfItHadAlwaysBeen(t *testing.T) {
	for _, join := range []Join{NoLabels, ByEvent, ByKey} {
		for seed := range seeds(4) {
			before := everything(join, 100, false)
			after := everything(join, 0, join == ByEvent)
			after.Windows = allWindows(join, extent{50, 0}, extent{900, 0}, extent{60, 30}, extent{100, 600})
			if after.Unlabelled != nil {
				after.Unlabelled = nil
				for _, x := range after.Windows {
					switch {
					case !x.Label:
					case x.Kind == event.String:
						after.Unlabelled = append(after.Unlabelled, math.NaN())
					default:
						after.Unlabelled = append(after.Unlabelled, 1)
					}
				}
			}
			_, old := newNaive(t, before)
			_, always := newNaive(t, after)
			h := &history{rng: rand.New(rand.NewPCG(seed, 6)), keys: 6, step: 6, values: cents}
			for range 60 {
				b := h.nextLabelled(old, 20)
				old.Update(b.input(), newOut(old), nil)
				always.Update(b.input(), newOut(always), nil)
			}
			_, adopted := newNaive(t, after)
			if err := adopted.Adopt(old); err != nil {
				t.Fatal(err)
			}
			for range 40 {
				b := h.nextLabelled(always, 20)
				out1, out2 := newOut(always), newOut(adopted)
				always.Update(b.input(), out1, nil)
				adopted.Update(b.input(), out2, nil)
				for j := range out1 {
					for i := range b.keys {
						if want, got := cell(out1[j], i), cell(out2[j], i); !same(got, want) {
							t.Fatalf("join %d seed %d window %s: got %v, want %v", join, seed, after.Windows[j].Name, got, want)
						}
					}
				}
			}
		}
	}
}
