package policies

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// cells is a table: a heading and rows, the first column to the left, the others to the right.
type cells struct {
	head []string
	rows [][]string
}

var lineHead = []string{"policy", "cost/bound", "late", "p50", "p95", "p99", "busy", "actions/day", "worst minute", "setting"}

// lineCells are the table of one trace; marks stand for what colours say on the page.
func (t *Trace) lineCells() cells {
	c := cells{head: lineHead}
	for i := range t.Lines {
		l := &t.Lines[i]
		mark := ""
		if !l.Keeps {
			mark = " !"
		}
		c.rows = append(c.rows, []string{
			l.Policy, plusMinus(l.Cost, 3, 1), plusMinus(l.Late, 2, 100) + " %" + mark, seconds(l.P50), seconds(l.P95), seconds(l.P99),
			percent(l.Busy, 0), fmt.Sprintf("%.0f", l.Actions), percent(l.Worst, 0), l.Setting,
		})
	}
	return c
}

// overCells are the policies over all traces; partCells ours and its parts.
func (r *Report) overCells() cells {
	return r.medians(func(o *Over) bool { return o.Group != Ablation })
}

func (r *Report) partCells() cells {
	c := r.medians(func(o *Over) bool { return o.Group == Ablation || o.Group == Ours })
	if len(c.rows) < 2 {
		return cells{}
	}
	return c
}

func (r *Report) medians(keep func(*Over) bool) cells {
	c := cells{head: []string{"policy", "median cost/bound", "median late", "largest late", "keeps objective"}}
	for i := range r.Over {
		if o := &r.Over[i]; keep(o) {
			c.rows = append(c.rows, []string{o.Policy, fmt.Sprintf("%.3f", o.Cost), percent(o.Late, 2), percent(o.MostLate, 2), fmt.Sprintf("%d of %d", o.Keeps, o.N)})
		}
	}
	return c
}

func (r *Report) rivalCells() cells {
	c := cells{head: []string{"against", "saved", "traces", "saved, no later", "traces", "cost: p", "late: p"}}
	saved := func(x float64, n int) string {
		if n == 0 {
			return "–"
		}
		return percent(x, 0)
	}
	for _, v := range r.Rivals {
		n := len(v.Saved)
		c.rows = append(c.rows, []string{
			v.Policy, saved(v.Kept, v.Comparable), fmt.Sprintf("%d of %d", v.Comparable, n), saved(v.Strict, v.NoLater), fmt.Sprintf("%d of %d", v.NoLater, n),
			fmt.Sprintf("%.3g", v.Cost.P), fmt.Sprintf("%.3g", v.LateTest.P),
		})
	}
	return c
}

func (r *Report) goalCells() cells {
	c := cells{head: []string{"goal", "reached", "met"}}
	for _, g := range r.Goals {
		met := "no"
		if g.Met {
			met = "yes"
		}
		c.rows = append(c.rows, []string{g.Goal, g.Reached, met})
	}
	return c
}

// plusMinus writes a mean with half its confidence interval where that can be seen.
func plusMinus(v Interval, digits int, factor float64) string {
	s := fmt.Sprintf("%.*f", digits, v.Mean*factor)
	if half := (v.High - v.Low) / 2 * factor; half >= 0.5*math.Pow10(-digits) {
		s += fmt.Sprintf(" ±%.*f", digits, half)
	}
	return s
}

func percent(x float64, digits int) string { return fmt.Sprintf("%.*f %%", digits, 100*x) }

func seconds(x float64) string {
	switch {
	case x < 10:
		return fmt.Sprintf("%.2f s", x)
	case x < 100:
		return fmt.Sprintf("%.1f s", x)
	}
	return fmt.Sprintf("%.0f s", x)
}

// about says in a line what a trace is.
func (t *Trace) about() string {
	kind := "smooth"
	if t.Bursty {
		kind = "bursty"
	}
	return fmt.Sprintf("%s: %.3g h judged after %.3g h tuned by; steps of %s simulated in ticks of %s; peak %.1f× the mean; rises by %s of the mean within a minute; the bound costs %.4g worker-hours",
		kind, t.Judged, t.Tuned, seconds3(t.Step), seconds3(t.Tick), t.Peak, percent(t.Rise, 0), t.Bound)
}

func seconds3(x float64) string { return fmt.Sprintf("%.3g s", x) }

// paragraphs of the world, for all forms.
func (s *Stated) lines() []string {
	return []string{
		fmt.Sprintf("Objective %s: at most %s of the events later than %.3g s.", s.Objective, percent(s.Allowed, 2), s.Target),
		fmt.Sprintf("A call of b events takes %.3g ms + %.3g ms · b; %d events a call, at most %d where a policy asks for it; a call waits %.3g s to be filled.",
			1000*s.Overhead, 1000*s.PerEvent, s.Batch, s.MaxBatch, s.Linger),
		fmt.Sprintf("A worker is ready %.3g s after its order (± %s at random), is paid from the order and for %.3g s after it is told to stop.", s.StartUp, percent(s.Jitter, 0), s.Stop),
		fmt.Sprintf("%d partitions, the largest %.2g× the mean; one that moves stands still for %.3g s. Signals are %.3g s old. %d to %d workers.",
			s.Partitions, s.LargestShare, s.Rebalance, s.Delay, s.Min, s.Max),
		fmt.Sprintf("Every trace is scaled to %.0f events a second on the mean, which keep %.3g workers fully busy.", s.Mean, s.Busy),
	}
}

