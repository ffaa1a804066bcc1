package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/inference"
)

// Defaults of a step's calls and rollouts.
const (
	defaultTopAttributions = 5
	defaultRetention       = 7 * 24 * time.Hour
)

func (r *reader) infer(step entry) *Infer {
	in := &Infer{pos: step.pos, Calls: inference.Config{MaxBatch: 256}}
	m := r.object(step.value, "infer", &inferKeys)
	in.Model, in.modelPos = r.str(m["model"], "infer.model"), posOf(m["model"])
	if n := m["name"]; n != nil {
		in.namePos = posOf(n)
		if in.Name = r.str(n, "infer.name"); in.Name != "" {
			r.column(in.namePos, "infer.name", in.Name)
		}
	}
	if n := m["runtime"]; n != nil {
		in.Runtime, in.runtimePos = runtimeWords[r.choice(n, "infer.runtime", runtimeWords)], posOf(n)
	}
	if n := m["options"]; n != nil {
		in.optionsPos = posOf(n)
		in.Options = r.freeMapping(n, "infer.options")
	}
	if n := m["inputs"]; n != nil {
		r.inferInputs(n, in)
	}
	if n := m["outputs"]; n != nil {
		for _, e := range r.entries(n, "infer.outputs") {
			r.column(e.pos, "output", e.key)
			in.Outputs = append(in.Outputs, ModelOutput{Name: e.key, Value: r.str(e.value, "infer.outputs."+e.key), pos: posOf(e.value)})
		}
	}
	r.calls(m, &in.Calls)
	in.Late = LateScoring(r.choice(m["late"], "infer.late", lateScoringWords))
	if n := m["fallback"]; n != nil {
		items := []*yaml.Node{n}
		if n.Kind == yaml.SequenceNode {
			items = r.items(n, "infer.fallback")
		}
		for _, x := range items {
			r.fallback(x, in)
		}
	}
	if n := m["rollout"]; n != nil {
		r.rollout(n, &in.Rollout)
	}
	if n := m["explain"]; n != nil {
		in.Explain = r.explain(n)
	}
	return in
}

// calls reads how the model is batched and guarded.
func (r *reader) calls(m map[string]*yaml.Node, c *inference.Config) {
	if n := m["batch"]; n != nil {
		b := r.object(n, "infer.batch", &batchKeys)
		c.MaxBatch = r.integer(b["max"], "infer.batch.max", 1, maxBatch, c.MaxBatch)
		if x := b["buckets"]; x != nil {
			for _, i := range r.items(x, "infer.batch.buckets") {
				size := r.integer(i, "infer.batch.buckets", 1, maxBatch, 0)
				if n := len(c.Buckets); n > 0 && size <= c.Buckets[n-1] {
					r.fault(posOf(i), "range", "write for example [8, 32, 256]", "infer.batch.buckets must rise")
				}
				c.Buckets = append(c.Buckets, size)
			}
		}
	}
	if r.choice(m["prefer"], "infer.prefer", preferWords) == 1 {
		c.Prefer = inference.Throughput
	}
	c.Timeout = r.positive(m["timeout"], "infer.timeout", "500ms", 0)
	if n := m["retry"]; n != nil {
		b := r.object(n, "infer.retry", &retryKeys)
		c.Attempts = r.integer(b["attempts"], "infer.retry.attempts", 1, 100, 0)
		c.RetryBudget = r.optionalShare(b["budget"], "infer.retry.budget", "0.2")
	}
	if n := m["breaker"]; n != nil {
		b := r.object(n, "infer.breaker", &breakerKeys)
		c.Breaker.Failures = r.optionalShare(b["failures"], "infer.breaker.failures", "0.5")
		c.Breaker.Calls = r.integer(b["calls"], "infer.breaker.calls", 1, 10_000, 0)
		c.Breaker.Pause = r.positive(b["pause"], "infer.breaker.pause", "5s", 0)
	}
	if n := m["concurrency"]; n != nil {
		b := r.object(n, "infer.concurrency", &concurrencyKeys)
		c.Concurrency = r.integer(b["max"], "infer.concurrency.max", 1, 10_000, 0)
		if a := b["adapt"]; a != nil {
			c.Adaptive = r.truth(a, "infer.concurrency.adapt")
		}
	}
	c.Hedge = r.optionalShare(m["hedge"], "infer.hedge", "0.95")
	if n := m["cache"]; n != nil {
		b := r.object(n, "infer.cache", &cacheAnswerKeys)
		c.Cache.Rows = r.integer(b["rows"], "infer.cache.rows", 1, 100_000_000, 100_000)
		c.Cache.TTL = r.positive(b["ttl"], "infer.cache.ttl", "10m", 10*time.Minute)
	}
	c.Warmup = r.integer(m["warmup"], "infer.warmup", 0, 1000, 0)
}

