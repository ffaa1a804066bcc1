package feature

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Keep is how much of an old state windows can use.
type Keep uint8

const (
	// Different: nothing; begin anew, or replay the source.
	Different Keep = iota
	// Convertible: the entries; restore the state into windows of the old
	// definition (NewFromDefinition) and let the new ones Adopt it.
	Convertible
	// Same: all of it, as it is.
	Same
)

// definition is what determines a state, names aside, in JSON.
type definition struct {
	Format  int                `json:"format"`
	Retain  time.Duration      `json:"retain_ns"`
	Labels  Join               `json:"labels,omitempty"`
	Windows []windowDefinition `json:"windows"`
}

type windowDefinition struct {
	Aggregate  string        `json:"aggregate"`
	Field      string        `json:"field,omitempty"`
	Kind       event.Kind    `json:"kind,omitempty"`
	Over       time.Duration `json:"over_ns"`
	Delay      time.Duration `json:"delay_ns,omitempty"`
	Label      bool          `json:"label,omitempty"`
	Unlabelled *float64      `json:"unlabelled,omitempty"`
}

// Definition describes the windows, so that a later program can tell by
// Compatible what their state is worth to it.
func (w *Windows) Definition() []byte {
	d := definition{Format: formatVersion, Retain: w.config.Retain, Labels: w.join}
	begins, err := unlabelled(w.config)
	for i := range w.config.Windows {
		x := &w.config.Windows[i]
		wd := windowDefinition{Aggregate: x.Aggregate.String(), Field: x.Field, Kind: x.Kind, Over: x.Over, Delay: x.Delay, Label: x.Label}
		if err == nil && !math.IsNaN(begins[i]) {
			wd.Unlabelled = &begins[i]
		}
		d.Windows = append(d.Windows, wd)
	}
	b, err := json.Marshal(d)
	if err != nil {
		return nil // a definition has nothing that JSON cannot say
	}
	return b
}

// NewFromDefinition compiles the windows that a Definition describes. Errors are
// of kind Corrupt where it cannot be read, Unsupported where its state has another format.
func NewFromDefinition(b []byte) (*Windows, error) {
	var d definition
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read definition of windows: %v", err)
	}
	if d.Format != formatVersion {
		return nil, errkind.Errorf(errkind.Unsupported, "read definition of windows: the state has format %d, this program reads %d", d.Format, formatVersion)
	}
	c := Config{Retain: d.Retain, Labels: d.Labels}
	for i, x := range d.Windows {
		a, err := ParseAggregate(x.Aggregate)
		if err != nil {
			return nil, errkind.Errorf(errkind.Corrupt, "read definition of windows: %v", err)
		}
		c.Windows = append(c.Windows, Window{Name: fmt.Sprint("#", i+1), Aggregate: a, Field: x.Field, Kind: x.Kind, Over: x.Over, Delay: x.Delay, Label: x.Label})
		if x.Label {
			begin := math.NaN()
			if x.Unlabelled != nil {
				begin = *x.Unlabelled
			}
			c.Unlabelled = append(c.Unlabelled, begin)
		}
	}
	w, err := NewWindows(c)
	if err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read definition of windows: %v", err)
	}
	return w, nil
}

// Compatible tells what state of the old definition is worth to these windows,
// and where that is not all of it, why, in a sentence.
func (w *Windows) Compatible(old []byte) (keep Keep, why string) {
	o, err := NewFromDefinition(old)
	if err != nil {
		return Different, err.Error()
	}
	return w.compatible(o)
}

func (w *Windows) compatible(o *Windows) (keep Keep, why string) {
	joins := [...]string{"without labels", "with labels joined by event", "with labels joined by key"}
	switch {
	case w.print == o.print:
		return Same, ""
	case w.join != o.join:
		return Different, fmt.Sprintf("the windows were computed %s, now they are %s", joins[o.join], joins[w.join])
	}
	for i := range w.columns {
		if c := &w.columns[i]; w.columnIn(o, c) < 0 {
			switch named := slices.ContainsFunc(o.columns, func(x column) bool { return x.Name == c.Name && x.label == c.label }); {
			case !named:
				return Different, fmt.Sprintf("field %s was not kept before", c.Name)
			case c.label && slices.ContainsFunc(o.columns, func(x column) bool { return x.Field == c.Field && x.label }):
				return Different, fmt.Sprintf("field %s counted otherwise before a label was known", c.Name)
			default:
				return Different, fmt.Sprintf("field %s was not kept as a %v before", c.Name, c.Kind)
			}
		}
	}
	if w.horizon > o.horizon {
		return Different, w.grown(o)
	}
	return Convertible, "the windows changed, and the rows kept before suffice for them"
}

