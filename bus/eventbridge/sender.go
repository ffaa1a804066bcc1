package eventbridge

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/freshet-io/freshet/bus"
	ours "github.com/freshet-io/freshet/bus/internal/aws"
	"github.com/freshet-io/freshet/bus/internal/envelope"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/backoff"
)

// Options is what the program passes.
type Options struct {
	Logger *slog.Logger
	// Env looks up the environment; nil means an empty one. Amazon's own client
	// looks at the process's.
	Env func(string) (string, bool)
}

const (
	// batchSize is the service's limit of events a call.
	batchSize = 10
	// calls is how many calls of one batch are in flight.
	calls = 8
	// timeBytes is what the service counts for a time.
	timeBytes   = 14
	defaultType = "freshet.record"
)

// again is for events of a call that others overtook.
var again = backoff.Retry{Attempts: 5, Min: 50 * time.Millisecond, Max: time.Second}

// Sender is a bus.Sender to one event bus.
type Sender struct {
	*ours.Target
	client   *eventbridge.Client
	data     bool // the detail is the value alone
	source   string
	maxBytes int
	ctx      context.Context // ends at Close
	cancel   context.CancelFunc
}

// OpenSender finds an event bus.
func OpenSender(ctx context.Context, url string, o Options) (*Sender, error) {
	t, err := ours.Parse(url, o.Env)
	if err != nil {
		return nil, err
	}
	s := &Sender{Target: t, source: t.Option("source", "freshet")}
	if s.maxBytes, err = t.Int("max_bytes", 256<<10, 1); err != nil {
		return nil, err
	}
	switch v := t.Option("detail", "event"); v {
	case "event", "data":
		s.data = v == "data"
	default:
		return nil, errkind.Errorf(errkind.Config, "%s: option detail=%s: expected event or data", t, v)
	}
	if err := t.Done(); err != nil {
		return nil, err
	}
	if t.Path == "" {
		return nil, errkind.Errorf(errkind.Config, "%s: expected eventbridge://REGION/BUS", t)
	}
	c, err := t.Config(ctx)
	if err != nil {
		return nil, err
	}
	s.client = eventbridge.NewFromConfig(c)
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	// An unknown bus takes events and drops them. Whoever may put events need not
	// be allowed to ask about the bus.
	if _, err := s.client.DescribeEventBus(ctx, &eventbridge.DescribeEventBusInput{Name: &t.Path}); err != nil {
		if err := t.Failed("open", err); !errkind.Is(err, errkind.Config) || isCredentials(err) {
			return nil, err
		}
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// isCredentials tells a refusal of who asks from one of what is asked.
func isCredentials(err error) bool { return !strings.Contains(err.Error(), "AccessDenied") }

// entry is an event on its way, with its place in the batch.
type entry struct {
	index int
	types.PutEventsRequestEntry
}

// Send implements bus.Sender.
func (s *Sender) Send(ctx context.Context, b bus.Batch) error {
	if s.ctx.Err() != nil {
		return s.Closed()
	}
	if err := ctx.Err(); err != nil {
		return s.Failed("send to", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	var refused []bus.Refused
	var chunks [][]entry
	bytes := 0
	for i := range b.Records {
		e, n, err := s.entryOf(&b.Records[i])
		if err != nil {
			refused = append(refused, bus.Refused{Index: i, Err: err})
			continue
		}
		last := len(chunks) - 1
		if last < 0 || len(chunks[last]) == batchSize || bytes+n > s.maxBytes {
			chunks, bytes, last = append(chunks, nil), 0, last+1
		}
		chunks[last], bytes = append(chunks[last], entry{i, e}), bytes+n
	}
	var mu sync.Mutex
	err := ours.Each(chunks, calls, func(entries []entry) error {
		bad, err := s.put(ctx, entries)
		mu.Lock()
		defer mu.Unlock()
		refused = append(refused, bad...)
		return err
	})
	switch {
	case err != nil && s.ctx.Err() != nil:
		return s.Closed()
	case err != nil:
		return err
	}
	slices.SortFunc(refused, func(a, b bus.Refused) int { return cmp.Compare(a.Index, b.Index) })
	return bus.Refuse(refused)
}

// put puts events, those that a call leaves out again.
func (s *Sender) put(ctx context.Context, entries []entry) (refused []bus.Refused, err error) {
	retry := again.Or(backoff.Retry{})
	for n := 0; ; n++ {
		rest, bad, err := s.call(ctx, entries)
		refused = append(refused, bad...)
		if len(rest) == 0 || len(rest) == len(entries) || n == retry.Attempts || !errkind.Of(err).Retryable() {
			return refused, err // the pauses of a call that did nothing are the caller's
		}
		entries = rest
		pause := time.NewTimer(retry.Wait(n, errkind.Of(err)))
		select {
		case <-ctx.Done():
			pause.Stop()
			return refused, s.Failed("send to", ctx.Err())
		case <-pause.C:
		}
	}
}

// call puts events. rest are those that may be taken later, with the error of the first.
func (s *Sender) call(ctx context.Context, entries []entry) (rest []entry, refused []bus.Refused, first error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	in := &eventbridge.PutEventsInput{Entries: make([]types.PutEventsRequestEntry, len(entries))}
	for i := range entries {
		in.Entries[i] = entries[i].PutEventsRequestEntry
	}
	out, err := s.client.PutEvents(ctx, in)
	if err != nil {
		return nil, nil, s.Failed("send to", err)
	}
	if len(out.Entries) != len(entries) {
		return nil, nil, errkind.Errorf(errkind.Transient, "send to %s: the answer is about %d of %d events", s.Target, len(out.Entries), len(entries))
	}
	for i := range out.Entries {
		code := aws.ToString(out.Entries[i].ErrorCode)
		if code == "" {
			continue
		}
		kind := ours.KindOfCode(code)
		if kind == errkind.Unknown { // MalformedDetail, InvalidArgument and their like
			refused = append(refused, bus.Refused{Index: entries[i].index, Err: errkind.Errorf(errkind.Invalid, "%s: %s", code, aws.ToString(out.Entries[i].ErrorMessage))})
			continue
		}
		rest = append(rest, entries[i])
		if first == nil {
			first = errkind.Errorf(kind, "send to %s: %s: %s", s.Target, code, aws.ToString(out.Entries[i].ErrorMessage))
		}
	}
	return rest, refused, first
}

// entryOf lays a record into an event and says how many bytes EventBridge counts.
func (s *Sender) entryOf(r *event.Record) (e types.PutEventsRequestEntry, n int, err error) {
	detail := r.Value
	if !s.data {
		detail = envelope.AppendStructured(make([]byte, 0, len(r.Value)+512), r)
	} else if first := strings.TrimLeft(string(detail[:min(len(detail), 64)]), " \t\r\n"); !strings.HasPrefix(first, "{") || !json.Valid(detail) {
		return e, 0, errkind.New(errkind.Invalid, "the value is no JSON object, which detail=data wants")
	}
	e.EventBusName, e.Detail = &s.Path, aws.String(string(detail))
	e.Source, e.DetailType = header(r, event.HeaderSource, s.source), header(r, event.HeaderType, defaultType)
	n = len(detail) + len(*e.Source) + len(*e.DetailType)
	if v, ok := r.Headers.Get(event.HeaderTime); ok {
		if at, err := time.Parse(time.RFC3339Nano, string(v)); err == nil {
			e.Time = &at
			n += timeBytes
		}
	}
	if n > s.maxBytes {
		return e, 0, errkind.Errorf(errkind.Invalid, "the event has %d bytes, EventBridge takes %d", n, s.maxBytes)
	}
	return e, n, nil
}

func header(r *event.Record, name, absent string) *string {
	if v, ok := r.Headers.Get(name); ok && len(v) > 0 {
		return aws.String(string(v))
	}
	return &absent
}

// Close implements bus.Sender.
func (s *Sender) Close() error {
	s.cancel()
	return nil
}
