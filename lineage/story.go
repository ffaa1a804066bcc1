package lineage

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// WriteStory writes a record for people: where the event came from, when what
// happened, what the model saw, what it said, and why. At most top attributions are
// listed one by one, the others as one line; 0 is 8.
func WriteStory(w io.Writer, r *Record, top int) error {
	var b strings.Builder
	s := &story{&b}
	title := "Event " + plain(r.Event.ID)
	if r.Event.Key != "" {
		title += ", key " + plain(r.Event.Key)
	}
	s.line("%s", title)
	s.table([][2]string{
		{"source", fmt.Sprintf("%s, partition %d, position %d", plain(r.Event.Topic), r.Event.Partition, r.Event.Position)},
		{"contract", plain(r.Contract)}, {"pipeline", s.join(plain(r.Pipeline), ", configuration ", short(r.Config))},
		{"trace", plain(r.Event.Traceparent)}, {"result", plain(r.Result.ID)}, {"route", plain(r.Result.Route)},
	})
	s.times(&r.Times)
	s.features(r.Features)
	for i := range r.Answers {
		s.answer(&r.Answers[i], cmp.Or(top, 8))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

type story struct{ b *strings.Builder }

func (s *story) line(format string, args ...any) { fmt.Fprintf(s.b, format+"\n", args...) }

// join is a with b behind it, where there is a b.
func (s *story) join(a, between, b string) string {
	if b == "" {
		return a
	}
	return a + between + b
}

// table writes the lines that have something to say.
func (s *story) table(rows [][2]string) {
	for _, r := range rows {
		if r[1] != "" {
			s.line("  %-12s %s", r[0], r[1])
		}
	}
}

func (s *story) times(t *Times) {
	s.line("\nTimes")
	rows := [][2]string{{"event", clock(t.Event)}}
	for _, x := range []struct {
		name  string
		at    *time.Time
		since *float64
		after string
	}{
		{"arrival", t.Arrival, t.ToArrival, "after the event"}, {"inference", t.Inference, t.ToInference, "after the arrival"},
		{"publication", t.Published, t.ToPublication, "after the inference"},
	} {
		if x.at == nil {
			continue
		}
		text := fmt.Sprintf("%-30s", clock(*x.at))
		if x.since != nil {
			text += "  " + span(*x.since) + " " + x.after
		}
		rows = append(rows, [2]string{x.name, strings.TrimRight(text, " ")})
	}
	if t.Freshness != nil {
		rows = append(rows, [2]string{"freshness", span(*t.Freshness) + " from the event to the publication"})
	}
	s.table(rows)
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// span writes seconds as people say them.
func span(seconds float64) string {
	sign := ""
	if seconds < 0 {
		sign, seconds = "−", -seconds
	}
	switch {
	case seconds >= 2*86400:
		return sign + strconv.FormatFloat(seconds/86400, 'f', 1, 64) + " days"
	case seconds >= 60:
		return sign + time.Duration(seconds*1e9).Round(time.Second).String()
	case seconds >= 1:
		return sign + strconv.FormatFloat(seconds, 'f', 2, 64) + " s"
	}
	return sign + strconv.FormatFloat(seconds*1e3, 'f', 2, 64) + " ms"
}

func (s *story) features(fs []Shown) {
	if len(fs) == 0 {
		return
	}
	s.line("\nFeatures")
	w := tabwriter.NewWriter(s.b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  NAME\tVALUE\tOVER\tNEWEST EVENT IN IT")
	for i := range fs {
		f := &fs[i]
		over := ""
		if f.WindowSeconds > 0 {
			over = period(f.WindowSeconds)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", plain(f.Name), text(f.Value), over, newest(f))
	}
	_ = w.Flush() // the builder takes everything
}

// newest says what is known of the time of a value.
func newest(f *Shown) string {
	switch {
	case f.Newest == nil && f.Lookup:
		return "a row without a time"
	case f.Newest == nil:
		return ""
	case f.Lookup:
		return "the row of " + clock(*f.Newest)
	case f.DelaySeconds > 0:
		return "no event after " + clock(*f.Newest)
	case f.WindowSeconds > 0:
		return "up to this one"
	}
	return "this one"
}

// period writes the length of a window as pipelines do.
func period(seconds float64) string {
	d := time.Duration(seconds * 1e9)
	if d >= time.Hour && d%time.Hour == 0 {
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return d.String()
}

func (s *story) answer(a *Answered, top int) {
	who := plain(a.Model)
	if a.Version != "" {
		who += " " + plain(a.Version)
	}
	s.line("\nAnswer")
	rows := [][2]string{
		{"model", s.join(who, ", ", plain(a.Role))}, {"digest", plain(a.Digest)}, {"rollout", plain(a.Rollout)},
		{"path", paths[a.Path]},
	}
	if paths[a.Path] == "" {
		rows[len(rows)-1][1] = plain(a.Path)
	}
	if c := a.Call; c != nil {
		rows = append(rows, [2]string{"batch", fmt.Sprintf("%s, closed because %s, %s", count(c.BatchRows, "row"), reasons[c.Flush], count(c.Attempts, "attempt"))})
	}
	for _, o := range a.Outputs {
		rows = append(rows, [2]string{plain(o.Name), text(o.Value)})
	}
	for _, sh := range a.Shadows {
		rows = append(rows, [2]string{"shadow", fmt.Sprintf("%s %s would have said %s", plain(sh.Model), plain(sh.Version), text(sh.Score))})
	}
	s.table(rows)
	if a.Explanation != nil {
		s.explanation(a.Explanation, top)
	}
}

var paths = map[string]string{
	"scored": "scored by the model", "cached": "the model's own answer to the same inputs, from the cache",
	"fallback_version": "fallback: another version of the model", "fallback_cached": "fallback: an older answer to the same inputs",
	"fallback_rule": "fallback: the pipeline's rule", "fallback_value": "fallback: a fixed value", "skipped": "skipped, for it was late",
}

var reasons = map[string]string{
	"idle": "the model was idle", "full": "it was full", "deadline": "waiting longer would have made it late", "drain": "the pipeline stopped",
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// barWidth is the length of the longest bar.
const barWidth = 24

func (s *story) explanation(e *Explanation, top int) {
	s.line("\n  Why (%s)", plain(e.Method))
	list := slices.Clone(e.Attributions)
	slices.SortStableFunc(list, func(a, b Attributed) int {
		return cmp.Compare(math.Abs(value(b.Attribution)), math.Abs(value(a.Attribution)))
	})
	type row struct {
		name string
		v    float64
	}
	var rows []row
	rest := row{}
	others := 0
	for i, a := range list {
		if i < top || len(list) == top+1 {
			name := plain(a.Input)
			if a.Value != nil {
				name += " = " + text(a.Value)
			}
			rows = append(rows, row{name, value(a.Attribution)})
			continue
		}
		others++
		rest.v += value(a.Attribution)
	}
	if others > 0 {
		rest.name = fmt.Sprintf("%d others", others)
		rows = append(rows, rest)
	}
	width, most := len("raw output"), 0.0
	for _, r := range rows {
		width, most = max(width, len([]rune(r.name))), max(most, math.Abs(r.v))
	}
	pad := func(name string) string { return name + strings.Repeat(" ", max(0, width-len([]rune(name)))) }
	s.line("    %s  %11s", pad("base"), signed(value(e.Base)))
	for _, r := range rows {
		bar := ""
		if most > 0 {
			bar = strings.Repeat("█", int(math.Round(math.Abs(r.v)/most*barWidth)))
		}
		s.line("%s", strings.TrimRight(fmt.Sprintf("    %s  %11s  %s", pad(r.name), signed(r.v), bar), " "))
	}
	s.line("    %s  %11s", pad("raw output"), signed(value(e.Raw)))
	if e.Link == "logistic" {
		s.line("    %s  %11.6f  1 / (1 + exp(−raw))", pad("output"), value(e.Output))
	}
}

func signed(v float64) string { return fmt.Sprintf("%+.6f", v) }

// value is a number of a record.
func value(v any) float64 {
	switch x := v.(type) {
	case float64:
		return x
	case string:
		if f, err := strconv.ParseFloat(x, 64); err == nil {
			return f
		}
	}
	return math.NaN()
}

// text writes a value.
func text(v any) string {
	switch x := v.(type) {
	case nil:
		return "none"
	case float64:
		return strconv.FormatFloat(x, 'g', 8, 64)
	case int64:
		return strconv.FormatInt(x, 10)
	case time.Time:
		return clock(x)
	case string:
		return plain(x)
	}
	return fmt.Sprint(v)
}

// short is the beginning of a digest.
func short(digest string) string { return plain(digest[:min(len(digest), 12)]) }

// plain makes text safe for a terminal: what is not printable becomes a dot.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}
