package broker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/google/go-cmp/cmp"
)

// scripted is a driver whose calls fail as its script says, in order, and then
// succeed.
type scripted struct {
	caps   broker.Capabilities
	script []error
	topics map[string]broker.Topic
	calls  []string
	sizes  []int // records of each successful Publish
	at     []time.Time
	closes int
}

func (d *scripted) step(call string) error {
	d.calls = append(d.calls, call)
	d.at = append(d.at, time.Now())
	if len(d.script) == 0 {
		return nil
	}
	err := d.script[0]
	d.script = d.script[1:]
	return err
}

func (d *scripted) Capabilities() broker.Capabilities { return d.caps }

func (d *scripted) Publish(_ context.Context, _ string, recs []event.Record) (broker.Published, error) {
	if err := d.step("publish"); err != nil {
		return broker.Published{}, err
	}
	d.sizes = append(d.sizes, len(recs))
	return broker.Published{Stored: len(recs) - 1, Duplicates: 1}, nil
}

func (d *scripted) Subscribe(context.Context, broker.Subscription) (broker.Consumer, error) {
	return nil, d.step("subscribe")
}

func (d *scripted) Read(context.Context, string, int, int64) (broker.Reader, error) {
	return nil, d.step("read")
}

func (d *scripted) Describe(_ context.Context, topic, _ string) (broker.Topic, error) {
	if err := d.step("describe"); err != nil {
		return broker.Topic{}, err
	}
	t, ok := d.topics[topic]
	if !ok {
		return t, errkind.New(errkind.NotFound, "no such topic")
	}
	return t, nil
}

func (d *scripted) Close() error {
	d.closes++
	return nil
}

// scriptedFull is a scripted driver with every extra.
type scriptedFull struct{ scripted }

func (d *scriptedFull) Commit(context.Context, *broker.Tx) error { return d.step("commit") }

func (d *scriptedFull) CreateTopic(_ context.Context, c broker.TopicConfig) error {
	if err := d.step("create"); err != nil {
		return err
	}
	d.topics[c.Name] = broker.Topic{Config: c, Partitions: make([]broker.PartitionState, c.Partitions)}
	return nil
}
func (d *scriptedFull) DeleteTopic(context.Context, string) error { return d.step("delete") }
func (d *scriptedFull) Topics(context.Context) ([]string, error)  { return nil, d.step("topics") }
func (d *scriptedFull) Trim(context.Context, string, int, int64) error {
	return d.step("trim")
}
func (d *scriptedFull) Seek(context.Context, string, int, time.Time) (int64, error) {
	return 7, d.step("seek")
}

func full(script ...error) *scriptedFull {
	return &scriptedFull{scripted{
		caps:   broker.Capabilities{Transactions: true, Admin: true, MaxBatch: 3, MaxRecordBytes: 10},
		script: script,
		topics: map[string]broker.Topic{},
	}}
}

var (
	errTransient = errkind.New(errkind.Transient, "connection reset")
	errThrottled = errkind.New(errkind.Throttled, "slow down")
	errPermanent = errkind.New(errkind.Permanent, "refused")
)

func half() float64 { return 0.5 }

func TestPublishSplitsIntoBatchesInOrder(t *testing.T) {
	d := full()
	p, err := broker.New(d, broker.Options{}).Publish(t.Context(), "a", make([]event.Record, 8))
	if err != nil || p != (broker.Published{Stored: 5, Duplicates: 3}) {
		t.Fatalf("got %+v, %v", p, err)
	}
	if diff := cmp.Diff([]int{3, 3, 2}, d.sizes); diff != "" {
		t.Fatal(diff)
	}
}

func TestPublishCountsTheBatchesBeforeAFailure(t *testing.T) {
	d := full(nil, errPermanent)
	p, err := broker.New(d, broker.Options{}).Publish(t.Context(), "a", make([]event.Record, 8))
	if !errkind.Is(err, errkind.Permanent) || p != (broker.Published{Stored: 2, Duplicates: 1}) {
		t.Fatalf("got %+v, %v", p, err)
	}
}

