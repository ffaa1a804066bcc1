package export

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/lineage"
)

// Spans makes a span of each call of a model that predictions name, and exports them.
// It begins when the last of the batch's events had arrived, so it holds the wait for
// the model too, and ends with the answer. It links to the spans that the events carry, names the
// model and the topic by the conventions for gen-AI and messaging, and has the same ids whenever it
// is made of the same predictions.
//
// Predictions of one call are expected near each other; of more than 4,096 calls at once,
// the oldest is closed with what came of it.
type Spans struct {
	exporter sdktrace.SpanExporter
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	ids      *callIDs
	ended    *ended
	open     map[callKey]*call
	order    []callKey
	// Exported counts the spans that the receiver has taken.
	Exported int
}

// OTLP returns an exporter to an OTLP receiver over HTTP: http://HOST:4318, or with the path
// of its traces. token, where not empty, is sent as a bearer token. A request takes at most timeout.
func OTLP(ctx context.Context, url, token string, timeout time.Duration) (sdktrace.SpanExporter, error) {
	o := []otlptracehttp.Option{
		otlptracehttp.WithEndpointURL(url), otlptracehttp.WithTimeout(timeout), otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: timeout / 20, MaxInterval: timeout / 2, MaxElapsedTime: timeout}),
	}
	if token != "" {
		o = append(o, otlptracehttp.WithHeaders(map[string]string{"Authorization": "Bearer " + token}))
	}
	e, err := otlptracehttp.New(ctx, o...)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "send spans to %s: %w", url, err)
	}
	return e, nil
}

const (
	openCalls   = 4096
	exportSpans = 256
)

type callKey struct {
	pipeline, model, version, digest, role, topic string
	answered                                      int64
	rows                                          int
}

type call struct {
	a       lineage.Answered
	r       lineage.Record
	rows    int
	arrived time.Time
	links   []trace.Link
	paths   map[string]int
}

// NewSpans returns Spans that go to an exporter, which Close shuts down. service is
// the service's name.
func NewSpans(exporter sdktrace.SpanExporter, service, version string) *Spans {
	s := &Spans{exporter: exporter, ids: &callIDs{}, ended: &ended{}, open: map[callKey]*call{}}
	limits := sdktrace.NewSpanLimits()
	limits.LinkCountLimit = -1
	s.provider = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithIDGenerator(s.ids), sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithSpanProcessor(s.ended),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", service), attribute.String("service.version", version))),
	)
	s.tracer = s.provider.Tracer("github.com/freshet-io/freshet")
	return s
}

// Add takes a prediction into the spans of its calls.
func (s *Spans) Add(ctx context.Context, r *lineage.Record) error {
	for i := range r.Answers {
		a := &r.Answers[i]
		if a.Call == nil {
			continue
		}
		k := callKey{r.Pipeline, a.Model, a.Version, a.Digest, a.Role, r.Event.Topic, a.Call.Answered.UnixNano(), a.Call.BatchRows}
		c := s.open[k]
		if c == nil {
			c = &call{a: *a, r: *r, paths: map[string]int{}, arrived: a.Call.Answered}
			if r.Times.Arrival != nil {
				c.arrived = *r.Times.Arrival
			}
			s.open[k] = c
			s.order = append(s.order, k)
		}
		c.rows++
		c.paths[a.Path]++
		if t := r.Times.Arrival; t != nil && t.After(c.arrived) {
			c.arrived = *t
		}
		if link, ok := parseTraceparent(r.Event.Traceparent); ok {
			c.links = append(c.links, trace.Link{SpanContext: link, Attributes: []attribute.KeyValue{
				attribute.String("messaging.message.id", r.Event.ID), attribute.Int64("freshet.event.position", r.Event.Position),
				attribute.String("messaging.destination.partition.id", fmt.Sprint(r.Event.Partition)),
			}})
		}
		if c.rows >= k.rows {
			s.end(k)
		}
	}
	for len(s.open) > openCalls {
		s.end(s.order[0])
	}
	if len(s.ended.spans) >= exportSpans {
		return s.export(ctx)
	}
	return nil
}

