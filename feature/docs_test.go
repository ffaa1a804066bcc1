package feature

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
)

// TestDocumentedExamplesHold runs every example block of the documentation.
func TestDocumentedExamplesHold(t *testing.T) {
	text, err := os.ReadFile("../docs/features.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Aggregate]bool{}
	blocks := strings.Split(string(text), "```example\n")[1:]
	for _, b := range blocks {
		body, _, ok := strings.Cut(b, "```")
		if !ok {
			t.Fatalf("block without end: %q", b)
		}
		lines := strings.Split(strings.TrimSpace(body), "\n")
		t.Run(lines[0], func(t *testing.T) { seen[runExample(t, lines)] = true })
	}
	for i, name := range Aggregates() {
		if !seen[Aggregate(i)] {
			t.Errorf("no example of %s", name)
		}
	}
}

func runExample(t *testing.T, lines []string) Aggregate {
	t.Helper()
	words := strings.Fields(lines[0])
	agg, err := ParseAggregate(words[0])
	if err != nil {
		t.Fatal(err)
	}
	duration := func(after string) (d time.Duration) {
		if i := slices.Index(words, after); i >= 0 {
			if d, err = time.ParseDuration(words[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	after := func(word string) string {
		if i := slices.Index(words, word); i >= 0 {
			return words[i+1]
		}
		return ""
	}
	win := Window{Name: "example", Aggregate: agg, Over: duration("over"), Delay: duration("delay"), Sketch: slices.Contains(words, "sketch")}
	switch after("shape") {
	case "panes":
		win.Shape = Panes
		if win.Panes, err = strconv.Atoi(after("panes")); err != nil {
			t.Fatal(err)
		}
	case "tumbling":
		win.Shape = Tumbling
	case "session":
		win.Shape = Session
	}
	if q := after("q"); q != "" {
		if win.Q, err = strconv.ParseFloat(q, 64); err != nil {
			t.Fatal(err)
		}
	}
	if words[1] != "over" {
		win.Field = words[1]
	}
	if win.Field == "terminal" {
		win.Kind = event.String
	}
	c := Config{Retain: duration("retain")}
	switch after("labels-by") { // the third word of an event's line is its id then
	case "event":
		c.Labels, win.Label = ByEvent, true
	case "key":
		c.Labels, win.Label = ByKey, true
	}
	if u := after("unlabelled"); u != "" {
		c.Unlabelled = []float64{parseValue(t, u, event.Float).(float64)}
	}
	c.Windows = []Window{win}
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	labels := Labels{Fields: columnsOf(w.LabelFields(), 0)}
	for _, line := range lines[1:] {
		f := strings.Fields(line) // time key value → result, or time label id value
		if len(f) != 5 && (len(f) != 4 || f[1] != "label") || len(f) == 5 && f[3] != "→" {
			t.Fatalf("cannot read %q", line)
		}
		at, err := time.Parse(time.RFC3339, f[0])
		if err != nil {
			t.Fatal(err)
		}
		if len(f) == 4 {
			// The label is applied with the next event.
			labels.Before, labels.IDs, labels.Times = append(labels.Before, 0), append(labels.IDs, f[2]), append(labels.Times, at.UnixNano())
			values := columnsOf(w.LabelFields(), len(labels.IDs))
			for i, old := range labels.Fields {
				copy(values[i].Floats, old.Floats)
			}
			setCells(values, len(labels.IDs)-1, []any{parseValue(t, f[3], win.Kind)}[:len(values)])
			labels.Fields = values
			continue
		}
		b := newBatch(w.Fields(), 1)
		var values []any
		if win.Field != "" && !win.Label {
			values = []any{parseValue(t, f[2], win.Kind)}
		}
		b.set(0, f[1], at.UnixNano(), values)
		out := outFor(1)
		w.Update(&Batch{N: 1, Keys: b.keys, Times: b.times, IDs: []string{f[2]}, Fields: b.fields, Labels: labels}, out, nil)
		labels = Labels{Fields: columnsOf(w.LabelFields(), 0)}
		if got, want := cell(out[0], 0), parseValue(t, f[4], out[0].Kind); got != want {
			t.Errorf("%s: got %v", line, got)
		}
	}
	return agg
}

func parseValue(t *testing.T, s string, k event.Kind) any {
	t.Helper()
	switch {
	case s == "-":
		return nil
	case k == event.String:
		return s
	case k == event.Int:
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
