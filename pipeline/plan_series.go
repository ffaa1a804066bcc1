package pipeline

import (
	"math"
	"slices"
	"time"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

// seriesPlan is the resample step: rows of its columns take the place of the readings.
type seriesPlan struct {
	spec   *Resample
	fields []int // in the decoder's order
	out    []int
	flag   int // -1 without
}

// columns are those that the series has.
func (s *seriesPlan) columns() []int {
	if s.flag < 0 {
		return s.out
	}
	return append(slices.Clone(s.out), s.flag)
}

// disorder is how much earlier than a row of one key a later one of another key
// may be: a reading gives out the points of the gap before it. Without a series, zero.
func (s *seriesPlan) disorder() time.Duration {
	if s == nil {
		return 0
	}
	return s.spec.Limit
}

// reach is the time before which all rows of the series have come, once all
// readings before the watermark have.
func (s *seriesPlan) reach(watermark int64) int64 {
	d := int64(s.disorder())
	if watermark < math.MinInt64+d {
		return math.MinInt64
	}
	return watermark - d
}

// resampleStep plans the series. Behind it only its columns and the time are known.
func (p *planner) resampleStep(st *Resample) {
	s := &seriesPlan{spec: st, flag: -1}
	if st.By != "" && st.By != p.key {
		p.fault(st.byPos, "other-key", "use the source's key: "+p.key, "resample is by %q, but the source's key is %q", st.By, p.key)
	}
	if p.key == "" {
		p.fault(st.pos, "no-key", "add `key: FIELD` to source, or a key to the contract", "resample makes a series for each key, and the source has none")
	}
	var kinds []event.Kind
	for _, f := range st.Fields {
		c := p.find(f.Name, f.pos, "resample.fields")
		if c < 0 {
			return
		}
		kind := p.plan.columns[c].kind
		if f.Fill == feature.FillLinear && kind != event.Float && kind != event.Int {
			p.fault(f.pos, "field-type", "write last or none", "resample.fields: %q is a %s, and only numbers can be filled by a straight line", f.Name, kind)
		}
		if f.Fill == feature.FillLinear {
			kind = event.Float
		}
		s.fields = append(s.fields, slices.IndexFunc(p.plan.decode, func(d decodedField) bool { return d.column == c }))
		kinds = append(kinds, kind)
	}
	// The readings' columns are the decoder's alone from here on: the series' have their names.
	for _, d := range p.plan.decode {
		p.plan.columns[d.column].name = "reading " + d.path
	}
	p.plan.series = s
	for i, f := range st.Fields {
		s.out = append(s.out, p.add(f.Name, kinds[i], f.pos))
	}
	if st.Flag != "" {
		s.flag = p.add(st.Flag, event.Bool, st.pos)
		p.plan.results = append(p.plan.results, s.flag)
	}
}