// end makes the span of a call.
func (s *Spans) end(k callKey) {
	c := s.open[k]
	delete(s.open, k)
	for len(s.order) > 0 && s.open[s.order[0]] == nil {
		s.order = s.order[1:]
	}
	if c == nil {
		return
	}
	a := &c.a
	begin := c.arrived
	if begin.After(a.Call.Answered) {
		begin = a.Call.Answered
	}
	s.ids.seed(fmt.Sprint(k))
	_, span := s.tracer.Start(context.Background(), "predict "+a.Model,
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(begin), trace.WithLinks(c.links...), trace.WithNewRoot(),
		trace.WithAttributes(
			attribute.String("gen_ai.operation.name", "predict"), attribute.String("gen_ai.provider.name", "freshet"),
			attribute.String("gen_ai.request.model", a.Model), attribute.String("gen_ai.response.model", strings.TrimSuffix(a.Model+"@"+a.Version, "@")),
			attribute.String("messaging.system", "freshet"), attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.operation.name", "predict"), attribute.String("messaging.destination.name", c.r.Event.Topic),
			attribute.String("messaging.consumer.group.name", c.r.Pipeline), attribute.Int("messaging.batch.message_count", a.Call.BatchRows),
			attribute.String("freshet.pipeline", c.r.Pipeline), attribute.String("freshet.pipeline.configuration", c.r.Config),
			attribute.String("freshet.contract", c.r.Contract),
			attribute.String("freshet.model.digest", a.Digest), attribute.String("freshet.model.role", a.Role),
			attribute.String("freshet.rollout", a.Rollout), attribute.String("freshet.batch.flush_reason", a.Call.Flush),
			attribute.Int("freshet.call.attempts", a.Call.Attempts), attribute.Int("freshet.predictions", c.rows),
		))
	for path, n := range c.paths {
		span.SetAttributes(attribute.Int("freshet.path."+path, n))
	}
	span.SetStatus(codes.Ok, "")
	span.End(trace.WithTimestamp(a.Call.Answered))
}

// Close ends and exports what is open.
func (s *Spans) Close(ctx context.Context) error {
	for len(s.order) > 0 {
		s.end(s.order[0])
	}
	err := s.export(ctx)
	if serr := s.exporter.Shutdown(ctx); err == nil && serr != nil {
		err = fmt.Errorf("end the export of spans: %w", serr)
	}
	return err
}

func (s *Spans) export(ctx context.Context) error {
	for len(s.ended.spans) > 0 {
		n := min(len(s.ended.spans), exportSpans)
		if err := s.exporter.ExportSpans(ctx, s.ended.spans[:n]); err != nil {
			return errkind.Errorf(errkind.Transient, "export spans: %w", err)
		}
		s.Exported += n
		s.ended.spans = s.ended.spans[n:]
	}
	return nil
}

// ended is a span processor that keeps spans for export.
type ended struct{ spans []sdktrace.ReadOnlySpan }

func (e *ended) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (e *ended) OnEnd(s sdktrace.ReadOnlySpan)                   { e.spans = append(e.spans, s) }
func (e *ended) Shutdown(context.Context) error                  { return nil }
func (e *ended) ForceFlush(context.Context) error                { return nil }

// callIDs makes ids of what a call is.
type callIDs struct {
	mu   sync.Mutex
	hash [32]byte
}

func (c *callIDs) seed(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hash = sha256.Sum256([]byte("freshet/call/1\x00" + text))
}

// NewIDs implements sdktrace.IDGenerator.
func (c *callIDs) NewIDs(context.Context) (trace.TraceID, trace.SpanID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return trace.TraceID(c.hash[:16]), trace.SpanID(c.hash[16:24])
}

// NewSpanID implements sdktrace.IDGenerator.
func (c *callIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	_, id := c.NewIDs(ctx)
	return id
}

// parseTraceparent reads a W3C trace context of version 00.
func parseTraceparent(s string) (c trace.SpanContext, ok bool) {
	parts := strings.Split(s, "-")
	if len(parts) != 4 || parts[0] != "00" || len(parts[3]) != 2 {
		return c, false
	}
	id, err := trace.TraceIDFromHex(parts[1])
	if err != nil {
		return c, false
	}
	span, err := trace.SpanIDFromHex(parts[2])
	if err != nil {
		return c, false
	}
	flags, err := hex.DecodeString(parts[3])
	if err != nil {
		return c, false
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(flags[0]), Remote: true}), true
}
