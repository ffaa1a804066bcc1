package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// report is a whole run: what a result file holds.
type report struct {
	Started time.Time `json:"started"`
	Took    string    `json:"took"`
	Host    host      `json:"host"`
	Groups  []*group  `json:"groups"`
	// Missing names what was not measured, and why.
	Missing []string `json:"not_measured,omitempty"`
}

// group is a comparison: several sides do the same work in turn, as often as Runs says.
type group struct {
	ID    string       `json:"id"`
	Title string       `json:"title"`
	Sides []sideResult `json:"sides,omitempty"`
	Rows  []row        `json:"figures"`
}

type sideResult struct {
	side
	Samples []sample `json:"samples"`
}

// row is one figure; where Target is not zero, it is to be met.
type row struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Value  spread  `json:"value"`
	Target float64 `json:"target,omitempty"`
	// AtMost: the target is an upper bound.
	AtMost bool   `json:"at_most,omitempty"`
	Note   string `json:"note,omitempty"`
}

func (r row) verdict() string {
	switch {
	case r.Target == 0:
		return ""
	case r.AtMost && r.Value.Median <= r.Target, !r.AtMost && r.Value.Median >= r.Target:
		return "met"
	}
	return "NOT MET"
}

func (r row) target() string {
	switch {
	case r.Target == 0:
		return ""
	case r.AtMost:
		return "≤ " + number(r.Target)
	}
	return "≥ " + number(r.Target)
}

// rates adds a row with each side's throughput.
func (g *group) rates() {
	for _, s := range g.Sides {
		if len(s.Samples) > 0 {
			g.Rows = append(g.Rows, row{Name: s.Name, Unit: "events/s", Value: s.spread(sample.rate)})
		}
	}
}

// ratio adds the ratio of two sides' throughputs, taken run by run.
func (g *group) ratio(over, under string, target float64) {
	g.ratioAs(over+" ÷ "+under, over, under, target)
}

func (g *group) ratioAs(name, over, under string, target float64) {
	a, b := g.side(over), g.side(under)
	if a == nil || b == nil {
		return
	}
	var v []float64
	for i := range min(len(a.Samples), len(b.Samples)) {
		v = append(v, a.Samples[i].rate()/b.Samples[i].rate())
	}
	if len(v) > 0 {
		g.Rows = append(g.Rows, row{Name: name, Unit: "×", Value: spreadOf(v), Target: target})
	}
}

func (g *group) side(name string) *sideResult {
	for i := range g.Sides {
		if g.Sides[i].Name == name {
			return &g.Sides[i]
		}
	}
	return nil
}

func (s *sideResult) spread(of func(sample) float64) spread {
	var v []float64
	for _, x := range s.Samples {
		v = append(v, of(x))
	}
	return spreadOf(v)
}

// number writes a figure with three significant digits, and thousands apart.
func number(v float64) string {
	switch {
	case v >= 1000:
		s := fmt.Sprintf("%.0f", v)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// text prints a group for people at a terminal.
func (g *group) text(w io.Writer) {
	fmt.Fprintf(w, "\n(%s) %s\n", g.ID, g.Title)
	for _, s := range g.Sides {
		if s.What != "" {
			fmt.Fprintf(w, "    %s: %s\n", s.Name, s.What)
		}
	}
	fmt.Fprintf(w, "    %-58s %18s  %-24s %-8s %s\n", "", "median", "min – max", "target", "")
	for _, r := range g.Rows {
		note := r.Note
		if v := r.verdict(); v != "" {
			note = strings.TrimSpace(v + "  " + note)
		}
		fmt.Fprintf(w, "    %-58s %18s  %-24s %-8s %s\n", r.Name, number(r.Value.Median)+" "+r.Unit,
			number(r.Value.Min)+" – "+number(r.Value.Max), r.target(), note)
	}
}

// markdown writes the whole run as a page.
func (r *report) markdown(w io.Writer, name string) {
	fmt.Fprintf(w, "# Benchmarks: %s\n\nWritten by `make bench`; do not edit.\n\n", name)
	fmt.Fprintf(w, "%s, %s. Taken %s in %s, all sides in one run, in turn. Each figure is the median of its runs with the least and the greatest; ratios are taken run by run.\n",
		r.Host.CPU, r.Host.line(), r.Started.UTC().Format("2006-01-02 15:04 UTC"), r.Took)
	for _, g := range r.Groups {
		fmt.Fprintf(w, "\n## (%s) %s\n\n", g.ID, g.Title)
		for _, s := range g.Sides {
			if s.What != "" {
				fmt.Fprintf(w, "- **%s**: %s\n", s.Name, s.What)
			}
		}
		fmt.Fprint(w, "\n| figure | median | min – max | target | |\n|---|---:|---:|---:|---|\n")
		for _, x := range g.Rows {
			fmt.Fprintf(w, "| %s | %s %s | %s – %s | %s | %s |\n", x.Name, number(x.Value.Median), x.Unit,
				number(x.Value.Min), number(x.Value.Max), x.target(), strings.TrimSpace(x.verdict()+" "+x.Note))
		}
	}
	if len(r.Missing) > 0 {
		fmt.Fprint(w, "\n## Not measured\n\n")
		for _, m := range r.Missing {
			fmt.Fprintf(w, "- %s\n", m)
		}
	}
}

// save writes NAME.json and NAME.md into dir.
func (r *report) save(dir, name string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	var page strings.Builder
	r.markdown(&page, name)
	return os.WriteFile(filepath.Join(dir, name+".md"), []byte(page.String()), 0o644)
}
