package pipeline

import (
	"fmt"
	"strings"
	"time"

	"github.com/freshet-io/freshet/feature"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// pictureWidth is the most columns of a picture's lines, names that are longer aside.
const pictureWidth = 100

// picture is a text that is drawn line by line.
type picture struct {
	p     *Plan
	b     strings.Builder
	items map[string]*FeatureItem
}

// Picture shows as a text what will run where: topics begin in the first
// column, tasks stand between them, and what a task does stands in its order.
func (p *Plan) Picture() string {
	d := &picture{p: p, items: map[string]*FeatureItem{}}
	for _, st := range p.Spec.Steps {
		if f, ok := st.(*Features); ok {
			for i := range f.Items {
				d.items[f.Items[i].Name] = &f.Items[i]
			}
		}
	}
	s := p.Spec
	fmt.Fprintf(&d.b, "%s: %.6g %% of the results within %s of their event\n\n", s.Name, s.Freshness.Quantile*100, short(s.Freshness.Target))
	if s.Source.From != "" {
		d.topic(endpoint.Redact(s.Source.From), "messages, acknowledged when they are on the topic")
		d.down()
	}
	for i, st := range p.stages {
		d.input(st)
		d.task(st, i == len(p.stages)-1)
	}
	d.down()
	for _, t := range s.topics() {
		d.topic(t, d.partitions(t))
		for _, o := range s.Outputs {
			for _, url := range o.Also {
				if o.Topic == t {
					fmt.Fprintf(&d.b, "    +-> %s\n", endpoint.Redact(url))
				}
			}
		}
	}
	d.beside()
	if n := len(p.stages) - 1; n > 0 {
		first, last := p.stages[0].by, p.stages[n].by
		d.paragraph(fmt.Sprintf("What stands in one task is fused: it is done in one pass. An event is written to %s on its way.", plural(n, "internal topic")))
		order := fmt.Sprintf("Results keep the order of each %s", last)
		if first != last {
			order += fmt.Sprintf("; those of one %s may overtake each other", first)
		}
		d.paragraph(order + ".")
	}
	return d.b.String()
}

func (d *picture) partitions(topic string) string {
	n := defaultParts
	for _, o := range d.p.Spec.Outputs {
		if o.Topic == topic {
			n = o.Partitions
		}
	}
	return plural(n, "partition")
}

// topic writes the line of a topic.
func (d *picture) topic(name, text string) { fmt.Fprintf(&d.b, "%-28s %s\n", name, text) }

func (d *picture) down() { d.b.WriteString("    |\n    v\n") }

// input writes the topics that a stage reads.
func (d *picture) input(st *stagePlan) {
	s := d.p.Spec
	parts := plural(s.Source.Partitions, "partition")
	if st.index == 0 {
		rule := s.Source.timeRule(d.p.Contract)
		d.topic(st.topic, fmt.Sprintf("%s%s, time %s, lateness %s", parts, by(st.by), rule.Field, short(rule.Lateness)))
	} else {
		d.down()
		d.topic(st.topic, fmt.Sprintf("internal, %s%s: events and features so far", parts, by(st.by)))
	}
	if !st.usesLabels() {
		d.down()
		return
	}
	l := s.Labels
	rule := l.timeRule(d.p.LabelContract)
	joined := l.Event + l.Key
	d.b.WriteString("    |\n")
	d.topic("    |   "+l.Topic, fmt.Sprintf("%s%s, time %s; each task reads all", plural(l.Partitions, "partition"), by(joined), rule.Field))
	d.b.WriteString("    |     |\n    v     v\n")
}

func by(key string) string {
	if key == "" {
		return ", without a key"
	}
	return ", by " + key
}

// task writes what the tasks of a stage do.
func (d *picture) task(st *stagePlan, last bool) {
	p, s := d.p, d.p.Spec
	fmt.Fprintf(&d.b, "    task %d%s: %d at work, one for each partition\n", st.index+1, by(st.by), s.Source.Partitions)
	if st.index == 0 {
		d.line("validate", s.Source.Contract+" "+p.Contract.Version)
		if src := &s.Source; src.Order != "" {
			d.line("order", fmt.Sprintf("by time, then %s; waits for %s of silence", src.Order, short(src.OrderWait)))
		}
		if p.series != nil {
			d.series(p.series.spec)
		}
	}
	if st.usesLabels() {
		d.line("labels", fmt.Sprintf("%s: %s", s.Labels.Contract, strings.Join(st.labels, ", ")))
	}
	d.steps(st.steps)
	if !last {
		return
	}
	for _, ip := range p.infers {
		outputs := make([]string, len(ip.outputs))
		for i, o := range ip.outputs {
			outputs[i] = o.name
		}
		name := "infer"
		if len(p.infers) > 1 {
			name += " " + ip.spec.Name
		}
		d.line(name, fmt.Sprintf("%s: %s -> %s", ip.spec.Model, plural(len(ip.spec.Inputs), "input"), strings.Join(outputs, ", ")))
		d.steps(ip.after)
	}
	if rt, ok := s.Steps[len(s.Steps)-1].(*Route); ok {
		var lines []string
		for i, c := range rt.Cases {
			when := ""
			switch {
			case c.When != nil:
				when = ", when " + c.When.Source
			case i > 0:
				when = ", else"
			}
			lines = append(lines, fmt.Sprintf("%s%s -> %s", c.Name, when, strings.Join(c.To, ", ")))
		}
		d.line("route", lines...)
	}
}

func (d *picture) series(r *Resample) {
	text := fmt.Sprintf("every %s, gaps up to %s filled", short(r.Every), short(r.Limit))
	if r.Flag != "" {
		text += ", flag " + r.Flag
	}
	var fields []string
	for _, f := range r.Fields {
		fields = append(fields, fmt.Sprintf("%s (%v)", f.Name, f.Fill))
	}
	d.line("resample", text, strings.Join(fields, ", "), "from here on a row is a point of the series")
}

// steps writes a run of steps, those of a kind that follow each other together.
func (d *picture) steps(steps []planStep) {
	kind, lines := "", []string(nil)
	add := func(k, text string) {
		if k != kind && len(lines) > 0 {
			d.line(kind, lines...)
			lines = nil
		}
		kind, lines = k, append(lines, text)
	}
	for _, st := range steps {
		switch st := st.(type) {
		case *windowsPlan:
			for _, c := range st.out {
				name := d.p.columns[c].name
				if it := d.items[name]; it != nil && it.Window != nil {
					add("windows", name+" = "+d.window(it.Window))
				}
			}
		case *exprPlan:
			if it := d.items[d.p.columns[st.out].name]; it != nil && it.Expr != nil {
				add("compute", it.Name+" = "+it.Expr.Source)
			}
		case *lookupPlan:
			name, _, _ := strings.Cut(d.p.columns[st.out[0]].name, ".")
			add("look up", fmt.Sprintf("%s = %s by %s: %s", name, st.spec.Name, d.p.columns[st.key].name, strings.Join(st.fields, ", ")))
		}
	}
	if len(lines) > 0 {
		d.line(kind, lines...)
	}
}

// window writes a window's definition.
func (d *picture) window(w *WindowFeature) string {
	text := w.Aggregate.String()
	if w.Field != "" {
		text += " " + w.Field
	}
	if w.Aggregate == feature.Quantile {
		text += fmt.Sprintf(" %v", w.Q)
	}
	switch {
	case w.Aggregate == feature.Decayed:
		text += " half_life " + short(w.Over)
	case w.Shape == feature.Tumbling:
		text += " tumbling " + short(w.Over)
	case w.Shape == feature.Session:
		text += " session " + short(w.Over)
	default:
		text += " over " + short(w.Over)
	}
	if w.Panes > 0 {
		text += fmt.Sprintf(" in %d panes", w.Panes)
	}
	if w.Delay > 0 {
		text += ", delay " + short(w.Delay)
	}
	if w.Sketch {
		text += ", sketch"
	}
	if w.Where != nil {
		text += ", where " + w.Where.Source
	}
	if w.Default != nil {
		text += ", default " + w.Default.String
	}
	return text
}

// line writes what a task does: a word, and lines, of which the long ones are wrapped.
// Names before an = are padded to the same length.
func (d *picture) line(word string, lines ...string) {
	width := 0
	for _, l := range lines {
		if name, _, ok := strings.Cut(l, " = "); ok && !strings.Contains(name, " ") {
			width = max(width, len(name))
		}
	}
	for _, l := range lines {
		indent := ""
		if name, rest, ok := strings.Cut(l, " = "); ok && !strings.Contains(name, " ") {
			l = fmt.Sprintf("%-*s = %s", width, name, rest)
			indent = strings.Repeat(" ", width+3)
		}
		for i, part := range wrap(l, pictureWidth-16-len(indent)) {
			if i > 0 {
				part = indent + part
			}
			fmt.Fprintf(&d.b, "      %-9s %s\n", word, part)
			word = ""
		}
	}
}

// beside writes the topics that the pipeline has for itself.
func (d *picture) beside() {
	s := d.p.Spec
	d.b.WriteString("\nbeside it\n")
	for _, st := range d.p.stages {
		if d.p.byKey(st) {
			d.topic(st.state, fmt.Sprintf("internal, %s: the changes of task %d's state", plural(s.Source.Partitions, "partition"), st.index+1))
		}
	}
	d.topic(s.DeadLetters(), "what could not be processed, with the reason")
}

func (d *picture) paragraph(text string) {
	d.b.WriteByte('\n')
	for _, l := range wrap(text, pictureWidth) {
		d.b.WriteString(l + "\n")
	}
}

// wrap breaks a text at spaces into lines of at most width bytes, where words allow it.
func wrap(text string, width int) (lines []string) {
	line := ""
	for i, w := range strings.Split(text, " ") {
		if i > 0 && len(line)+1+len(w) > width {
			lines = append(lines, line)
			line = w
			continue
		}
		if i > 0 {
			line += " "
		}
		line += w
	}
	return append(lines, line)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// short is a duration as people write it: 24h and not 24h0m0s.
func short(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if cut, ok := strings.CutSuffix(s, zero); ok {
			s = cut + zero[:1]
		}
	}
	return s
}
