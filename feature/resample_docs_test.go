package feature

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
)

// TestDocumentedSeriesHold runs every resample block of the documentation.
func TestDocumentedSeriesHold(t *testing.T) {
	text, err := os.ReadFile("../docs/features.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Fill]bool{}
	for _, b := range strings.Split(string(text), "```resample\n")[1:] {
		body, _, ok := strings.Cut(b, "```")
		if !ok {
			t.Fatalf("block without end: %q", b)
		}
		lines := strings.Split(strings.TrimSpace(body), "\n")
		t.Run(lines[0], func(t *testing.T) { seen[runSeries(t, lines)] = true })
	}
	if len(seen) != len(fillNames) {
		t.Errorf("examples of %v: want one of each of %v", seen, fillNames)
	}
}

func runSeries(t *testing.T, lines []string) Fill {
	t.Helper()
	words := strings.Fields(lines[0]) // fill every D limit D
	fill, err := ParseFill(words[0])
	if err != nil {
		t.Fatal(err)
	}
	var lengths [2]time.Duration
	for i := range lengths {
		if lengths[i], err = time.ParseDuration(words[2+2*i]); err != nil {
			t.Fatal(err)
		}
	}
	r := newTestResampler(t, ResampleConfig{Every: lengths[0], Limit: lengths[1],
		Fields: []ResampleField{{Name: "value", Kind: event.Float, Fill: fill}}})
	out := &Series{}
	for _, line := range lines[1:] {
		reading, want, ok := strings.Cut(line, " → ")
		f := strings.Fields(reading)
		if !ok || len(f) != 3 {
			t.Fatalf("cannot read %q", line)
		}
		at, err := time.Parse(time.DateTime, "2018-04-01 "+f[0])
		if err != nil {
			t.Fatal(err)
		}
		b := newBatch(r.Fields(), 1)
		b.set(0, f[1], at.UnixNano(), []any{parseValue(t, f[2], event.Float)})
		r.Resample(&Batch{N: 1, Keys: b.keys, Times: b.times, Fields: b.fields}, 0, 1, out, nil)
		var rows []string
		for i := range out.Len() {
			value, filled := "-", ""
			if c := out.Columns[0]; !c.IsNull(i) {
				value = strconv.FormatFloat(c.Floats[i], 'g', -1, 64)
			}
			if out.Filled[i] {
				filled = "*"
			}
			rows = append(rows, time.Unix(0, out.Times[i]).UTC().Format(time.TimeOnly)+"="+value+filled)
		}
		if got := strings.Join(rows, " "); got != want && (got != "" || want != "-") {
			t.Errorf("%s: got %s", line, got)
		}
	}
	return fill
}
