package contract

import (
	"math/bits"
	"slices"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Options says what a Decoder extracts. Zero values mean the contract's own.
type Options struct {
	// Fields are the dotted paths of the columns, in their order in Rows.
	Fields []string
	// ID and Key name other fields for the event's id and key.
	ID, Key string
	// Time replaces what of the contract's rule is not zero here.
	Time TimeRule
	// MaxBytes is the largest payload taken, envelope included; 0 means 1 MiB.
	MaxBytes int
}

const defaultMaxBytes = 1 << 20

// plan is a node as one decoder uses it: what to extract, and what it has
// learned of the order in which properties come.
type plan struct {
	*node
	sink       *sink
	props      []planProperty // the node's, and after them undeclared ones that are extracted
	index      map[string]int
	required   uint64   // of the first 64 properties
	others     []int    // required properties beyond them
	next       []int32  // per property, and last for the beginning: which one followed it last time; −1: none yet
	seen       []uint32 // per property beyond the first 64: the visit in which it came
	visit      uint32
	additional *plan // nil: anything, and nothing to extract
	prefix     []*plan
	items      *plan
}

type planProperty struct {
	quoted string // the name as it is usually written, with its quotes
	name   string
	plan   *plan // nil: anything, and nothing to extract
}

// sink is where a scalar goes.
type sink struct {
	column        int // −1: none
	kind          event.Kind
	loose         bool // a Time column that follows the rule for event times
	id, key, time bool
}

// NewDecoder makes a decoder for one goroutine. A path that the schema does not
// have, or that is not a scalar, is a Config error. Where the schema declares
// no properties at all, id, key and time may still be taken from any path.
func (c *Contract) NewDecoder(o Options) (*Decoder, error) {
	d := &Decoder{maxBytes: o.MaxBytes, rule: c.Time, idPath: c.ID, keyPath: c.Key}
	if d.maxBytes <= 0 {
		d.maxBytes = defaultMaxBytes
	}
	if o.ID != "" {
		d.idPath = o.ID
	}
	if o.Key != "" {
		d.keyPath = o.Key
	}
	if o.Time.Field != "" {
		d.rule.Field = o.Time.Field
	}
	if o.Time.Ahead != 0 {
		d.rule.Ahead = o.Time.Ahead
	}
	if !o.Time.Earliest.IsZero() {
		d.rule.Earliest = o.Time.Earliest
	}
	var ok bool
	if d.earliest, ok = (instant{seconds: d.rule.Earliest.Unix(), nanos: int64(d.rule.Earliest.Nanosecond())}).unixNano(); !ok {
		return nil, errkind.Errorf(errkind.Config, "make decoder: the earliest time %v is outside the years 1678 to 2262", d.rule.Earliest)
	}
	d.root = newPlan(c.root)
	for i, path := range o.Fields {
		f, ok := c.Field(path)
		if !ok {
			return nil, errkind.Errorf(errkind.Config, "make decoder for contract %s: %s", c.Name, c.unknownField(path))
		}
		s := d.root.sinkAt(path)
		if s.column >= 0 {
			return nil, errkind.Errorf(errkind.Config, "make decoder for contract %s: field %s is asked for twice", c.Name, path)
		}
		s.column, s.kind, s.loose = i, f.Kind, path == c.Time.Field
		d.columns = append(d.columns, event.Column{Name: path, Kind: f.Kind})
	}
	d.stamps = make([]uint32, len(d.columns))
	for _, role := range []struct {
		path string
		set  func(*sink)
	}{
		{d.idPath, func(s *sink) { s.id = true }},
		{d.keyPath, func(s *sink) { s.key = true }},
		{d.rule.Field, func(s *sink) { s.time = true }},
	} {
		if role.path == "" {
			continue
		}
		if why := c.unfit(role.path, role.path == d.rule.Field); why != "" {
			return nil, errkind.Errorf(errkind.Config, "make decoder for contract %s: %s", c.Name, why)
		}
		role.set(d.root.sinkAt(role.path))
	}
	d.root.finish()
	return d, nil
}

func newPlan(n *node) *plan {
	if n == nil {
		return nil
	}
	p := &plan{node: n, index: n.index, additional: newPlan(n.additional), items: newPlan(n.items)}
	for i, x := range n.props {
		p.props = append(p.props, planProperty{name: x.name, plan: newPlan(x.node)})
		switch {
		case x.required && i < 64:
			p.required |= 1 << i
		case x.required:
			p.others = append(p.others, i)
		}
	}
	for _, x := range n.prefix {
		p.prefix = append(p.prefix, newPlan(x))
	}
	return p
}

// sinkAt returns the sink at a path, making it and what leads to it.
func (p *plan) sinkAt(path string) *sink {
	for seg := range strings.SplitSeq(path, ".") {
		i, ok := p.index[seg]
		if !ok {
			i = len(p.props)
			index := map[string]int{seg: i}
			for k, v := range p.index {
				index[k] = v
			}
			p.index = index
			p.props = append(p.props, planProperty{name: seg})
		}
		x := &p.props[i]
		if x.plan == nil {
			x.plan = &plan{node: newNode()}
		}
		p = x.plan
	}
	if p.sink == nil {
		p.sink = &sink{column: -1}
	}
	return p.sink
}

// finish drops the parts of a plan that do nothing, and makes room for what it
// learns. It reports whether anything is left.
func (p *plan) finish() bool {
	if p == nil {
		return false
	}
	busy := p.sink != nil || !p.unrestricted
	for i := range p.props {
		x := &p.props[i]
		if !strings.ContainsFunc(x.name, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r == '\uFFFD' }) {
			x.quoted = `"` + x.name + `"`
		}
		if !x.plan.finish() {
			x.plan = nil
		}
		busy = busy || x.plan != nil
	}
	for i := range p.prefix {
		if !p.prefix[i].finish() {
			p.prefix[i] = nil
		}
	}
	if !p.additional.finish() {
		p.additional = nil
	}
	if !p.items.finish() {
		p.items = nil
	}
	p.next = make([]int32, len(p.props)+1)
	for i := range p.next { // at first, the order of the schema
		p.next[i] = int32(i + 1)
	}
	if last := len(p.props); last > 0 {
		p.next[last], p.next[last-1] = 0, -1
	} else {
		p.next[0] = -1
	}
	p.seen = make([]uint32, max(len(p.props)-64, 0))
	return busy
}