// WriteJSON writes the report as one JSON value.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// WriteText writes the report for a terminal.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, t := range r.Traces {
		fmt.Fprintf(&b, "%s\n  %s\n", t.Name, t.about())
		for _, n := range t.Notes {
			fmt.Fprintf(&b, "  note: %s\n", n)
		}
		b.WriteByte('\n')
		t.lineCells().text(&b)
		b.WriteByte('\n')
	}
	section := func(title string, c cells) {
		if len(c.rows) > 0 {
			fmt.Fprintf(&b, "%s\n\n", title)
			c.text(&b)
			b.WriteByte('\n')
		}
	}
	section("Over all traces", r.overCells())
	section("What the parts of "+r.Ours+" are worth, over all traces", r.partCells())
	section(fmt.Sprintf("%s against others: median share of their cost that it does without", r.Ours), r.rivalCells())
	if len(r.Goals) > 0 {
		b.WriteString("Goals\n")
	}
	for _, g := range r.Goals {
		met := "not met"
		if g.Met {
			met = "met    "
		}
		fmt.Fprintf(&b, "  %s  %s\n           %s\n", met, g.Goal, g.Reached)
	}
	for _, part := range []struct {
		title string
		lines []string
	}{{"Where " + r.Ours + " loses", r.Losses}, {"World", r.World.lines()}, {"Notes", r.Notes}} {
		if len(part.lines) > 0 {
			fmt.Fprintf(&b, "%s\n", part.title)
			for _, l := range part.lines {
				fmt.Fprintf(&b, "  - %s\n", l)
			}
		}
	}
	b.WriteString("\n! marks a policy that does not keep the objective; ± is half a 95 % confidence interval over seeds.\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (c cells) text(b *strings.Builder) {
	// Cells to the right, but for the first and the last column of long words.
	widths := make([]int, len(c.head))
	for _, row := range append([][]string{c.head}, c.rows...) {
		for i, s := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(s))
		}
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{c.head}, c.rows...) {
		for i, s := range row {
			if i > 0 && i < len(row)-1 {
				s = strings.Repeat(" ", widths[i]-utf8.RuneCountInString(s)) + s
			}
			if i == 0 {
				s = "  " + s
			}
			fmt.Fprint(w, s)
			if i < len(row)-1 {
				fmt.Fprint(w, "\t")
			}
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory
}

// WriteMarkdown writes the report as Markdown.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Policies at objective %s\n\n", r.World.Objective)
	if r.Made != "" {
		fmt.Fprintf(&b, "%s\n\n", r.Made)
	}
	section := func(title string, c cells) {
		if len(c.rows) > 0 {
			fmt.Fprintf(&b, "## %s\n\n", title)
			c.markdown(&b)
		}
	}
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "## %s\n\n", title)
			for _, l := range lines {
				fmt.Fprintf(&b, "- %s\n", l)
			}
			b.WriteByte('\n')
		}
	}
	section("Goals", r.goalCells())
	list("Where "+r.Ours+" loses", r.Losses)
	section("Over all traces", r.overCells())
	section("What the parts of "+r.Ours+" are worth, over all traces", r.partCells())
	section(r.Ours+" against others: median share of their cost that it does without", r.rivalCells())
	for _, t := range r.Traces {
		fmt.Fprintf(&b, "## %s\n\n%s.\n\n", t.Name, t.about())
		for _, n := range t.Notes {
			fmt.Fprintf(&b, "- %s\n", n)
		}
		if len(t.Notes) > 0 {
			b.WriteByte('\n')
		}
		t.lineCells().markdown(&b)
	}
	list("World", r.World.lines())
	if len(r.Grids) > 0 {
		b.WriteString("## What was tuned over\n\n")
		for _, g := range r.Grids {
			fmt.Fprintf(&b, "- **%s** (defaults %s): %s\n", g.Policy, orNone(g.Defaults), strings.Join(g.Settings, "; "))
		}
		b.WriteByte('\n')
	}
	list("Notes", r.Notes)
	b.WriteString("! marks a policy that does not keep the objective; ± is half a 95 % confidence interval over seeds.\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func (c cells) markdown(b *strings.Builder) {
	row := func(xs []string) {
		for _, s := range xs {
			fmt.Fprintf(b, "| %s ", strings.ReplaceAll(s, "|", `\|`))
		}
		b.WriteString("|\n")
	}
	row(c.head)
	for i := range c.head {
		if i > 0 && i < len(c.head)-1 {
			b.WriteString("| ---: ")
		} else {
			b.WriteString("| --- ")
		}
	}
	b.WriteString("|\n")
	for _, r := range c.rows {
		row(r)
	}
	b.WriteByte('\n')
}
