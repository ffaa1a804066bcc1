package pipeline

import (
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/model"
)

// results routes the rows of frames and writes them as JSON. It belongs to one task.
type results struct {
	plan      *Plan
	partition int
	maxRecord int // the broker's limit; 0 without

	routes []*exprStep // nil for the case that always holds
	holds  []event.Column
	ids    []*resultID           // by topic
	main   *inferPlan            // the step whose model a result names; nil without
	heads  map[*model.Arm][]byte // model, version and role
	tails  [][]byte              // static text by route: its name, the contract, the beginning of the features
	tables [][]byte              // `"lookup":` by Plan.lookups
	names  [][]byte              // `"feature":` by Plan.results, with the comma before it
	outs   []outName             // the outputs besides the score
	inputs []string              // names of what explanations attribute to
	order  []int
	scoreB int
	static event.Headers
	clock  clock
	source []byte
}

func newResults(p *Plan, topics []string, partition, maxRecord int) *results {
	r := &results{plan: p, partition: partition, maxRecord: maxRecord, scoreB: 64}
	r.holds = make([]event.Column, len(p.routes))
	for i, rt := range p.routes {
		var s *exprStep
		if rt.when != nil {
			s = newExprStep(rt.when)
			s.out = &r.holds[i]
		}
		r.routes = append(r.routes, s)
	}
	for _, t := range topics {
		r.ids = append(r.ids, newResultID(p.Spec.Name, t, p.Spec.Source.Topic))
	}
	for i, c := range p.results {
		var name []byte
		if i > 0 {
			name = append(name, ',')
		}
		r.names = append(r.names, append(appendString(name, p.columns[c].name), ':'))
	}
	for _, l := range p.lookups {
		name, _, _ := strings.Cut(p.columns[l.out[0]].name, ".")
		r.tables = append(r.tables, append(appendString(nil, name), ':'))
	}
	for i := range p.routes {
		tail := appendString([]byte(`,"route":`), p.routes[i].name)
		if v := p.Contract.Version; v != "" {
			tail = appendString(append(tail, `,"contract":`...), v)
		}
		r.tails = append(r.tails, append(tail, `,"features":{`...))
	}
	for _, ip := range p.infers {
		for i := range ip.outputs {
			o := &ip.outputs[i]
			if o.column >= 0 && o.column == ip.score {
				if o.f32 {
					r.scoreB = 32
				}
				continue
			}
			r.outs = append(r.outs, outName{append(appendString(nil, o.name), ':'), ip.index, o})
		}
	}
	r.heads = map[*model.Arm][]byte{}
	if r.main = p.main(); r.main != nil {
		r.inputs = r.main.names(p)
	}
	r.static = r.static.AppendString("ce_specversion", "1.0").
		AppendString("ce_type", "io.freshet.prediction").
		AppendString("ce_source", "/freshet/"+p.Spec.Name).
		AppendString("content-type", "application/json")
	return r
}

// write fills the frame's output records. A result too large for the broker
// becomes a dead letter.
func (r *results) write(f *frame) (predictions int) {
	for i, s := range r.routes {
		if s != nil {
			s.fill(f)
			r.holds[i].Name = r.plan.routes[i].name
		}
	}
	for i := range f.out {
		f.out[i] = f.out[i][:0]
	}
	f.route, f.results = sized(f.route, f.rows.N), sized(f.results, f.rows.N)
	for row := range f.rows.N {
		if f.skip[row] {
			continue
		}
		f.route[row] = r.choose(row)
		f.results[row] = nil
		rt := &r.plan.routes[f.route[row]]
		partition, position, trace := f.place(row, r.partition)
		r.source = appendSource(r.source[:0], f.rows.ID[row], partition, position)
		headers := r.headers(trace)
		tail := [2]int{-1, -1}
		for _, topic := range rt.to {
			from := len(f.arena)
			f.arena = append(f.arena, `{"id":"`...)
			id := len(f.arena)
			f.arena = r.ids[topic].append(f.arena, r.source)
			if tail[0] < 0 {
				tail[0] = len(f.arena)
				f.arena = r.body(f.arena, f, row)
				tail[1] = len(f.arena)
			} else {
				f.arena = append(f.arena, f.arena[tail[0]:tail[1]]...)
			}
			out := event.Record{
				ID:      f.arena[id : id+idLength : id+idLength],
				Key:     keyBytes(f.rows.Key[row]),
				Headers: headers,
				Value:   f.arena[from:len(f.arena):len(f.arena)],
			}
			if r.maxRecord > 0 && out.Size() > r.maxRecord {
				f.refuse(row, r.partition, "result_too_large", "route", 1,
					errkind.Errorf(errkind.Invalid, "the result has %d bytes, and topic %q takes at most %d", out.Size(), r.plan.Spec.topics()[topic], r.maxRecord))
				break
			}
			f.out[topic] = append(f.out[topic], out)
			if f.results[row] == nil {
				f.results[row] = out.ID
			}
		}
		if !f.skip[row] {
			predictions++
		}
	}
	return predictions
}

