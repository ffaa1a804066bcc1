package orchestrator

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Explain gives an engineer's account of an entry: what was seen, what was expected and by
// whom, what was weighed, what was ordered and what a rail made of it, what came of it. What is not known is not mentioned,
// but for what a decision needs.
func Explain(e *Entry) string {
	var a accountText
	a.head(e)
	if e.Round == nil {
		a.para("", e.Why+".")
		a.other(e)
		return a.String()
	}
	a.seen(e)
	a.expected(e)
	a.decided(e)
	a.weighed(e)
	a.rails(e)
	a.ordered(e)
	a.notes(e)
	a.outcome(e)
	return a.String()
}

// accountText is text in paragraphs, each under its word.
type accountText struct{ strings.Builder }

// lineWidth is where lines are broken, indent how far they are set in behind the word.
const (
	lineWidth = 100
	indent    = 11
)

// para writes a paragraph, broken into lines.
func (a *accountText) para(word, text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	fmt.Fprintf(a, "%-*s", indent, word)
	column := indent
	for i, w := range strings.Fields(text) {
		// What is no text for people was perhaps put into a reason by others.
		w = strings.Map(printable, w)
		n := len([]rune(strings.ReplaceAll(w, "~", " ")))
		switch {
		case i == 0:
		case column+1+n > lineWidth:
			fmt.Fprintf(a, "\n%-*s", indent, "")
			column = indent
		default:
			a.WriteByte(' ')
			column++
		}
		a.WriteString(strings.ReplaceAll(w, "~", " "))
		column += n
	}
	a.WriteByte('\n')
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '·'
	}
	return r
}

func (a *accountText) head(e *Entry) {
	fmt.Fprintf(a, "Entry %d, %s UTC", e.ID, e.Time.UTC().Format("2 January 2006, 15:04:05"))
	for _, part := range []string{e.Unit, e.Pilot} {
		if part != "" {
			a.WriteString(", " + strings.Map(printable, part))
		}
	}
	if e.Mode != "" {
		fmt.Fprintf(a, ", mode %s", e.Mode)
	}
	if e.Round == nil {
		fmt.Fprintf(a, ": %s", e.Kind)
	}
	a.WriteByte('\n')
}

// other is what an entry that is no round says more.
func (a *accountText) other(e *Entry) {
	if e.Of > 0 {
		a.para("", fmt.Sprintf("It is about the orders of entry %d: %s.", e.Of, ordersText(e.Before)))
	}
	if e.By != "" {
		a.para("", "By "+e.By+".")
	}
	a.act(e)
	if e.Kind == KindUndo || e.Kind == KindRevert {
		a.para("", fmt.Sprintf("The loop keeps its hands off until %s.", clock(e.Expires)))
	}
}

func (a *accountText) seen(e *Entry) {
	r := e.Round
	s := &r.Signals
	var t []string
	if s.Known == 0 {
		text := "Nothing: no signals came."
		if !s.Time.IsZero() {
			text = fmt.Sprintf("Nothing since %s.", clock(s.Time))
		}
		a.para("Seen", text)
		return
	}
	flow := ""
	if s.Known.Has(KnownArrivals) {
		flow = rateText(s.Arrivals) + " arrived"
	}
	if s.Known.Has(KnownServed) {
		flow = join(flow, " and ", rateText(s.Served)+" were served")
	}
	if flow != "" {
		flow += fmt.Sprintf(" (mean of the %s up to %s", spanText(s.Window), clock(s.Time))
		if r.Stale >= time.Second {
			flow += fmt.Sprintf(", %s ago", spanText(r.Stale))
		}
		t = append(t, flow+").")
	}
	if s.Known.Has(KnownLag) {
		lag := countText(s.Lag) + " events waited"
		if s.Known.Has(KnownInFlight) && s.InFlight > 0 {
			lag += fmt.Sprintf(", %s of them in workers' hands", countText(min(s.InFlight, s.Lag)))
		}
		if s.Known.Has(KnownOldest) && s.Oldest > 0 {
			lag += fmt.Sprintf("; the oldest was %s old", spanText(s.Oldest))
			if r.Objective.Target > 0 {
				lag += fmt.Sprintf(", where %s is the target", spanText(r.Objective.Target))
			}
		}
		t = append(t, lag+".")
	}
	if s.Known.Has(KnownWorkers) {
		w := workersText(s.Ready) + " ready"
		if s.Known.Has(KnownBusy) {
			w += fmt.Sprintf(", %s busy", shareText(s.Busy))
		}
		if s.Known.Has(KnownBatch) && s.Batch > 0 {
			w += fmt.Sprintf(", %s events a call", number(s.Batch, 3))
		}
		if s.Starting > 0 {
			w += fmt.Sprintf("; %d starting", s.Starting)
		}
		if s.Stopping > 0 {
			w += fmt.Sprintf("; %d stopping", s.Stopping)
		}
		t = append(t, w+".")
	}
	if s.Known.Has(KnownLate) {
		late := shareText(s.Late) + " of what was published came late"
		if q := r.Objective.Quantile; q > 0 && q < 1 {
			late += fmt.Sprintf(" (%s may)", shareText(1-q))
			if s.Fresh > 0 {
				late += fmt.Sprintf("; the %s quantile of freshness was %s", number(q, 4), spanText(s.Fresh))
			}
		}
		t = append(t, late+".")
	}
	var missing []string
	for _, k := range []Known{KnownArrivals, KnownLag, KnownOldest, KnownWorkers, KnownLate} {
		if !s.Known.Has(k) {
			missing = append(missing, k.Names()...)
		}
	}
	if len(missing) > 0 {
		t = append(t, "Not known: "+strings.Join(missing, ", ")+".")
	}
	if r.Note != "" {
		t = append(t, capital(sentence(r.Note)))
	}
	a.para("Seen", strings.Join(t, " "))
}

