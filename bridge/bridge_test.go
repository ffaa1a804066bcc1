package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/bridge"
	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// queue is a bus in memory: what is out and not acknowledged comes again.
type queue struct {
	mu       sync.Mutex
	waiting  []bus.Message
	out      map[int]bus.Message
	next     int
	fail     []error // of the next calls of Receive
	ackError error   // of the next Ack, which does nothing then
	acked    chan struct{}
}

func newQueue(messages ...event.Record) *queue {
	q := &queue{out: map[int]bus.Message{}, acked: make(chan struct{}, 1000)}
	for _, r := range messages {
		q.waiting = append(q.waiting, bus.Message{Record: r})
	}
	return q
}

func (q *queue) Receive(ctx context.Context, n int) ([]bus.Message, error) {
	q.mu.Lock()
	if len(q.fail) > 0 {
		err := q.fail[0]
		q.fail = q.fail[1:]
		q.mu.Unlock()
		return nil, err
	}
	n = min(n, len(q.waiting), 3)
	got := slices.Clone(q.waiting[:n])
	q.waiting = q.waiting[n:]
	for i := range got {
		got[i].Token = q.next
		q.out[q.next] = got[i]
		q.next++
	}
	q.mu.Unlock()
	if len(got) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return got, nil
}

func (q *queue) Ack(_ context.Context, ms []bus.Message) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.ackError; err != nil {
		q.ackError = nil
		return errors.Join(err, q.giveBack(ms))
	}
	for _, m := range ms {
		delete(q.out, m.Token.(int))
	}
	q.acked <- struct{}{}
	return nil
}

func (q *queue) Nack(_ context.Context, ms []bus.Message) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.giveBack(ms)
}

func (q *queue) giveBack(ms []bus.Message) error {
	for _, m := range ms {
		delete(q.out, m.Token.(int))
		m.Redelivered = true
		q.waiting = append(q.waiting, m)
	}
	return nil
}

func (q *queue) Close() error { return nil }

func (q *queue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) + len(q.out)
}

