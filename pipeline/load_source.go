package pipeline

import (
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/contract"
)

func (r *reader) source(n *yaml.Node, s *Source) {
	s.Partitions, s.MaxBytes, s.OrderWait = defaultParts, defaultMaxBytes, defaultOrderWait
	if n == nil {
		return
	}
	s.pos = posOf(n)
	m := r.object(n, "source", &sourceKeys)
	s.Topic = r.name(m["topic"], "source.topic")
	if f := m["from"]; f != nil {
		s.From, s.fromPos = r.str(f, "source.from"), posOf(f)
		r.busURL(s.fromPos, s.From, "source.from", receiverSchemes, "amqp://host:5672/?queue=payments")
	}
	s.Contract, s.contractPos = r.str(m["contract"], "source.contract"), posOf(m["contract"])
	s.ID, s.idPos = r.str(m["id"], "source.id"), posOf(m["id"])
	s.Key, s.keyPos = r.str(m["key"], "source.key"), posOf(m["key"])
	if t := m["time"]; t != nil {
		tm := r.object(t, "source.time", &timeKeys)
		s.timePos = posOf(t)
		if f := tm["field"]; f != nil {
			s.TimeField, s.timePos = r.str(f, "source.time.field"), posOf(f)
		}
		s.Lateness, s.latenessSet = r.notNegative(tm["lateness"], "source.time.lateness", "write 0s or longer")
		s.Late = LatePolicy(r.choice(tm["late"], "source.time.late", lateWords))
		r.order(tm["order"], s)
	}
	s.Partitions = r.integer(m["partitions"], "source.partitions", 1, maxPartitions, defaultParts)
	if d := m["deduplicate"]; d != nil {
		s.Deduplicate = r.positive(d, "source.deduplicate", "10m", 0)
	}
	s.MaxBytes = r.integer(m["max_bytes"], "source.max_bytes", 1, defaultMaxBytes, defaultMaxBytes)
}

// order reads a field, or {by: FIELD, wait: DURATION}.
func (r *reader) order(n *yaml.Node, s *Source) {
	if n == nil {
		return
	}
	by := n
	if n.Kind == yaml.MappingNode {
		m := r.object(n, "source.time.order", &orderKeys)
		s.OrderWait = r.positive(m["wait"], "source.time.order.wait", "20ms", defaultOrderWait)
		if by = m["by"]; by == nil {
			return
		}
	}
	s.Order, s.orderPos = r.str(by, "source.time.order"), posOf(by)
}

func (r *reader) labels(n *yaml.Node) *Labels {
	if n == nil {
		return nil
	}
	l := &Labels{pos: posOf(n)}
	m := r.object(n, "labels", &labelsKeys)
	l.Topic = r.name(m["topic"], "labels.topic")
	l.Contract, l.contractPos = r.str(m["contract"], "labels.contract"), posOf(m["contract"])
	l.Event, l.eventPos = r.str(m["event"], "labels.event"), posOf(m["event"])
	l.Key, l.keyPos = r.str(m["key"], "labels.key"), posOf(m["key"])
	switch {
	case m["event"] != nil && m["key"] != nil:
		r.fault(l.keyPos, "two-joins", "keep `event` where a label is about one event, `key` where it is about a key",
			"labels are joined both by event and by key")
	case m["event"] == nil && m["key"] == nil && n.Kind == yaml.MappingNode && !unknownIn(n, m):
		r.fault(l.pos, "missing-key", "add `event: FIELD`, the label's field with the id of the event that it is about, or `key: FIELD`",
			`labels needs the key "event" or "key"`)
	}
	if t := m["time"]; t != nil {
		tm := r.object(t, "labels.time", &labelTimeKeys)
		l.timePos = posOf(t)
		if f := tm["field"]; f != nil {
			l.TimeField, l.timePos = r.str(f, "labels.time.field"), posOf(f)
		}
		l.Lateness, l.latenessSet = r.notNegative(tm["lateness"], "labels.time.lateness", "write 0s or longer")
	}
	if d := m["default"]; d != nil {
		l.defaultPos = posOf(d)
		l.Default = map[string]Literal{}
		for _, e := range r.entries(d, "labels.default") {
			l.Default[e.key] = r.literal(e.value, "labels.default."+e.key)
		}
	}
	l.Partitions = r.integer(m["partitions"], "labels.partitions", 1, maxPartitions, defaultParts)
	return l
}

// timeRule is the source's event time: the contract's, with what the file overrides.
func (s *Source) timeRule(c *contract.Contract) contract.TimeRule {
	return override(c.Time, s.TimeField, s.Lateness, s.latenessSet)
}

// timeRule is when labels became known: the contract's, with what the file overrides.
func (l *Labels) timeRule(c *contract.Contract) contract.TimeRule {
	return override(c.Time, l.TimeField, l.Lateness, l.latenessSet)
}

func override(t contract.TimeRule, field string, lateness time.Duration, set bool) contract.TimeRule {
	if field != "" {
		t.Field = field
	}
	if set {
		t.Lateness = lateness
	}
	return t
}

// Schemes of what messages can come from, and of what results can go to.
var (
	receiverSchemes = []string{"amqp", "amqps", "mqtt", "mqtts", "pubsub", "sqs", "kinesis", "eventgrid"}
	senderSchemes   = append([]string{"redis", "rediss", "postgres", "postgresql", "file", "http", "https", "eventbridge"}, receiverSchemes...)
)

// busURL checks the URL of a queue or bus. It may hold a secret, and is not shown.
func (r *reader) busURL(at Pos, url, what string, schemes []string, example string) {
	if url == "" {
		return
	}
	scheme, _, ok := strings.Cut(url, "://")
	switch {
	case !ok:
		r.fault(at, "url", "write for example "+example, "%s is not a URL", what)
	case !slices.Contains(schemes, strings.TrimSuffix(scheme, "+tls")):
		r.fault(at, "url", didYouMean(scheme, schemes), "%s begins with %q, which is none of %s", what, scheme+":", strings.Join(schemes, ", "))
	}
}