func (r *results) choose(row int) int {
	for i, s := range r.routes {
		if s == nil || !r.holds[i].IsNull(row) && r.holds[i].Bools[row] {
			return i
		}
	}
	return len(r.routes) - 1
}

// headers are the CloudEvents attributes of a result, with the trace of its event.
func (r *results) headers(from event.Headers) event.Headers {
	if len(from) == 0 {
		return r.static
	}
	h := r.static
	for _, name := range [...]string{"traceparent", "tracestate"} {
		if v, ok := from.Get(name); ok {
			h = h[:len(h):len(h)].Append(name, v)
		}
	}
	return h
}

// body writes a result from behind its id to its end.
func (r *results) body(b []byte, f *frame, row int) []byte {
	p := r.plan
	b = append(b, `","source_id":`...)
	b = appendString(b, r.source)
	b = append(b, `,"time":"`...)
	b = r.clock.append(b, f.rows.Time[row])
	b = append(b, '"')
	if k := f.rows.Key[row]; k != "" {
		b = append(b, `,"key":`...)
		b = appendString(b, k)
	}
	if r.main != nil {
		b = r.answer(b, f, row)
	}
	b = append(b, r.tails[f.route[row]]...)
	for i, c := range p.results {
		b = append(b, r.names[i]...)
		b = appendValue(b, f.columns[c], row, 64, &r.clock)
	}
	b = append(b, '}')
	if len(p.lookups) > 0 {
		b = r.lookups(b, f, row)
	}
	return append(b, '}')
}

// lookups says whether everything looked up was there, and of when it is.
func (r *results) lookups(b []byte, f *frame, row int) []byte {
	complete := true
	for _, l := range r.plan.lookups {
		complete = complete && f.columns[l.found].Bools[row]
	}
	b = strconv.AppendBool(append(b, `,"features_complete":`...), complete)
	open := false
	for i, l := range r.plan.lookups {
		if l.at < 0 || f.columns[l.at].IsNull(row) {
			continue
		}
		if !open {
			b = append(b, `,"feature_times":{`...)
			open = true
		} else {
			b = append(b, ',')
		}
		b = append(b, r.tables[i]...)
		b = append(r.clock.append(append(b, '"'), f.columns[l.at].Ints[row]), '"')
	}
	if open {
		b = append(b, '}')
	}
	return b
}

func appendValue(b []byte, c *event.Column, row, bits int, t *clock) []byte {
	if c.IsNull(row) {
		return append(b, "null"...)
	}
	switch c.Kind {
	case event.Float:
		return appendNumber(b, c.Floats[row], bits)
	case event.Int:
		return appendInt(b, c.Ints[row])
	case event.Bool:
		if c.Bools[row] {
			return append(b, "true"...)
		}
		return append(b, "false"...)
	case event.Time:
		return append(t.append(append(b, '"'), c.Ints[row]), '"')
	}
	return appendString(b, c.Strings[row])
}