// grown says which part of the horizon is longer than it was.
func (w *Windows) grown(o *Windows) string {
	longest := func(p *plan) time.Duration { return time.Duration(p.horizon) - p.config.Retain }
	if a, b := longest(o.plan), longest(w.plan); b > a {
		return fmt.Sprintf("the longest window grew from %s to %s", hours(a), hours(b))
	}
	return fmt.Sprintf("the lateness allowed grew from %s to %s", hours(o.config.Retain), hours(w.config.Retain))
}

// hours writes a duration without the zeros behind it.
func hours(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// columnIn finds the old column that has a column's values, or −1. Rows without
// a label are told apart where they had no value.
func (w *Windows) columnIn(o *Windows, c *column) int {
	for _, exact := range []bool{true, false} {
		for i := range o.columns {
			x := &o.columns[i]
			if x.Field == c.Field && x.label == c.label && (x.begin == c.begin && x.null == c.null || !exact && x.label && x.null) {
				return i
			}
		}
	}
	return -1
}

// Adopt fills empty windows with the state of old, which stays as it is. All
// that the new windows hold is computed from the old one's entries. An error, of
// kind Config, says why that is not possible.
func (w *Windows) Adopt(old *Windows) error {
	if w.Keys() > 0 {
		return errkind.New(errkind.Config, "adopt a state: the windows have one already")
	}
	if keep, why := w.compatible(old); keep == Different {
		return errkind.Errorf(errkind.Config, "adopt a state: %s", why)
	}
	w.watermark = old.watermark
	from := make([]int, len(w.columns))
	for i := range from {
		from[i] = w.columnIn(old, &w.columns[i])
	}
	for k := range uint32(old.index.size()) {
		if r := old.ring(k); r.used() && r.start != r.tail {
			w.adoptKey(old, k, from)
		}
	}
	return nil
}

func (w *Windows) adoptKey(old *Windows, k uint32, from []int) {
	r := old.ring(k)
	now := old.standing(k)
	v := old.view(r)
	start := old.search(k, func(t uint64) bool { return uint64(now)-t < w.horizon })
	n := int(r.tail - start)
	if n == 0 {
		return
	}
	w.fillWords(n)
	for i := range n {
		e := v.at(start + uint32(i))
		for f := range w.columns {
			w.adoptWord(old, e, f, from[f], i)
		}
		if w.ids {
			w.words[w.idAt-1][i], w.words[w.idAt][i] = e[old.idAt], e[old.idAt+1]
		}
	}
	to, into := w.install(old.index.key(k), n, now)
	for i := range uint32(n) {
		e := into.at(i)
		w.write(e, int64(v.at(start + i)[0]), int(i))
		w.register(to, e, i)
	}
	w.unload(n)
	nulls := make([]bool, len(w.form))
	for f := range nulls {
		nulls[f] = true
	}
	w.derive(to, now, nulls)
	for i := range w.spans {
		for _, a := range w.spans[i].sums {
			w.settle(to, i, a)
		}
		for _, a := range w.spans[i].moments {
			if m := &w.keyMoments(to)[a.slot]; m.n > 0 {
				m.e2 = math.Inf(1) // nothing is summed yet
				w.settleMoments(to, i, a)
			}
		}
	}
}

// adoptWord takes over a value: row i of the loaded words has the one of an old entry.
func (w *Windows) adoptWord(old *Windows, e []uint64, to, from, i int) {
	c := &w.columns[to]
	switch {
	case !old.valid(e, from): // as a row without a label begins; words and marks of nulls are alike
		if c.label && w.ids {
			return
		}
		w.words[to][i] = e[1+from]
		if needsMask(c.Kind) {
			w.maskWords()[i] |= 1 << to
		}
	case c.Kind == event.String:
		w.words[to][i] = w.dict.hold(old.dict.text[e[1+from]])
	default:
		w.words[to][i] = e[1+from]
		if needsMask(c.Kind) {
			w.maskWords()[i] &^= 1 << to
		}
	}
}