func TestOversizeRecordsAreListedAndNothingIsSent(t *testing.T) {
	d := full()
	b := broker.New(d, broker.Options{})
	recs := []event.Record{{Value: make([]byte, 10)}, {Key: []byte("k"), Value: make([]byte, 10)}, {}, {Value: make([]byte, 99)}}
	want := &broker.TooLargeError{Topic: "a", Limit: 10, Records: []broker.LargeRecord{{Index: 1, Size: 11}, {Index: 3, Size: 99}}}

	_, err := b.Publish(t.Context(), "a", recs)
	var got *broker.TooLargeError
	if !errors.As(err, &got) || !errkind.Is(err, errkind.Invalid) {
		t.Fatalf("Publish: got %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if want := `record 1 for topic "a" has 11 bytes, this broker takes at most 10 (and 1 more such records)`; err.Error() != want {
		t.Fatalf("got %q, want %q", err, want)
	}
	err = b.Commit(t.Context(), &broker.Tx{Publish: []broker.Publication{{Topic: "a", Records: recs}}})
	if !errors.As(err, &got) {
		t.Fatalf("Commit: got %v", err)
	}
	if len(d.calls) != 0 {
		t.Fatalf("the driver was called: %v", d.calls)
	}
}

func TestRetryBacksOffExponentiallyAndSlowerWhenThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := full(errTransient, errTransient, errThrottled, errTransient, errTransient)
		b := broker.New(d, broker.Options{Retry: broker.Retry{Min: 40 * time.Millisecond, Max: 400 * time.Millisecond, Rand: half}})
		start := time.Now()
		if _, err := b.Publish(t.Context(), "a", make([]event.Record, 2)); err != nil {
			t.Fatal(err)
		}
		var waits []time.Duration
		for _, at := range d.at[1:] {
			waits = append(waits, at.Sub(start))
			start = at
		}
		ms := time.Millisecond // three quarters of 40, 80, 640→400, 320, 640→400
		if diff := cmp.Diff([]time.Duration{30 * ms, 60 * ms, 300 * ms, 240 * ms, 300 * ms}, waits); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestOnlyPassingFailuresAreRepeated(t *testing.T) {
	for k := errkind.Unknown; k <= errkind.Closed; k++ {
		synctest.Test(t, func(t *testing.T) {
			d := full(errkind.New(k, "no"), errkind.New(k, "no"), errkind.New(k, "no"))
			b := broker.New(d, broker.Options{Retry: broker.Retry{Attempts: 3}})
			_, err := b.Publish(t.Context(), "a", make([]event.Record, 1))
			want := 1
			if k == errkind.Transient || k == errkind.Throttled {
				want = 3
			}
			if len(d.calls) != want || !errkind.Is(err, k) {
				t.Errorf("%v: %d calls, %v", k, len(d.calls), err)
			}
		})
	}
}

func TestEveryCallIsRepeated(t *testing.T) {
	calls := map[string]func(ctx context.Context, b *broker.Broker) error{
		"subscribe": func(ctx context.Context, b *broker.Broker) error {
			_, err := b.Subscribe(ctx, broker.Subscription{Topic: "a", Group: "g"})
			return err
		},
		"read": func(ctx context.Context, b *broker.Broker) error { _, err := b.Read(ctx, "a", 0, 0); return err },
		"describe": func(ctx context.Context, b *broker.Broker) error {
			_, err := b.Describe(ctx, "a", "")
			return err
		},
		"commit": func(ctx context.Context, b *broker.Broker) error { return b.Commit(ctx, &broker.Tx{}) },
		"create": func(ctx context.Context, b *broker.Broker) error {
			return b.CreateTopic(ctx, broker.TopicConfig{Name: "b", Partitions: 1})
		},
		"delete": func(ctx context.Context, b *broker.Broker) error { return b.DeleteTopic(ctx, "a") },
		"topics": func(ctx context.Context, b *broker.Broker) error { _, err := b.Topics(ctx); return err },
		"trim":   func(ctx context.Context, b *broker.Broker) error { return b.Trim(ctx, "a", 0, 1) },
		"seek": func(ctx context.Context, b *broker.Broker) error {
			_, err := b.Seek(ctx, "a", 0, time.Time{})
			return err
		},
	}
	for name, call := range calls {
		synctest.Test(t, func(t *testing.T) {
			d := full(errTransient, errThrottled)
			d.topics["a"] = broker.Topic{}
			if err := call(t.Context(), broker.New(d, broker.Options{})); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if diff := cmp.Diff([]string{name, name, name}, d.calls); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCommitOfUnknownOutcomeIsNotRepeated(t *testing.T) {
	d := full(context.DeadlineExceeded)
	err := broker.New(d, broker.Options{}).Commit(t.Context(), &broker.Tx{})
	if !errors.Is(err, context.DeadlineExceeded) || len(d.calls) != 1 {
		t.Fatalf("got %v after %d calls", err, len(d.calls))
	}
}

func TestBackOffEndsWithTheContextOrTheBroker(t *testing.T) {
	slow := broker.Options{Retry: broker.Retry{Min: time.Hour, Max: time.Hour}}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := broker.New(full(errTransient), slow).Describe(ctx, "a", "")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(full(errTransient), slow)
		time.AfterFunc(time.Second, func() { b.Close() })
		if _, err := b.Describe(t.Context(), "a", ""); !errkind.Is(err, errkind.Closed) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestCloseClosesTheDriverOnceAndEndsTheBroker(t *testing.T) {
	d := full()
	b := broker.New(d, broker.Options{})
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if d.closes != 1 {
		t.Fatalf("driver closed %d times", d.closes)
	}
	if _, err := b.Publish(t.Context(), "a", make([]event.Record, 1)); !errkind.Is(err, errkind.Closed) {
		t.Fatalf("Publish after Close: %v", err)
	}
}

func TestWhatTheDriverLacksIsUnsupported(t *testing.T) {
	b := broker.New(&scripted{}, broker.Options{})
	ctx := t.Context()
	_, seek := b.Seek(ctx, "a", 0, time.Time{})
	_, topics := b.Topics(ctx)
	_, ensure := b.Ensure(ctx, broker.TopicConfig{Name: "a", Partitions: 1})
	for i, err := range []error{
		b.Commit(ctx, &broker.Tx{}), b.CreateTopic(ctx, broker.TopicConfig{Name: "a", Partitions: 1}),
		b.DeleteTopic(ctx, "a"), b.Trim(ctx, "a", 0, 1), seek, topics, ensure,
	} {
		if !errkind.Is(err, errkind.Unsupported) {
			t.Errorf("%d: got %v", i, err)
		}
	}
}

func TestEnsureMakesWhatIsMissingAndChecksWhatIsThere(t *testing.T) {
	d := full()
	b := broker.New(d, broker.Options{})
	ctx := t.Context()
	for _, n := range []int{4, 4, 0} {
		got, err := b.Ensure(ctx, broker.TopicConfig{Name: "a", Partitions: n})
		if err != nil || len(got.Partitions) != 4 {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	if _, err := b.Ensure(ctx, broker.TopicConfig{Name: "a", Partitions: 2}); !errkind.Is(err, errkind.Conflict) {
		t.Fatalf("other number of partitions: %v", err)
	}
	if _, err := b.Ensure(ctx, broker.TopicConfig{Name: "b"}); !errkind.Is(err, errkind.Invalid) {
		t.Fatalf("missing topic without a number of partitions: %v", err)
	}
	if _, err := b.Ensure(ctx, broker.TopicConfig{Name: "b/../c", Partitions: 1}); !errkind.Is(err, errkind.Invalid) {
		t.Fatalf("bad name: %v", err)
	}
}

func TestTopicNames(t *testing.T) {
	for _, name := range []string{"a", "card-fraud-dead-letters", "A.b_c-9", strings.Repeat("x", 249)} {
		if err := broker.CheckTopicName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "a b", "ä", "a\x00", strings.Repeat("x", 250)} {
		if err := broker.CheckTopicName(name); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func TestLagCountsRecordsAndTheAgeOfTheOldest(t *testing.T) {
	now := time.Unix(1000, 0)
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixNano() }
	d := full()
	d.topics["a"] = broker.Topic{Partitions: []broker.PartitionState{
		{Start: 5, End: 15, Committed: 12, Waiting: 3, OldestTime: ago(2 * time.Second)},
		{Start: 5, End: 15, Committed: -1, Waiting: 10, OldestTime: ago(9 * time.Second)},
		{Start: 5, End: 15, Committed: 2, Waiting: 10, OldestTime: ago(-time.Second)}, // a clock ahead
		{Start: 5, End: 15, Committed: 15},
		{Start: 0, End: 0, Committed: -1},
	}}
	b := broker.New(d, broker.Options{Now: func() time.Time { return now }})
	total, parts, err := b.Lag(t.Context(), "a", "g")
	if err != nil {
		t.Fatal(err)
	}
	want := []broker.Lag{{3, 2 * time.Second}, {10, 9 * time.Second}, {10, 0}, {}, {}}
	if diff := cmp.Diff(want, parts); diff != "" {
		t.Fatal(diff)
	}
	if want := (broker.Lag{Records: 23, OldestAge: 9 * time.Second}); total != want {
		t.Fatalf("got %+v, want %+v", total, want)
	}
}
