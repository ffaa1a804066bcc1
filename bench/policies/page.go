package policies

import (
	_ "embed" // page.html
	"fmt"
	"html/template"
	"io"
	"slices"
)

//go:embed page.html
var pageText string

// WritePage writes the report as one HTML file that needs no other.
func (r *Report) WritePage(w io.Writer) error {
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	if err := page.Execute(w, r.page()); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

type page struct {
	*Report
	WorldLines []string
	Goals      []Goal
	Met        int
	Colours    []struct{}
	Over       table
	Rivals     table
	Own        table
	Scatter    template.HTML
	Parts      []part
}

type part struct {
	Name, About string
	Notes       []string
	Table       table
	Legend      []legend
	Whole, Load template.HTML
	Workers     template.HTML
	Late        template.HTML
	Scatter     template.HTML
	Drawn       string
}

type legend struct {
	Policy, Class string
	Shown         bool
}

type table struct {
	Head []string
	Rows []row
}

type row struct {
	Class string
	Cells []string
}

func (r *Report) page() page {
	colour := newPalette(r)
	groups := map[string]Group{}
	for _, o := range r.Over {
		groups[o.Policy] = o.Group
	}
	rowsOf := func(c cells) table {
		t := table{Head: c.head}
		for _, cs := range c.rows {
			t.Rows = append(t.Rows, row{Class: string(groups[cs[0]]), Cells: cs})
		}
		return t
	}
	p := page{
		Colours: make([]struct{}, colours+1), Report: r, WorldLines: r.World.lines(), Goals: r.Goals,
		Over: rowsOf(r.overCells()), Rivals: rowsOf(r.rivalCells()), Own: rowsOf(r.partCells()),
	}
	for _, g := range r.Goals {
		if g.Met {
			p.Met++
		}
	}
	var marks []mark
	for _, o := range r.Over {
		if o.Group == Ablation {
			continue
		}
		marks = append(marks, mark{o.Policy, o.Group, o.Cost, o.Late})
	}
	p.Scatter = picture(scatter(marks, colour, r.World.Allowed))
	for i := range r.Traces {
		p.Parts = append(p.Parts, r.Traces[i].part(r, colour, rowsOf))
	}
	return p
}

func (t *Trace) part(r *Report, colour palette, rowsOf func(cells) table) part {
	x := part{Name: t.Name, About: t.about(), Notes: t.Notes, Table: rowsOf(t.lineCells())}
	for i := range t.Lines {
		x.Table.Rows[i].Class = string(t.Lines[i].Group)
		if !t.Lines[i].Keeps {
			x.Table.Rows[i].Class += " late"
		}
	}
	var marks []mark
	for _, l := range t.Lines {
		if l.Group == Ablation {
			continue
		}
		marks = append(marks, mark{l.Policy, l.Group, l.Cost.Mean, l.Late.Mean})
	}
	x.Scatter = picture(scatter(marks, colour, r.World.Allowed))
	d := t.drawn
	if d == nil {
		return x
	}
	first := []string{r.Ours, t.Best}
	for _, l := range d.Lines {
		if l.Group == Offline {
			first = append(first, l.Policy)
			break
		}
	}
	shown := func(policy string) bool { return slices.Contains(first, policy) }
	for _, l := range d.Lines {
		x.Legend = append(x.Legend, legend{l.Policy, colour.class(l.Policy), shown(l.Policy)})
	}
	x.Whole, x.Load = picture(t.whole()), picture(d.load(r.Ours))
	x.Workers, x.Late = picture(d.workers(colour, shown)), picture(d.lateness(colour, shown, r.World.Target))
	x.Drawn = fmt.Sprintf("%.3g hours from hour %.1f on, where the rate rises most, run by themselves; of all that was judged:", d.Length.Hours(), d.From.Hours())
	return x
}

// picture marks what plot has written, numbers and escaped text, as HTML.
func picture(svg string) template.HTML { return template.HTML(svg) } //nolint:gosec // see plot