func open(t *testing.T, limit int, topics ...string) *broker.Broker {
	t.Helper()
	j, err := journal.Open(t.TempDir(), journal.Options{MaxRecordBytes: limit})
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(j, broker.Options{})
	t.Cleanup(func() { b.Close() })
	for _, topic := range topics {
		if err := b.CreateTopic(t.Context(), broker.TopicConfig{Name: topic, Partitions: 2, DedupWindow: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// values are those of a topic's records, sorted, with ids and keys.
func values(t *testing.T, b *broker.Broker, topic string) (all []string) {
	t.Helper()
	d, err := b.Describe(t.Context(), topic, "")
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range d.Partitions {
		r, err := b.Read(t.Context(), topic, i, 0)
		if err != nil {
			t.Fatal(err)
		}
		for next := int64(0); next < p.End; {
			batch, err := r.Fetch(t.Context(), 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range batch.Records {
				all = append(all, fmt.Sprintf("%s %s %s", rec.ID, rec.Key, rec.Value))
			}
			next = batch.Next()
			batch.Release()
		}
		r.Close()
	}
	slices.Sort(all)
	return all
}

func numbered(n int) (recs []event.Record) {
	for i := range n {
		recs = append(recs, event.Record{ID: fmt.Appendf(nil, "id-%02d", i), Key: fmt.Appendf(nil, "k%d", i%5), Value: fmt.Appendf(nil, "%d", i)})
	}
	return recs
}

func TestMessagesAreStoredBeforeTheyAreAcknowledged(t *testing.T) {
	b := open(t, 0, "in")
	q := newQueue(numbered(20)...)
	q.fail = []error{errkind.New(errkind.Transient, "away"), errkind.New(errkind.Throttled, "slower")}
	q.ackError = errkind.New(errkind.Conflict, "taken back")
	in := &bridge.In{Receiver: q, Broker: b, Topic: "in"}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	for q.left() > 0 {
		select {
		case <-q.acked:
		case err := <-done:
			t.Fatal(err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, r := range numbered(20) {
		want = append(want, fmt.Sprintf("%s %s %s", r.ID, r.Key, r.Value))
	}
	if d := cmp.Diff(want, values(t, b, "in")); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if stored, repeats := in.Stored(); stored != 20 || repeats != 3 {
		t.Errorf("%d stored and %d repeats, want 20 and the 3 whose acknowledgement failed", stored, repeats)
	}
}

func TestEventsOfAMessageGetIDAndKeyOfTheirPayload(t *testing.T) {
	b := open(t, 0, "in")
	ce := func(contentType string) event.Headers {
		return event.Headers(nil).AppendString("content-type", contentType)
	}
	q := newQueue(
		event.Record{Key: []byte("routing"), Value: []byte("plain")},
		event.Record{Headers: ce(event.TypeStructured), Value: []byte(`{"specversion":"1.0","id":"s","source":"/a","type":"t","data":{"a":1}}`)},
		event.Record{Headers: ce(event.TypeBatch), Value: []byte(`[{"specversion":"1.0","id":"b1","source":"/a","type":"t","data":1},{"specversion":"1.0","id":"b2","source":"/a","type":"t","data":2}]`)},
		event.Record{ID: []byte("m"), Headers: ce(event.TypeStructured), Value: []byte(`{broken`)},
	)
	in := &bridge.In{Receiver: q, Broker: b, Topic: "in", Envelope: func(p []byte) (id, key []byte) {
		if string(p) == "plain" {
			return []byte("from-payload"), []byte("key")
		}
		return nil, nil
	}}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	for q.left() > 0 {
		<-q.acked
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := []string{`b1  1`, `b2  2`, `from-payload key plain`, `m  {broken`, `s  {"a":1}`}
	if d := cmp.Diff(want, values(t, b, "in")); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestAMessageThatIsTooLargeStaysOnTheQueue(t *testing.T) {
	b := open(t, 64, "in")
	q := newQueue(event.Record{ID: []byte("small"), Value: []byte("1")}, event.Record{ID: []byte("large"), Value: make([]byte, 100)})
	err := (&bridge.In{Receiver: q, Broker: b, Topic: "in"}).Run(t.Context())
	if !errkind.Is(err, errkind.Invalid) || q.left() != 2 {
		t.Errorf("%d messages are left, error %v", q.left(), err)
	}
}

// store takes records, some only when they come again, and refuses others for good.
type store struct {
	mu    sync.Mutex
	taken []string
	fails int
	ready chan struct{}
	want  int
}

func (s *store) Send(_ context.Context, b bus.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails > 0 {
		s.fails--
		return errkind.New(errkind.Transient, "away")
	}
	var refused []bus.Refused
	for i, r := range b.Records {
		if r.Value[0] == '7' {
			refused = append(refused, bus.Refused{Index: i, Err: errors.New("no sevens")})
			continue
		}
		s.taken = append(s.taken, string(r.Value))
	}
	if len(s.taken) >= s.want {
		select {
		case s.ready <- struct{}{}:
		default:
		}
	}
	return bus.Refuse(refused)
}

func (s *store) Close() error { return nil }

func TestRecordsAreHandedOverAndTheGroupGoesOn(t *testing.T) {
	b := open(t, 0, "out")
	if _, err := b.Publish(t.Context(), "out", numbered(20)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var refused []string
	run := func(s *store) error {
		s.ready = make(chan struct{}, 1)
		out := &bridge.Out{Broker: b, Topic: "out", Group: "g", Sender: s, Refused: func(_ context.Context, r bridge.RefusedRecord) error {
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, fmt.Sprintf("%s: %v", r.Record.Value, r.Err))
			return nil
		}}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		done := make(chan error, 1)
		go func() { done <- out.Run(ctx) }()
		<-s.ready
		for { // the position follows behind what was taken
			l, _, err := b.Lag(t.Context(), "out", "g")
			if err != nil {
				t.Fatal(err)
			}
			if l.Records == 0 {
				break
			}
		}
		stop()
		return <-done
	}
	first := &store{fails: 2, want: 19}
	if err := run(first); err != nil {
		t.Fatal(err)
	}
	if len(first.taken) != 19 || len(refused) != 1 || refused[0] != "7: no sevens" {
		t.Errorf("%d taken, refused %v", len(first.taken), refused)
	}
	more := numbered(22)[20:]
	if _, err := b.Publish(t.Context(), "out", more); err != nil {
		t.Fatal(err)
	}
	second := &store{want: 2}
	if err := run(second); err != nil {
		t.Fatal(err)
	}
	slices.Sort(second.taken)
	if d := cmp.Diff([]string{"20", "21"}, second.taken); d != "" {
		t.Errorf("the second run (-want +got)\n%s", d)
	}
}

func TestAnErrorThatDoesNotPassEndsTheRun(t *testing.T) {
	b := open(t, 0, "out")
	if _, err := b.Publish(t.Context(), "out", numbered(1)); err != nil {
		t.Fatal(err)
	}
	out := &bridge.Out{Broker: b, Topic: "out", Group: "g", Sender: broken{}}
	if err := out.Run(t.Context()); !errkind.Is(err, errkind.Config) {
		t.Errorf("got %v", err)
	}
	if l, _, err := b.Lag(t.Context(), "out", "g"); err != nil || l.Records != 1 {
		t.Errorf("%d records wait, %v", l.Records, err)
	}
}

type broken struct{}

func (broken) Send(context.Context, bus.Batch) error {
	return errkind.New(errkind.Config, "the password is wrong")
}

func (broken) Close() error { return nil }