func (a *accountText) expected(e *Entry) {
	r := e.Round
	d := &r.Demand
	if !d.whole() {
		text := "No forecast."
		if d.Note != "" {
			text = "No forecast: " + sentence(d.Note)
		}
		if e.Pilot != "" && r.Capacity.StartUp == 0 && r.Capacity.Batch == 0 && d.Note == "" {
			return // a rule that looks at no forecast
		}
		a.para("Expected", text)
		return
	}
	var t []string
	lead := min(int(e.Time.Add(r.Capacity.StartUp).Sub(d.Time)/d.Step), len(d.Rates)-1)
	lead = max(lead, 0)
	at := d.Time.Add(time.Duration(lead) * d.Step)
	when := "now"
	if r.Capacity.StartUp > 0 {
		when = "when a worker ordered now is ready"
	}
	t = append(t, fmt.Sprintf("From %s, %s: %s.", clock(at), when, quantilesText(d, lead)))
	if peak := peakLead(d); peak != lead {
		t = append(t, fmt.Sprintf("Most from %s: %s.", clock(d.Time.Add(time.Duration(peak)*d.Step)), quantilesText(d, peak)))
	}
	if len(d.Members) > 0 {
		var m []string
		for i, member := range d.Members {
			if i == 4 || member.Weight < 0.02 {
				break
			}
			m = append(m, fmt.Sprintf("%s %s", member.Name, shareText(digits(member.Weight, 2))))
		}
		if len(m) > 0 {
			t = append(t, "Said by "+strings.Join(m, ", ")+".")
		}
	}
	if d.Note != "" {
		t = append(t, capital(sentence(d.Note)))
	}
	a.para("Expected", strings.Join(t, " "))
	if c := &r.Capacity; c.Batch > 0 && c.PerEvent+c.Overhead > 0 {
		text := fmt.Sprintf("One worker does %s with %d events a call (%s a call)", rateText(c.Rate(0)), c.Batch, spanText(time.Duration(1e9*c.Service(float64(c.Batch)))))
		if n := r.Ordered.Workers; n > 1 && c.Effective(n) < 0.97*float64(n) {
			text += fmt.Sprintf("; %d do the work of %s", n, number(c.Effective(n), 3))
		}
		a.para("Capacity", text+".")
	}
}

// quantilesText says a low, a middle and a high quantile of a lead.
func quantilesText(d *Demand, lead int) string {
	row := d.Rates[lead]
	var parts []string
	said := -1
	for _, want := range []float64{0.1, 0.5, 0.9, 0.99} {
		best := -1
		for j, l := range d.Levels {
			if j < len(row) && math.Abs(l-want) <= 0.05 && (best < 0 || math.Abs(l-want) < math.Abs(d.Levels[best]-want)) {
				best = j
			}
		}
		if best < 0 || best == said {
			continue
		}
		said = best
		parts = append(parts, fmt.Sprintf("%s at %s", number(row[best], 3), number(d.Levels[best], 4)))
	}
	if len(parts) == 0 && len(row) > 0 {
		parts = []string{number(row[len(row)-1], 3)}
	}
	return strings.Join(parts, ", ") + "~events/s"
}

// whole says that there is a forecast with all that belongs to it.
func (d *Demand) whole() bool {
	for _, row := range d.Rates {
		if len(row) != len(d.Levels) {
			return false
		}
	}
	return len(d.Rates) > 0 && len(d.Levels) > 0 && d.Step > 0
}

// peakLead is the lead whose middle is the largest.
func peakLead(d *Demand) int {
	best := 0
	for i := range d.Rates {
		if d.At(i, 0.5) > d.At(best, 0.5)*1.02 {
			best = i
		}
	}
	return best
}

func (a *accountText) decided(e *Entry) {
	d := &e.Round.Decided
	if d.Hold {
		a.para("Decided", "Nothing is changed. "+capital(sentence(d.Reason)))
		return
	}
	a.para("Decided", capital(choiceText(d.Workers, d.Batch, d.Route))+". "+capital(sentence(d.Reason)))
}

