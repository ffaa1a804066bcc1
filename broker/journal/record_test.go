package journal

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// journalOfOneTopic is a journal with the topic "t" of n partitions.
func journalOfOneTopic(t *testing.T, n int) *Journal {
	j, err := Open(t.TempDir(), Options{}.Quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	if err := j.CreateTopic(context.Background(), broker.TopicConfig{Name: "t", Partitions: n}); err != nil {
		t.Fatal(err)
	}
	return j
}

// TestHeadersComeBackWhetherTheyRepeatOrNot reads records back from every
// position, so from within a block too, and a few at a time.
func TestHeadersComeBackWhetherTheyRepeatOrNot(t *testing.T) {
	ctx := context.Background()
	a := event.Headers(nil).AppendString("ce_type", "a")
	b := event.Headers(nil).AppendString("ce_type", "b") // as long as a
	long := event.Headers(nil).AppendString("x", string(make([]byte, maxRepeat)))
	sequence := []event.Headers{nil, a, a, bytes.Clone(a), b, b, nil, nil, a, a, long, long, {}, a, b, b}
	const parts = 3
	var recs []event.Record
	for i, h := range sequence {
		for k := range parts { // the partitions take turns, each with a sequence of its own
			recs = append(recs, event.Record{
				Key:     fmt.Append(nil, k),
				Headers: sequence[(i+5*k)%len(sequence)],
				Value:   fmt.Append(nil, i, len(h)),
			})
		}
	}
	j := journalOfOneTopic(t, parts)
	publish := func(recs []event.Record) {
		if _, err := j.Publish(ctx, "t", recs); err != nil {
			t.Fatal(err)
		}
	}
	publish(recs)
	publish(recs[:parts]) // further blocks
	recs = append(recs, recs[:parts]...)
	var want [parts][]event.Record
	for _, r := range recs {
		p := broker.PartitionFor(r.Key, parts)
		if len(r.Headers) == 0 {
			r.Headers = nil
		}
		r.Position = int64(len(want[p]))
		want[p] = append(want[p], r)
	}
	for p := range parts {
		for from := range want[p] {
			for _, limit := range []int{1, 2, 1000} {
				r, err := j.Read(ctx, "t", p, int64(from))
				if err != nil {
					t.Fatal(err)
				}
				var got []event.Record
				for from+len(got) < len(want[p]) {
					batch, err := r.Fetch(ctx, limit)
					if err != nil {
						t.Fatal(err)
					}
					for _, rec := range batch.Records {
						rec.Time = 0
						rec.Key, rec.Headers, rec.Value = bytes.Clone(rec.Key), bytes.Clone(rec.Headers), bytes.Clone(rec.Value)
						got = append(got, rec)
					}
					batch.Release()
				}
				if diff := cmp.Diff(want[p][from:], got); diff != "" {
					t.Fatalf("partition %d from %d, %d at a time:\n%s", p, from, limit, diff)
				}
				_ = r.Close()
			}
		}
	}
}

func TestHeadersAreWrittenOnceABlockWhereTheyRepeat(t *testing.T) {
	h := event.Headers(nil).AppendString("ce_type", "io.freshet.prediction")
	large := event.Headers(nil).AppendString("x", string(make([]byte, maxRepeat)))
	for _, c := range []struct {
		name    string
		headers event.Headers
		records int
		value   int
		times   int
	}{
		{"one block", h, 100, 10, 1},
		{"a block each", h, 3, maxBlock / 2, 3},
		{"too large to repeat", large, 4, 10, 4},
	} {
		top := newTopic(1, broker.TopicConfig{Name: "t", Partitions: 1})
		o := &op{buf: make([]byte, frameHeader)}
		recs := make([]event.Record, c.records)
		for i := range recs {
			recs[i] = event.Record{Headers: bytes.Clone(c.headers), Value: make([]byte, c.value)}
		}
		o.encode(top, 0, recs)
		if got := bytes.Count(o.buf, c.headers); got != c.times {
			t.Errorf("%s: the headers are there %d times, want %d", c.name, got, c.times)
		}
	}
}

// TestARepeatWithNothingToRepeatIsCorrupt stores blocks whose checksums hold and
// whose records do not.
func TestARepeatWithNothingToRepeatIsCorrupt(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name  string
		count int
		data  []byte
	}{
		{"first record", 1, []byte{0, 0, 0, 0}},
		{"behind a record without headers", 2, []byte{0, 0, 1, 0, 0, 0, 0, 0}},
		{"longer than the block", 1, []byte{0, 0, 9, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := journalOfOneTopic(t, 1)
			if _, err := j.Publish(ctx, "t", []event.Record{{Headers: event.Headers(nil).AppendString("a", "b")}}); err != nil {
				t.Fatal(err)
			}
			p := j.byName["t"].parts[0]
			o := j.newOp()
			o.addBlock(opBlock{p: p, head: blockHead{kind: kindRecords, topic: p.topic.id, count: c.count}}, c.data)
			if err := j.submit(ctx, o); err != nil {
				t.Fatal(err)
			}
			r, err := j.Read(ctx, "t", 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for err == nil {
				_, err = r.Fetch(ctx, 1)
			}
			if !errkind.Is(err, errkind.Corrupt) {
				t.Errorf("Fetch: %v, want Corrupt", err)
			}
			rep, err := Check(j.dir)
			if err != nil || rep.Damage == nil {
				t.Errorf("Check: %+v, %v", rep, err)
			}
		})
	}
}