func (r *reader) optionalShare(n *yaml.Node, what, example string) float64 {
	if n == nil {
		return 0
	}
	return r.share(n, what, example)
}

func (r *reader) fallback(n *yaml.Node, in *Infer) {
	m := r.object(n, "infer.fallback", &fallbackKeys)
	f := Fallback{pos: posOf(n)}
	switch {
	case m["version"] != nil:
		r.choice(m["version"], "infer.fallback.version", []string{"previous"})
		f.Previous = true
	case m["cached"] != nil:
		f.Cached = r.positive(m["cached"], "infer.fallback.cached", "1h", 0)
		in.Calls.Cache.Stale = max(in.Calls.Cache.Stale, f.Cached)
		if in.Calls.Cache.Rows == 0 {
			in.Calls.Cache.Rows = 100_000
		}
	case m["expr"] != nil:
		x := r.expr(m["expr"], "infer.fallback.expr")
		f.Rule = []FallbackOutput{{Name: "score", Expr: x, pos: posOf(m["expr"])}}
	case m["rule"] != nil:
		for _, e := range r.entries(m["rule"], "infer.fallback.rule") {
			f.Rule = append(f.Rule, FallbackOutput{Name: e.key, Expr: r.expr(e.value, "infer.fallback.rule."+e.key), pos: e.pos})
		}
	case m["value"] != nil:
		l := r.literal(m["value"], "infer.fallback.value")
		f.Value = &l
	default:
		return // the fault is reported
	}
	if last := len(in.Fallbacks) - 1; last >= 0 && in.Fallbacks[last].Value != nil {
		r.fault(f.pos, "unreachable", "move the fixed value to the end", "this fallback is never reached: a fixed value always answers")
	}
	in.Fallbacks = append(in.Fallbacks, f)
}

func (r *reader) rollout(n *yaml.Node, ro *Rollout) {
	m := r.object(n, "infer.rollout", &rolloutKeys)
	if k := m["key"]; k != nil {
		ro.Key, ro.keyPos = r.str(k, "infer.rollout.key"), posOf(k)
	}
	if l := m["label"]; l != nil {
		ro.Label, ro.labelPos = r.str(l, "infer.rollout.label"), posOf(l)
	}
	if s := m["steps"]; s != nil {
		for _, i := range r.items(s, "infer.rollout.steps") {
			v := r.share(i, "infer.rollout.steps", "[0.01, 0.1, 0.5]")
			if n := len(ro.Steps); n > 0 && v <= ro.Steps[n-1] {
				r.fault(posOf(i), "range", "write for example [0.01, 0.1, 0.5]", "infer.rollout.steps must rise")
			}
			ro.Steps = append(ro.Steps, v)
		}
	}
	ro.Hold = r.positive(m["hold"], "infer.rollout.hold", "10m", 0)
	ro.MinRows = r.integer(m["min_rows"], "infer.rollout.min_rows", 1, 1<<30, 0)
	if g := m["gates"]; g != nil {
		ro.Gates = map[string]float64{}
		for name, x := range r.object(g, "infer.rollout.gates", &gateKeys) {
			v, ok := r.number(x, "infer.rollout.gates."+name)
			if ok && v < 0 && !slices.Contains(gatesByDefault, name) {
				r.fault(posOf(x), "range", "write a number of at least 0", "infer.rollout.gates.%s must not be negative", name)
			}
			if name == "quality" {
				ro.qualityPos = posOf(x)
			}
			ro.Gates[name] = v
		}
	}
}

func (r *reader) explain(n *yaml.Node) *Explain {
	e := &Explain{pos: posOf(n), Share: 1, Top: defaultTopAttributions}
	m := r.object(n, "infer.explain", &explainKeys)
	if x := m["method"]; x != nil {
		e.methodPos = posOf(x)
		if i := r.choice(x, "infer.explain.method", methodWords); i > 0 {
			e.Method = methodWords[i]
		}
	}
	if x := m["share"]; x != nil {
		v, ok := r.number(x, "infer.explain.share")
		if ok && !(v > 0 && v <= 1) {
			r.fault(posOf(x), "range", "write for example 0.01", "infer.explain.share must be above 0 and at most 1, not %v", v)
		}
		e.Share = v
	}
	e.When = r.expr(m["when"], "infer.explain.when")
	e.Top = r.integer(m["top"], "infer.explain.top", 0, 1000, e.Top)
	if x := m["background"]; x != nil {
		e.Background, e.backgroundPos = r.str(x, "infer.explain.background"), posOf(x)
	}
	return e
}

