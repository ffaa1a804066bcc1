package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

// loadTables reads every table's fields, to report what is wrong with it at its own place.
func (p *planner) loadTables() {
	used := map[string]bool{}
	for _, st := range p.spec.Steps {
		if f, ok := st.(*Features); ok {
			for _, it := range f.Items {
				if it.Lookup != nil {
					used[it.Lookup.Table] = true
				}
			}
		}
	}
	for i := range p.spec.Tables {
		t := &p.spec.Tables[i]
		if !used[t.Name] {
			p.fault(t.pos, "unused-table", "take it out, or look something up in it", "no feature looks anything up in the table %q", t.Name)
			continue
		}
		p.tables[t.Name] = p.loadTable(t)
	}
}

func (p *planner) loadTable(t *Table) *loadedTable {
	l := &loadedTable{spec: t}
	switch {
	case t.File != "":
		table, err := feature.LoadTable(p.spec.path(t.File), t.Key, nil)
		if err != nil {
			p.fault(t.pos, "table", "paths are relative to the pipeline file", "table %q: %v", t.Name, err)
			return l
		}
		for _, f := range table.Fields() {
			l.fields = append(l.fields, TableField{Name: f.Name, Kind: f.Kind})
		}
		if t.Time != "" {
			if _, err := feature.LoadTimes(p.spec.path(t.File), t.Key, t.Time); err != nil {
				p.fault(t.pos, "table", "", "table %q: %v", t.Name, err)
			}
		}
	case t.Topic != "":
		c, err := contract.Load(p.spec.path(t.Contract))
		if err != nil {
			p.contractFault(t.contractPos, t.Contract, err)
			return l
		}
		for _, f := range c.Fields() {
			l.fields = append(l.fields, TableField{Name: f.Path, Kind: f.Kind})
		}
		for _, name := range []string{t.Key, t.Time} {
			if _, ok := c.Field(name); name != "" && !ok {
				p.fault(t.pos, "unknown-field", didYouMean(name, fieldNames(c)), "table %q: the contract %s has no field %q", t.Name, t.Contract, name)
			}
		}
	default:
		l.fields = t.Fields
	}
	l.known = true
	return l
}

// loadedTable is a table of the file with its fields, where they are known.
type loadedTable struct {
	spec   *Table
	fields []TableField
	known  bool
}

// kind finds a field of the table.
func (t *loadedTable) kind(name string) (event.Kind, bool) {
	for _, f := range t.fields {
		if f.Name == name {
			return f.Kind, true
		}
	}
	return 0, false
}

func (t *loadedTable) names() (names []string) {
	for _, f := range t.fields {
		names = append(names, f.Name)
	}
	return names
}

func (p *planner) lookupFeature(it *FeatureItem) {
	l, what := it.Lookup, "feature "+it.Name
	table := p.tables[l.Table]
	if table == nil {
		names := make([]string, 0, len(p.spec.Tables))
		for _, t := range p.spec.Tables {
			names = append(names, t.Name)
		}
		remedy := didYouMean(l.Table, names)
		if len(names) == 0 {
			remedy = "declare it: `tables: {" + l.Table + ": {file: …, key: …}}`"
		}
		p.fault(l.tablePos, "unknown-table", remedy, "%s: there is no table %q", what, l.Table)
	}
	key := p.find(l.Key, l.keyPos, what)
	if key >= 0 && p.plan.columns[key].kind != event.String && p.plan.columns[key].kind != event.Int {
		p.fault(l.keyPos, "field-type", "choose a text or an integer field", "%s: the key %q is a %s", what, l.Key, p.plan.columns[key].kind)
	}
	readable := table != nil && table.known
	lp := &lookupPlan{key: key, at: -1}
	var ages []int
	for i, f := range l.Fields {
		if name, ok := strings.CutSuffix(f, ageSuffix); ok && slices.Contains(l.Fields, name) {
			ages = append(ages, i)
			continue
		}
		kind := event.Float
		if readable {
			var found bool
			if kind, found = table.kind(f); !found {
				p.fault(l.fieldPos[i], "unknown-field", didYouMean(f, table.names()), "%s: the table %q has no column %q", what, l.Table, f)
				readable = false
			}
		}
		out := p.add(it.Name+"."+f, kind, it.pos)
		p.plan.results = append(p.plan.results, out)
		lp.out, lp.fields, lp.kinds = append(lp.out, out), append(lp.fields, f), append(lp.kinds, kind)
		var def *Literal
		if d, ok := l.Default[f]; ok {
			if def = &d; !d.fits(kind) && readable {
				p.fault(d.pos, "field-type", fmt.Sprintf("write a %s", kind), "%s: the default of %q is a %s, and the column a %s", what, f, d.Kind, kind)
			}
		}
		lp.defaults = append(lp.defaults, def)
	}
	if !readable {
		return
	}
	lp.spec = table.spec
	lp.found = p.add(it.Name+" found", event.Bool, it.pos)
	if lp.spec.hasTimes() {
		lp.at = p.add(it.Name+" time", event.Time, it.pos)
	}
	p.plan.lookups = append(p.plan.lookups, lp)
	p.step(lp)
	for _, i := range ages {
		if c, ok := p.ageColumn(it.Name+"."+l.Fields[i], l.fieldPos[i], what); ok && c >= 0 {
			p.plan.results = append(p.plan.results, c)
		}
	}
}

// ageSuffix behind a looked-up field's name names its age in seconds.
const ageSuffix = "@age"

// ageColumn finds or makes the column with the age of a looked-up value. It is
// not ok where the name is not that of an age.
func (p *planner) ageColumn(name string, pos Pos, what string) (column int, ok bool) {
	field, ok := strings.CutSuffix(name, ageSuffix)
	if !ok {
		return -1, false
	}
	for _, l := range p.plan.lookups {
		for _, c := range l.out {
			if p.plan.columns[c].name != field {
				continue
			}
			if l.at < 0 {
				p.fault(pos, "no-time", "add `time: FIELD` to the table", "%s: the rows of the table %q have no time, so there is no %s", what, l.spec.Name, name)
				return -1, true
			}
			age := p.add(name, event.Float, pos)
			l.ages = append(l.ages, age)
			return age, true
		}
	}
	return -1, false
}

// hasTimes reports whether the table's rows carry the time of their values.
func (t *Table) hasTimes() bool {
	return t.Time != "" || t.Topic != "" || strings.HasPrefix(t.URL, "feast+")
}
