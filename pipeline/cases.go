package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Case is one test of a pipeline: events in, expected outcomes out.
type Case struct {
	File   string
	Name   string
	Line   int
	Events []CaseEvent
}

// CaseEvent is one event of a case, and what has to become of it.
type CaseEvent struct {
	// Payload is sent as it is.
	Payload []byte
	// Label says that it goes to the labels' topic.
	Label bool
	// Expect is what the outcome must contain; nil where nothing is expected.
	Expect *yaml.Node
	Line   int
}

// CaseResult is what became of a case.
type CaseResult struct {
	File string `json:"file"`
	Name string `json:"name"`
	Line int    `json:"line"`
	// Differences are the expectations that did not hold, each on one line; none means passed.
	Differences []string `json:"differences,omitempty"`
	// Error is set where the case could not be run.
	Error string `json:"error,omitempty"`
}

// Passed reports whether every expectation held.
func (r *CaseResult) Passed() bool { return len(r.Differences) == 0 && r.Error == "" }

// LoadCases reads a file of cases:
//
//	cases:
//	  - name: a large payment is an alert
//	    events:
//	      - send: {transaction_id: 1, tx_amount: 500.0}
//	        expect: {route: fraud-alerts, score: {at_least: 0.7}}
//	      - label: {transaction_id: 1, fraud: 1, known_at: "2026-01-08T12:00:00Z"}
//	      - send: not JSON          # a text is sent as it is
//	        expect: {dead_letter: invalid_json}
func LoadCases(path string) ([]Case, []Fault) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, []Fault{{File: path, Rule: "file", Message: err.Error(), Remedy: "check the path"}}
	}
	r := &reader{file: path, env: os.LookupEnv}
	root := r.document(data)
	if root == nil {
		return nil, r.faults
	}
	var cases []Case
	m := r.fields(root, "the file", "cases")
	n, ok := r.need(root, m, "the file", "cases", "cases: [{name: …, events: […]}]")
	if !ok {
		return nil, r.faults
	}
	for _, cn := range r.items(n, "cases") {
		c := Case{File: path, Line: cn.Line}
		cm := r.fields(cn, "case", "name", "events")
		if x, ok := r.need(cn, cm, "case", "name", "name: what it shows"); ok {
			c.Name = r.str(x, "name")
		}
		if x, ok := r.need(cn, cm, "case", "events", "events: [{send: {…}, expect: {…}}]"); ok {
			for _, en := range r.items(x, "events") {
				c.Events = append(c.Events, r.caseEvent(en))
			}
		}
		cases = append(cases, c)
	}
	return cases, r.faults
}

func (r *reader) caseEvent(n *yaml.Node) CaseEvent {
	e := CaseEvent{Line: n.Line}
	m := r.fields(n, "event", "send", "label", "expect")
	if s := m["label"]; s != nil {
		e.Label = true
		for _, k := range []string{"send", "expect"} {
			if x := m[k]; x != nil {
				r.fault(posOf(x), "label-case", "begin another event", "a label has no %q: what it does shows in later events", k)
			}
		}
		e.Payload = appendYAML(nil, s)
		return e
	}
	if s, ok := r.need(n, m, "event", "send", "send: {…}, or label: {…}"); ok {
		if s.Kind == yaml.ScalarNode && s.Tag == "!!str" {
			e.Payload = []byte(s.Value)
		} else {
			e.Payload = appendYAML(nil, s)
		}
	}
	if x := m["expect"]; x != nil {
		r.entries(x, "expect")
		e.Expect = x
	}
	return e
}

// appendYAML writes a YAML value as JSON; numbers keep their spelling.
func appendYAML(b []byte, n *yaml.Node) []byte {
	n = deref(n)
	switch n.Kind {
	case yaml.MappingNode:
		b = append(b, '{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, n.Content[i].Value), ':')
			b = appendYAML(b, n.Content[i+1])
		}
		return append(b, '}')
	case yaml.SequenceNode:
		b = append(b, '[')
		for i, c := range n.Content {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendYAML(b, c)
		}
		return append(b, ']')
	}
	switch n.Tag {
	case "!!null":
		return append(b, "null"...)
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return append(b, n.Value...)
		}
	case "!!bool":
		return strconv.AppendBool(b, n.Value == "true")
	}
	return appendString(b, n.Value)
}

// CaseDeps is what cases are run with.
type CaseDeps struct {
	OpenModel ModelOpener
	// NewBroker makes an empty broker for one case, and says how to remove it.
	NewBroker func() (b *broker.Broker, remove func() error, err error)
	Env       func(string) (string, bool)
}

// RunCase runs one case of the pipeline in a file, from the events' topic to
// the outcome of each, on a broker of its own with one partition a topic.
func RunCase(ctx context.Context, file string, c *Case, d CaseDeps) (res CaseResult) {
	res = CaseResult{File: c.File, Name: c.Name, Line: c.Line}
	outcomes, err := runCase(ctx, file, c, d)
	if err != nil {
		res.Error = err.Error()
		return res
	}
	for i, e := range c.Events {
		if e.Expect == nil {
			continue
		}
		for _, d := range compare("", e.Expect, outcomes[i]) {
			res.Differences = append(res.Differences, fmt.Sprintf("%s:%d: event %d: %s", c.File, e.Line, i+1, d))
		}
	}
	return res
}

