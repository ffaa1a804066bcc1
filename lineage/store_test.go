package lineage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

const topic = "card-fraud-predictions"

func newBroker(t testing.TB) *broker.Broker {
	t.Helper()
	j, err := journal.Open(t.TempDir(), journal.Options{Sync: journal.SyncEvery(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(j, broker.Options{})
	t.Cleanup(func() { _ = b.Close() })
	if err := b.CreateTopic(t.Context(), broker.TopicConfig{Name: topic, Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	return b
}

// publish puts messages of parts of a batch on both partitions.
func publish(t testing.TB, b *broker.Broker, s *Source, batch *Batch, rows int) {
	t.Helper()
	e := NewEncoder(s)
	for from := 0; from < batch.N; from += rows {
		m := e.AppendRows(nil, batch, from, min(batch.N, from+rows))
		r := event.Record{Key: []byte(fmt.Sprint(from)), Value: m}
		if _, err := b.Publish(context.Background(), topic, []event.Record{r}); err != nil {
			t.Fatal(err)
		}
	}
}

func openStore(t testing.TB, o StoreOptions) *Store {
	t.Helper()
	if o.fs == nil {
		o.fs = vfs.NewMem()
	}
	s, err := OpenStore("/lineage", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func search(t testing.TB, r Records, q Query) (ids []string) {
	t.Helper()
	err := r.Search(context.Background(), q, func(p Prediction) bool {
		ids = append(ids, p.ID)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestStoreAndTopicGiveTheSameAnswers(t *testing.T) {
	b := newBroker(t)
	src, batch := cardBatch(500)
	publish(t, b, src, batch, 60)
	if _, err := b.Publish(t.Context(), topic, []event.Record{{Value: []byte("no prediction")}}); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, StoreOptions{})
	if err := NewIndexer(b, topic, s).CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := &Topic{Broker: b, Name: topic}
	for _, id := range []string{batch.IDs[0], batch.IDs[499], string(batch.Results[77])} {
		want, err := read.Event(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Event(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, sameBits); d != "" || len(got) != 1 || got[0].Published == 0 {
			t.Errorf("event %s (-topic +store):\n%s", id, d)
		}
	}
	for _, r := range []Records{s, read} {
		if _, err := r.Event(t.Context(), "of nobody"); !errkind.Is(err, errkind.NotFound) {
			t.Errorf("an event that was not scored: %v", err)
		}
		if err := r.Search(t.Context(), Query{Where: "scoer > 0.5"}, func(Prediction) bool { return true }); !errkind.Is(err, errkind.Config) {
			t.Errorf("a condition with a wrong name: %v", err)
		}
	}
	mid := time.Unix(0, batch.Time[250])
	for name, q := range map[string]Query{
		"all": {}, "condition": {Where: `score >= 0.9 && role == "champion" && path == "scored"`}, "limit": {Limit: 7},
		"times": {From: mid.Add(-20 * time.Second), To: mid}, "key": {Key: batch.Keys[9]}, "key and limit": {Key: batch.Keys[9], Limit: 1},
		"feature": {Where: "terminal_risk_7d > 0.0 && tx_amount < 100.0", Limit: 5}, "none": {Where: "score > 2.0"},
	} {
		got := search(t, s, q)
		if d := cmp.Diff(search(t, read, q), got); d != "" {
			t.Errorf("%s (-topic +store):\n%s", name, d)
		}
		var want []string
		for i := batch.N - 1; i >= 0; i-- {
			at := time.Unix(0, batch.Time[i])
			score, f := batch.Steps[0].Outputs[0].Floats[i], batch.Features
			switch {
			case q.Where != "" && name == "condition" && score < 0.9, name == "none",
				!q.From.IsZero() && (at.Before(q.From) || !at.Before(q.To)), q.Key != "" && q.Key != batch.Keys[i],
				name == "feature" && (f[7].Floats[i] == 0 || f[0].Floats[i] >= 100), q.Limit > 0 && len(want) == q.Limit:
			default:
				want = append(want, batch.IDs[i])
			}
		}
		// Events of one second on two partitions come in the order of their publication.
		if len(want) != len(got) || q.Limit == 0 && cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))) != "" {
			t.Errorf("%s: got %d, want %d", name, len(got), len(want))
		}
	}
}

func TestAnIndexerThatIsKilledTakesEachPredictionOnce(t *testing.T) {
	b := newBroker(t)
	src, batch := cardBatch(400)
	publish(t, b, src, batch, 3)
	r := rand.New(rand.NewPCG(1, 1))
	disk := vfs.NewCrashableMem()
	for round := range 12 {
		s, err := OpenStore("/lineage", StoreOptions{fs: disk})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if got := s.Stats().Rows; got != int64(len(search(t, s, Query{}))) {
			t.Fatalf("round %d: the store says that it holds %d predictions", round, got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		x := NewIndexer(b, topic, s)
		stop := int64(r.IntN(40))
		x.Progress = func(done, _ int64) {
			if done > stop {
				cancel()
			}
		}
		err = x.CatchUp(ctx)
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		next := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(100), RNG: rand.New(rand.NewPCG(uint64(round), 2))})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		disk = next
	}
	s := openStore(t, StoreOptions{fs: disk})
	if err := NewIndexer(b, topic, s).CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := search(t, s, Query{})
	slices.Sort(got)
	want := slices.Sorted(slices.Values(batch.IDs))
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestPredictionsAreKeptAsLongAsThePolicySays(t *testing.T) {
	b := newBroker(t)
	src, batch := cardBatch(1000)
	publish(t, b, src, batch, 100)
	clock := time.Now()
	s := openStore(t, StoreOptions{Now: func() time.Time { return clock }, Policy: Policy{Keep: []Rule{
		{When: "score >= 0.9", For: 240 * time.Hour}, {Share: 0.5, For: time.Hour},
	}}})
	x := NewIndexer(b, topic, s)
	if err := x.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	high := int64(0)
	for _, v := range batch.Steps[0].Outputs[0].Floats {
		if v >= 0.9 {
			high++
		}
	}
	if rows := s.Stats().Rows; rows < high+(1000-high)*4/10 || rows > high+(1000-high)*6/10 {
		t.Errorf("%d are kept of 1000, of which %d are above 0.9 and half of the others should be", rows, high)
	}
	clock = clock.Add(2 * time.Hour)
	publish(t, b, src, batch, 1000) // a sweep comes with what is taken
	if err := x.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := search(t, s, Query{Where: "score < 0.9"}); len(got) > 0 && s.Stats().Rows > 2*high {
		t.Errorf("%d are left after their hour", len(got))
	}
	if got := search(t, s, Query{Where: "score >= 0.9"}); int64(len(got)) != 2*high {
		t.Errorf("%d above 0.9 are there, want %d", len(got), 2*high)
	}
	if got, _ := s.Event(t.Context(), batch.IDs[0]); batch.Steps[0].Outputs[0].Floats[0] < 0.9 && len(got) > 1 {
		t.Error("an expired prediction is found")
	}
}

func TestTheStoreStaysBelowItsBytes(t *testing.T) {
	b := newBroker(t)
	src, batch := cardBatch(1024)
	const most = 1 << 20
	s := openStore(t, StoreOptions{Policy: Policy{MaxBytes: most}})
	x := NewIndexer(b, topic, s)
	for range 20 {
		publish(t, b, src, batch, 128)
		if err := x.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); st.Bytes > most {
			t.Fatalf("%d bytes, may be %d", st.Bytes, most)
		}
	}
	if st := s.Stats(); st.Bytes < most*8/10 {
		t.Errorf("%d bytes are kept, may be %d", st.Bytes, most)
	}
	if rows := s.Stats().Rows; int64(len(search(t, s, Query{}))) != rows {
		t.Errorf("the store says that it holds %d", rows)
	}
	got, err := s.Event(t.Context(), batch.IDs[3])
	if err != nil || len(got) == 0 || len(got) > 20 {
		t.Errorf("%d predictions, %v", len(got), err)
	}
}

func TestATopicMadeAnewIsTakenFromItsBeginning(t *testing.T) {
	b := newBroker(t)
	src, batch := cardBatch(100)
	publish(t, b, src, batch, 1)
	s := openStore(t, StoreOptions{})
	x := NewIndexer(b, topic, s)
	if err := x.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	if err := b.CreateTopic(t.Context(), broker.TopicConfig{Name: topic, Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	publish(t, b, src, batch, 50)
	if err := x.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(search(t, s, Query{})); got != 100 {
		t.Errorf("%d predictions, want 100", got)
	}
}

func TestFollowTakesWhatComes(t *testing.T) {
	b := newBroker(t)
	src, batch := cardBatch(50)
	s := openStore(t, StoreOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- NewIndexer(b, topic, s).Follow(ctx) }()
	publish(t, b, src, batch, 5)
	for deadline := time.Now().Add(time.Minute); s.Stats().Rows < 50; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 50 were taken within a minute", s.Stats().Rows)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAFolderInUseIsAConflict(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenStore(dir, StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(dir, StoreOptions{}); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("a second owner: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenStore(dir, StoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Event(t.Context(), "x"); !errkind.Is(err, errkind.Closed) {
		t.Errorf("after Close: %v", err)
	}
}

func BenchmarkTake(b *testing.B) {
	src, batch := cardBatch(1024)
	s, err := OpenStore(b.TempDir(), StoreOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	message := NewEncoder(src).Append(nil, batch)
	next := int64(0)
	now := time.Now().UnixNano()
	for b.Loop() {
		next++
		if _, _, err := s.take(0, []published{{message, now}}, next); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/event")
}
