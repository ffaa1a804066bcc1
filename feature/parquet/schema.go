package parquet

import (
	"slices"
	"time"

	"github.com/freshet-io/freshet/event"
)

// Column is a named value of a row.
type Column struct {
	Name string
	Kind event.Kind
}

// Feature is a feature of the pipeline, or a field that feeds its model.
type Feature struct {
	Column
	// Delay is that of a delayed window, whose value is as of that long before the
	// event; it makes the column NAME@time.
	Delay time.Duration
	// Timed makes the column NAME@time for the time that results give the feature.
	Timed bool
}

// The columns that every export has, in order.
const (
	colID = iota
	colResultID
	colKey
	colTime
	colArrival
	colPublished
	colModel
	colVersion
	colContract
	colRoute
	colFallback
	colComplete
	colScore
	fixedColumns
)

// column is a column of the files.
type column struct {
	name string
	kind event.Kind
	// dictionary says that values are expected to repeat.
	dictionary bool
}

// schema is the columns of an export and where each member of a result goes.
// It grows while it learns: results of an earlier version of the pipeline can have
// features that this one does not have, or of other kinds.
type schema struct {
	columns []column
	names   map[string]bool
	// of finds the column of a member by its role and name.
	of     [roles]map[string]int
	delays []delayed
	// featureNames are the columns of features, in order.
	featureNames []string
	labelTime    int // −1 without labels
	labels       []int
	// changed says that something was learnt.
	changed bool
}

// role is where in a result a value stands.
type role uint8

const (
	output role = iota
	featureValue
	featureTime
	roles
)

type delayed struct {
	column int
	by     time.Duration
}

// newSchema lays the columns out: fixed ones, outputs, features, their times, labels.
// learnt are features, times and outputs that only the results know of.
func newSchema(o *Options, labels []Column) *schema {
	// The folders' names are columns to those who read them.
	s := &schema{names: map[string]bool{"date": true, "hour": true}, labelTime: -1}
	for r := range s.of {
		s.of[r] = map[string]int{}
	}
	for _, c := range []column{
		{"id", event.String, false}, {"result_id", event.String, false}, {"key", event.String, true},
		{"time", event.Time, false}, {"arrival", event.Time, false}, {"published", event.Time, false},
		{"model", event.String, true}, {"version", event.String, true}, {"contract", event.String, true},
		{"route", event.String, true}, {"fallback", event.Bool, false}, {"features_complete", event.Bool, false},
		{"score", event.Float, false},
	} {
		s.add(c.name, c)
	}
	for _, c := range o.Outputs {
		if c.Name == "score" {
			s.columns[colScore].kind = c.Kind
			continue
		}
		s.addMember(output, c)
	}
	for _, f := range o.Features {
		s.addMember(featureValue, f.Column)
	}
	for _, f := range o.Features {
		if f.Delay > 0 || f.Timed {
			at := s.addMember(featureTime, Column{f.Name, event.Time})
			if f.Delay > 0 {
				s.delays = append(s.delays, delayed{at, f.Delay})
			}
		}
	}
	for _, name := range o.times {
		s.addMember(featureTime, Column{name, event.Time})
	}
	if labels != nil {
		s.labelTime = s.add("label_time", column{kind: event.Time})
		for _, c := range labels {
			s.labels = append(s.labels, s.add("label."+c.Name, column{kind: c.Kind, dictionary: true}))
		}
	}
	return s
}

// add gives a column its name; one that is taken gets an underscore behind it.
func (s *schema) add(name string, c column) int {
	for s.names[name] {
		name += "_"
	}
	s.names[name] = true
	c.name = name
	s.columns = append(s.columns, c)
	return len(s.columns) - 1
}

// addMember gives a value of results its column.
func (s *schema) addMember(r role, c Column) int {
	if at, ok := s.of[r][c.Name]; ok {
		return at
	}
	name := c.Name
	switch {
	case r == featureTime:
		name += "@time"
	case s.names[name]:
		name = [...]string{output: "output.", featureValue: "feature."}[r] + name
	}
	at := s.add(name, column{kind: c.Kind, dictionary: r != output || c.Kind == event.String})
	s.of[r][c.Name] = at
	if r == featureValue {
		s.featureNames = append(s.featureNames, s.columns[at].name)
	}
	return at
}

// learn makes the column for a value that none is there for.
func (s *schema) learn(r role, c Column) {
	s.changed = true
	s.addMember(r, c)
}

// widen makes a column take a value of another kind: whole numbers become
// numbers where one has a fraction, anything else text.
func (s *schema) widen(at int, kind event.Kind) {
	c := &s.columns[at]
	s.changed = true
	switch {
	case c.kind == event.Int && kind == event.Float:
		c.kind = event.Float
	default:
		c.kind = event.String
	}
}

// relaid is the schema with what was learnt, in the order of a new one.
func (s *schema) relaid(o Options, labels []Column) *schema {
	inOrder := func(r role) (names []string) {
		for name := range s.of[r] {
			names = append(names, name)
		}
		slices.SortFunc(names, func(a, b string) int { return s.of[r][a] - s.of[r][b] })
		return names
	}
	known := map[string]Feature{}
	for _, f := range o.Features {
		known[f.Name] = f
	}
	o.Features = nil
	for _, name := range inOrder(featureValue) {
		f := known[name]
		f.Name, f.Kind = name, s.columns[s.of[featureValue][name]].kind
		o.Features = append(o.Features, f)
	}
	o.Outputs = []Column{{"score", s.columns[colScore].kind}}
	for _, name := range inOrder(output) {
		o.Outputs = append(o.Outputs, Column{name, s.columns[s.of[output][name]].kind})
	}
	o.times = inOrder(featureTime)
	return newSchema(&o, labels)
}