// expect returns the property that came after the property last the last time,
// or −1 where the text at i is not its name.
func (p *plan) expect(b []byte, i, last int) (k, end int) {
	k = int(p.next[last])
	if k < 0 {
		return -1, 0
	}
	q := p.props[k].quoted
	end = i + len(q)
	if q == "" || end > len(b) || string(b[i:end]) != q {
		return -1, 0
	}
	return k, end
}

// mark notes that property k came and reports whether it had come before in this object.
func (p *plan) mark(k int, mask *uint64) (again bool) {
	if k < 64 {
		again = *mask>>k&1 != 0
		*mask |= 1 << k
		return again
	}
	again = p.seen[k-64] == p.visit
	p.seen[k-64] = p.visit
	return again
}

// missing returns the name of a required property that did not come.
func (p *plan) missing(mask uint64) (name string, ok bool) {
	if left := p.required &^ mask; left != 0 {
		return p.props[bits.TrailingZeros64(left)].name, true
	}
	for _, k := range p.others {
		if p.seen[k-64] != p.visit {
			return p.props[k].name, true
		}
	}
	return "", false
}

func (p *plan) enter() {
	if len(p.seen) > 0 {
		if p.visit++; p.visit == 0 { // all 2^32 used up: forget them
			clear(p.seen)
			p.visit = 1
		}
	}
}

// never reports whether no value is allowed.
func (n *node) never() bool { return n.types == 0 }

// oneOfEnums reports whether a scalar is in all of the node's enumerations.
func (n *node) oneOfEnums(in func(*enumeration) bool) *enumeration {
	if i := slices.IndexFunc(n.enums, func(e *enumeration) bool { return !in(e) }); i >= 0 {
		return n.enums[i]
	}
	return nil
}