func (r *reader) record(n *yaml.Node) RecordSpec {
	rec := RecordSpec{Retention: defaultRetention, pos: posOf(n)}
	if n == nil {
		return rec
	}
	if n.Kind == yaml.ScalarNode {
		rec.Off = r.choice(n, "record", []string{"on", "off"}) == 1
		return rec
	}
	m := r.object(n, "record", &recordKeys)
	rec.Retention = r.positive(m["retention"], "record.retention", "168h", rec.Retention)
	if k := m["keep"]; k != nil {
		for _, x := range r.items(k, "record.keep") {
			km := r.object(x, "record.keep", &keepKeys)
			rule := KeepRule{Share: 1, For: r.positive(km["for"], "record.keep.for", "720h", 0)}
			if w := km["when"]; w != nil {
				rule.When = r.str(w, "record.keep.when")
			}
			if s := km["share"]; s != nil {
				rule.Share = r.share(s, "record.keep.share", "0.01")
			}
			rec.Keep = append(rec.Keep, rule)
		}
	}
	return rec
}

// freeMapping reads a mapping of anything, with variables put in.
func (r *reader) freeMapping(n *yaml.Node, what string) map[string]any {
	m := map[string]any{}
	for _, e := range r.entries(n, what) {
		m[e.key] = r.anything(e.value, what+"."+e.key)
	}
	return m
}

func (r *reader) anything(n *yaml.Node, what string) any {
	n = deref(n)
	switch n.Kind {
	case yaml.MappingNode:
		return r.freeMapping(n, what)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for i, x := range n.Content {
			list = append(list, r.anything(x, fmt.Sprintf("%s[%d]", what, i)))
		}
		return list
	}
	if n.Tag == "!!str" {
		s, _ := r.expand(n, what)
		return s
	}
	var v any
	if err := n.Decode(&v); err != nil {
		r.fault(posOf(n), "type", "write text, a number, true, false, a list or a mapping", "%s cannot be read: %v", what, err)
	}
	return v
}

// checkInfers finds the faults of several infer steps beside each other.
func (r *reader) checkInfers(s *Spec) {
	var names []string
	var all []*Infer
	for _, st := range s.Steps {
		if in, ok := st.(*Infer); ok {
			all = append(all, in)
		}
	}
	for _, in := range all {
		if in.Name == "" && len(all) > 1 {
			r.fault(in.pos, "infer-name", "add `name: …` to each infer step", "a pipeline with several infer steps needs names for them")
			continue
		}
		if in.Name == "" {
			in.Name = stepName(in.Model)
		}
		if slices.Contains(names, in.Name) {
			r.fault(in.namePos, "name-taken", "choose another name", "another infer step is called %q", in.Name)
		}
		names = append(names, in.Name)
	}
}

// stepName is the name of a step's model without path, ending and host.
func stepName(model string) string {
	if _, rest, ok := strings.Cut(model, "://"); ok {
		model, _, _ = strings.Cut(rest, "?")
	}
	model = model[strings.LastIndexByte(model, '/')+1:]
	name, _, _ := strings.Cut(model, ".")
	return name
}

func (r *reader) inferInputs(n *yaml.Node, in *Infer) {
	if n.Kind == yaml.MappingNode {
		for _, e := range r.entries(n, "infer.inputs") {
			in.InputNames = append(in.InputNames, e.key)
			in.Inputs = append(in.Inputs, r.str(e.value, "infer.inputs."+e.key))
			in.inputPos = append(in.inputPos, posOf(e.value))
		}
	} else {
		for _, i := range r.items(n, "infer.inputs") {
			in.Inputs = append(in.Inputs, r.str(i, "infer.inputs"))
			in.inputPos = append(in.inputPos, posOf(i))
		}
	}
	if len(in.Inputs) == 0 && n.Kind != yaml.ScalarNode {
		r.fault(posOf(n), "empty", "name the features that feed the model, in its order", "infer.inputs is empty")
	}
}