// runCase returns what became of each event: the result as JSON, with `to`
// holding its topics, or {"dead_letter": reason, …}, or {"duplicate": true}.
func runCase(ctx context.Context, file string, c *Case, d CaseDeps) (outcomes []map[string]any, err error) {
	spec, faults := Load(file, d.Env)
	if len(faults) > 0 {
		return nil, Error(faults)
	}
	spec.Source.Partitions = 1
	// Cases judge what is computed: they need no queue and no database.
	spec.Source.From = ""
	for i := range spec.Outputs {
		spec.Outputs[i].Also = nil
	}
	plan, faults := MakePlan(spec, d.OpenModel)
	if len(faults) > 0 {
		return nil, Error(faults)
	}
	b, remove, err := d.NewBroker()
	if err != nil {
		return nil, fmt.Errorf("make a broker: %w", err)
	}
	defer func() {
		if rerr := remove(); rerr != nil && err == nil {
			err = rerr
		}
	}()
	p, err := New(plan, Deps{Broker: b})
	if err != nil {
		return nil, err
	}
	sources := make([]string, len(c.Events))
	outcomes = make([]map[string]any, len(c.Events))
	if err := b.CreateTopic(ctx, broker.TopicConfig{Name: spec.Source.Topic, Partitions: 1, DedupWindow: DedupWindow}); err != nil {
		return nil, err
	}
	position := 0
	if l := spec.Labels; l != nil {
		if err := b.CreateTopic(ctx, broker.TopicConfig{Name: l.Topic, Partitions: 1}); err != nil {
			return nil, err
		}
	}
	for i, e := range c.Events {
		rec := event.Record{Value: e.Payload}
		if e.Label {
			if spec.Labels == nil {
				return nil, errkind.Errorf(errkind.Config, "event %d is a label, and the pipeline has no labels", i+1)
			}
			if _, err := b.Publish(ctx, spec.Labels.Topic, []event.Record{rec}); err != nil {
				return nil, fmt.Errorf("send label %d: %w", i+1, err)
			}
			continue
		}
		rec.ID, rec.Key, _, _ = plan.Contract.Envelope(e.Payload)
		pub, err := b.Publish(ctx, spec.Source.Topic, []event.Record{rec})
		if err != nil {
			return nil, fmt.Errorf("send event %d: %w", i+1, err)
		}
		if pub.Duplicates > 0 {
			outcomes[i] = map[string]any{"duplicate": true}
			continue
		}
		sources[i] = fmt.Sprintf("@0/%d", position)
		position++
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := p.Run(ctx, RunOptions{UntilIdle: true}); err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	byID := map[string]map[string]any{}
	for _, t := range spec.topics() {
		if err := collect(ctx, b, t, byID); err != nil {
			return nil, err
		}
	}
	letters := map[string]map[string]any{}
	if err := collectLetters(ctx, b, spec.DeadLetters(), spec.Source.Topic, letters); err != nil {
		return nil, err
	}
	for i, e := range c.Events {
		if outcomes[i] != nil || e.Label {
			continue
		}
		id, _, _, _ := plan.Contract.Envelope(e.Payload)
		switch {
		case letters[sources[i]] != nil:
			outcomes[i] = letters[sources[i]]
		case plan.series != nil:
			outcomes[i] = byID[plan.lastPoint(e.Payload)]
		case byID[string(id)] != nil && len(id) > 0:
			outcomes[i] = byID[string(id)]
		default:
			outcomes[i] = byID[sources[i]]
		}
	}
	return outcomes, nil
}

// lastPoint is the id of the newest point of its series that a reading can give out.
func (p *Plan) lastPoint(payload []byte) string {
	src := &p.Spec.Source
	d, err := p.Contract.NewDecoder(contract.Options{Key: src.Key, Time: src.timeRule(p.Contract), MaxBytes: src.MaxBytes})
	if err != nil {
		return ""
	}
	var rows contract.Rows
	d.Decode([]event.Record{{Value: payload, Time: time.Now().UnixNano()}}, &rows)
	if rows.N == 0 {
		return ""
	}
	return string(appendPoint(nil, rows.Key[0], floorTime(rows.Time[0], p.series.spec.Every)))
}

// collect reads the results of a topic by the id of their source event.
func collect(ctx context.Context, b *broker.Broker, topic string, byID map[string]map[string]any) error {
	return readAll(ctx, b, topic, func(v map[string]any) {
		id, _ := v["source_id"].(string)
		if have := byID[id]; have != nil {
			have["to"] = append(have["to"].([]any), topic)
			return
		}
		v["to"] = []any{topic}
		byID[id] = v
	})
}

// collectLetters reads the dead letters by the position of their event.
func collectLetters(ctx context.Context, b *broker.Broker, topic, source string, by map[string]map[string]any) error {
	return readAll(ctx, b, topic, func(v map[string]any) {
		origin, _ := v["origin"].(map[string]any)
		if origin["topic"] != source {
			return // a label's
		}
		v["dead_letter"] = v["reason"]
		by[fmt.Sprintf("@0/%v", origin["position"])] = v
	})
}

func readAll(ctx context.Context, b *broker.Broker, topic string, each func(map[string]any)) error {
	t, err := b.Describe(ctx, topic, "")
	if err != nil {
		return err
	}
	for i, part := range t.Partitions {
		if part.Start == part.End {
			continue
		}
		r, err := b.Read(ctx, topic, i, part.Start)
		if err != nil {
			return err
		}
		for next := part.Start; next < part.End; {
			batch, err := r.Fetch(ctx, 1024)
			if err != nil {
				return errors.Join(err, r.Close())
			}
			for j := range batch.Records {
				var v map[string]any
				if err := json.Unmarshal(batch.Records[j].Value, &v); err != nil {
					return errkind.Errorf(errkind.Corrupt, "topic %s holds a record that is not JSON: %w", topic, err)
				}
				each(v)
			}
			next = batch.Next()
			batch.Release()
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

// compare lists where what is expected does not hold of what was got.
func compare(path string, want *yaml.Node, got any) (diffs []string) {
	want = deref(want)
	name := path
	if name == "" {
		name = "the outcome"
	}
	differ := func(expected string) []string {
		return []string{fmt.Sprintf("%s: expected %s, got %s", name, expected, show(got))}
	}
	switch want.Kind {
	case yaml.MappingNode:
		if bounds, ok := boundsOf(want); ok {
			v, isNumber := got.(float64)
			for _, b := range bounds {
				if !isNumber || !b.holds(v) {
					diffs = append(diffs, differ(b.words+" "+strconv.FormatFloat(b.limit, 'g', -1, 64))...)
				}
			}
			return diffs
		}
		m, ok := got.(map[string]any)
		if !ok {
			return differ("a mapping")
		}
		for i := 0; i+1 < len(want.Content); i += 2 {
			k := want.Content[i].Value
			v, there := m[k]
			if !there {
				diffs = append(diffs, fmt.Sprintf("%s: expected %s, got nothing%s", join(path, k), showNode(want.Content[i+1]), instead(m)))
				continue
			}
			diffs = append(diffs, compare(join(path, k), want.Content[i+1], v)...)
		}
		return diffs
	case yaml.SequenceNode:
		list, ok := got.([]any)
		if !ok || len(list) != len(want.Content) {
			return differ(showNode(want))
		}
		for i, n := range want.Content {
			diffs = append(diffs, compare(fmt.Sprintf("%s[%d]", path, i), n, list[i])...)
		}
		return diffs
	}
	if !scalarEqual(want, got) {
		return differ(showNode(want))
	}
	return nil
}

// instead says what an event became where the outcome has another form than expected.
func instead(m map[string]any) string {
	if m["dead_letter"] != nil {
		return fmt.Sprintf(" (the event became a dead letter: %v: %v)", m["dead_letter"], m["error"])
	}
	if m["duplicate"] != nil {
		return " (the event was dropped as a duplicate)"
	}
	if m["route"] != nil && m["features"] != nil {
		return fmt.Sprintf(" (the event was scored: route %v)", m["route"])
	}
	return ""
}

type bound struct {
	words string
	limit float64
	holds func(float64) bool
}

// boundsOf reads {at_least: 1, below: 2}; ok is false for an ordinary mapping.
func boundsOf(n *yaml.Node) (bs []bound, ok bool) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		limit, err := strconv.ParseFloat(n.Content[i+1].Value, 64)
		if err != nil {
			return nil, false
		}
		b := bound{words: strings.ReplaceAll(n.Content[i].Value, "_", " "), limit: limit}
		switch n.Content[i].Value {
		case "at_least":
			b.holds = func(v float64) bool { return v >= limit }
		case "at_most":
			b.holds = func(v float64) bool { return v <= limit }
		case "above":
			b.holds = func(v float64) bool { return v > limit }
		case "below":
			b.holds = func(v float64) bool { return v < limit }
		default:
			return nil, false
		}
		bs = append(bs, b)
	}
	return bs, len(bs) > 0
}

// caseTolerance is the relative difference at which numbers still count as equal.
const caseTolerance = 1e-6

func scalarEqual(n *yaml.Node, got any) bool {
	switch got := got.(type) {
	case nil:
		return n.Tag == "!!null"
	case bool:
		return n.Tag == "!!bool" && (n.Value == "true") == got
	case float64:
		want, err := strconv.ParseFloat(n.Value, 64)
		diff := want - got
		return err == nil && max(diff, -diff) <= caseTolerance*max(want, -want, 1e-12)
	case string:
		return n.Tag != "!!null" && n.Value == got
	}
	return false
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil || v == nil {
		return "nothing"
	}
	return shorten(string(b), 200)
}

func showNode(n *yaml.Node) string { return shorten(string(appendYAML(nil, n)), 200) }