func (a *accountText) weighed(e *Entry) {
	d := &e.Round.Decided
	if len(d.Candidates) < 2 {
		return
	}
	known := false
	for _, c := range d.Candidates {
		known = known || c.Cost > 0 || c.Late > 0
	}
	for i, c := range d.Candidates {
		word := ""
		if i == 0 {
			word = "Weighed"
		}
		text := choiceText(c.Workers, c.Batch, Route{})
		if known && c.Cost >= 0 && !math.IsNaN(c.Cost) {
			text += ", cost~" + number(c.Cost, 4)
		}
		if known && c.Late >= 0 && !math.IsNaN(c.Late) {
			text += ", " + shareText(c.Late) + "~late"
		}
		if c.Why == "" {
			text += ": chosen."
		} else {
			text += ": " + sentence(c.Why)
		}
		a.para(word, text)
	}
}

func (a *accountText) rails(e *Entry) {
	word := "Rails"
	for _, b := range e.Round.Rails {
		if b.From == b.To && b.Why != "" && strings.Contains(e.Round.Decided.Reason, b.Why) {
			continue // it was what decided
		}
		text := b.Rail
		if b.From != b.To {
			text += fmt.Sprintf(" made %d into %d", b.From, b.To)
		}
		if b.Why != "" {
			text += ": " + b.Why
		}
		a.para(word, capital(sentence(text)))
		word = ""
	}
}

func (a *accountText) ordered(e *Entry) {
	word := map[Mode]string{ModeAct: "Ordered", ModeAdvise: "Advised", ModeObserve: "Would be"}[e.Mode]
	var text string
	switch {
	case e.Changes():
		text = changeText(e.Before, e.After) + "."
	default:
		text = fmt.Sprintf("No change: %s.", ordersText(e.After))
	}
	if e.Mode == ModeAct && e.Held == "" && !e.Expires.IsZero() {
		text += fmt.Sprintf(" In force until %s unless renewed.", clock(e.Expires))
	}
	if e.Held != "" {
		text += " Not carried out: " + sentence(e.Held)
	}
	a.para(word, text)
	a.act(e)
}

func (a *accountText) act(e *Entry) {
	switch {
	case e.Act == nil:
	case e.Act.Error != "":
		a.para("", fmt.Sprintf("The actuator did not take it at %s (%s): %s", clock(e.Act.Time), e.Act.ErrorKind, sentence(e.Act.Error)))
	default:
		a.para("", fmt.Sprintf("The actuator accepted it at %s.", clock(e.Act.Time)))
	}
}

func (a *accountText) notes(e *Entry) {
	word := "Noted"
	for _, n := range e.Notes {
		if e.Act != nil && e.Act.Error != "" && strings.Contains(n, e.Act.Error) {
			continue // the actuator's answer was told
		}
		a.para(word, capital(sentence(n)))
		word = ""
	}
}

func (a *accountText) outcome(e *Entry) {
	o := e.Outcome
	if o == nil {
		return
	}
	var t []string
	span := o.Until.Sub(e.Time)
	if o.Known.Has(KnownArrivals) {
		text := fmt.Sprintf("%s arrived", rateText(o.Arrivals))
		if mid := meanDemand(&e.Round.Demand, e.Time, o.Until); mid > 0 {
			switch off := o.Arrivals/mid - 1; {
			case math.Abs(off) < 0.02:
				text += ", as the middle of the forecast had it"
			case off > 0:
				text += fmt.Sprintf(", %s more than the middle of the forecast", shareText(digits(off, 2)))
			default:
				text += fmt.Sprintf(", %s less than the middle of the forecast", shareText(digits(-off, 2)))
			}
		}
		t = append(t, text+".")
	}
	if o.Known.Has(KnownLate) {
		text := shareText(o.Late) + " of the events came late"
		if o.Late == 0 {
			text = "No event came late"
		}
		if o.Fresh > 0 {
			text += fmt.Sprintf("; freshness at the objective's quantile was %s at worst", spanText(o.Fresh))
		}
		t = append(t, text+".")
	}
	if o.Known.Has(KnownOldest) && o.Oldest > 0 {
		text := fmt.Sprintf("The oldest event was %s old at most", spanText(o.Oldest))
		if o.Known.Has(KnownLag) {
			text += fmt.Sprintf("; %s events waited at the end", countText(o.Lag))
		}
		t = append(t, text+".")
	}
	if o.Known.Has(KnownWorkers) {
		t = append(t, fmt.Sprintf("%s worker-seconds were paid, for %s.", countText(o.WorkerSeconds), number(o.Cost, 4)))
		switch {
		case e.After.Workers <= e.Before.Workers:
		case o.Ready < 0:
			t = append(t, "The ordered workers were not all ready by then.")
		default:
			t = append(t, fmt.Sprintf("The ordered workers were ready after %s.", spanText(o.Ready)))
		}
	}
	if len(t) == 0 {
		t = []string{"nothing was seen."}
	}
	a.para("Outcome", fmt.Sprintf("In the %s behind: ", spanText(span))+strings.Join(t, " "))
}

// meanDemand is the middle of the forecast for a stretch of time; 0 where there is none.
func meanDemand(d *Demand, from, until time.Time) float64 {
	if !d.whole() {
		return 0
	}
	sum, n := 0.0, 0
	for i := range d.Rates {
		at := d.Time.Add(time.Duration(i)*d.Step + d.Step/2)
		if at.After(from) && at.Before(until) {
			sum += d.At(i, 0.5)
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}
