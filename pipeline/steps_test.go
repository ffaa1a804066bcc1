package pipeline_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/pipeline"
)

// stepped is the journal as a broker without transactions, perhaps with gaps
// between positions, whose client dies at a given write.
type stepped struct {
	*journal.Journal
	append  bool
	spacing int64         // between positions; 1 for none
	limit   int           // of a record
	dedup   time.Duration // Source.Deduplicate

	mu     sync.Mutex
	writes int
	dieAt  int  // at this write; 0 for never
	stored bool // the write itself goes through, only its answer is lost
	dead   bool
}

var errDead = errkind.New(errkind.Permanent, "the process is dead")

func (s *stepped) Capabilities() broker.Capabilities {
	c := s.Journal.Capabilities()
	c.Transactions, c.Dedup, c.Append, c.Gapless, c.MaxRecordBytes = false, false, s.append, s.spacing == 1, s.limit
	return c
}

func (s *stepped) up(position int64) int64 { return position * s.spacing }

func (s *stepped) down(position int64) int64 { return (position + s.spacing - 1) / s.spacing }

// write does a write, or dies before or behind it.
func (s *stepped) write(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errDead
	}
	s.writes++
	if s.writes != s.dieAt {
		return f()
	}
	s.dead = true
	if s.stored {
		if err := f(); err != nil {
			return err
		}
	}
	return errDead
}

func (s *stepped) Publish(ctx context.Context, topic string, recs []event.Record) (p broker.Published, err error) {
	err = s.write(func() (err error) {
		p, err = s.Journal.Publish(ctx, topic, recs)
		return err
	})
	return p, err
}

func (s *stepped) Append(ctx context.Context, topic string, partition int, at int64, recs []event.Record) (end int64, err error) {
	err = s.write(func() error {
		t, err := s.Journal.Describe(ctx, topic, "")
		if err != nil {
			return err
		}
		if s.up(t.Partitions[partition].End) != at {
			return errkind.Errorf(errkind.Conflict, "the end is %d", s.up(t.Partitions[partition].End))
		}
		end = s.up(t.Partitions[partition].End + int64(len(recs)))
		return s.Journal.Commit(ctx, &broker.Tx{Publish: []broker.Publication{{Topic: topic, Partition: partition, Records: recs}}})
	})
	return end, err
}

// CreateTopic makes a topic that drops no repeats, so that they can be counted.
func (s *stepped) CreateTopic(ctx context.Context, c broker.TopicConfig) error {
	c.DedupWindow = 0
	return s.Journal.CreateTopic(ctx, c)
}

func (s *stepped) Describe(ctx context.Context, topic, group string) (broker.Topic, error) {
	t, err := s.Journal.Describe(ctx, topic, group)
	for i := range t.Partitions {
		p := &t.Partitions[i]
		p.Start, p.End = s.up(p.Start), s.up(p.End)
		if p.Committed > 0 {
			p.Committed = s.up(p.Committed-1) + 1
		}
	}
	return t, err
}

func (s *stepped) Trim(ctx context.Context, topic string, partition int, before int64) error {
	return s.Journal.Trim(ctx, topic, partition, s.down(before))
}

func (s *stepped) Read(ctx context.Context, topic string, partition int, from int64) (broker.Reader, error) {
	r, err := s.Journal.Read(ctx, topic, partition, s.down(from))
	if err != nil {
		return nil, err
	}
	sr := &steppedReader{Reader: r, s: s}
	sr.next.Store(from)
	return sr, nil
}

func (s *stepped) Subscribe(ctx context.Context, sub broker.Subscription) (broker.Consumer, error) {
	c, err := s.Journal.Subscribe(ctx, sub)
	if err != nil {
		return nil, err
	}
	return &steppedConsumer{c, s}, nil
}

type steppedConsumer struct {
	broker.Consumer
	s *stepped
}

func (c *steppedConsumer) Claim(ctx context.Context) (broker.Claim, error) {
	claim, err := c.Consumer.Claim(ctx)
	if err != nil {
		return nil, err
	}
	sc := &steppedClaim{Claim: claim, s: c.s}
	sc.reader = &steppedReader{Reader: fetchOnly{claim}, s: c.s}
	sc.reader.next.Store(sc.Start())
	return sc, nil
}

type fetchOnly struct{ broker.Claim }

func (fetchOnly) Close() error { return nil }

type steppedClaim struct {
	broker.Claim
	s      *stepped
	reader *steppedReader
}

func (c *steppedClaim) Start() int64 {
	if p := c.Claim.Start(); p > 0 {
		return c.s.up(p-1) + 1
	}
	return 0
}

func (c *steppedClaim) Fetch(ctx context.Context, n int) (*broker.Batch, error) {
	return c.reader.Fetch(ctx, n)
}

func (c *steppedClaim) Position() int64 { return c.reader.Position() }

func (c *steppedClaim) SeekTo(position int64) error {
	c.reader.next.Store(position)
	return c.Claim.SeekTo(c.s.down(position))
}

func (c *steppedClaim) Commit(ctx context.Context, next int64) error {
	return c.s.write(func() error { return c.Claim.Commit(ctx, c.s.down(next)) })
}

// steppedReader passes the gap behind the last record when it waits in vain.
type steppedReader struct {
	broker.Reader
	s    *stepped
	next atomic.Int64
}

func (r *steppedReader) Fetch(ctx context.Context, n int) (*broker.Batch, error) {
	b, err := r.Reader.Fetch(ctx, n)
	if err != nil {
		r.next.Store(r.s.up(r.s.down(r.next.Load())))
		return nil, err
	}
	b.End = r.s.up(b.End)
	for i := range b.Records {
		b.Records[i].Position = r.s.up(b.Records[i].Position)
	}
	r.next.Store(b.Next())
	return b, nil
}

func (r *steppedReader) Position() int64 { return r.next.Load() }

// run runs the pipeline on the broker until nothing is left or the client dies.
func (s *stepped) run(t *testing.T, m *moving, checkpoints bool) error {
	t.Helper()
	spec, faults := pipeline.Load(m.file, nil)
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	spec.Source.Deduplicate = s.dedup
	if checkpoints {
		spec.State.Checkpoints, spec.State.Every = "file://"+m.folder, 5*time.Millisecond
	}
	plan, faults := pipeline.MakePlan(spec, pipeline.Files(m.open))
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	p, err := pipeline.New(plan, builtin.PipelineDeps(broker.New(s, broker.Options{}), nil, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	p.Shrink(16, 2<<10)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = p.Run(ctx, pipeline.RunOptions{UntilIdle: true})
	if err == nil && ctx.Err() != nil {
		t.Fatal("the pipeline does not come to an end")
	}
	return err
}

// distinct are the features of results by event, and how many results came twice;
// both must be alike.
func (s *setup) distinct(topic string) (out map[string]map[string]any, repeats int) {
	s.t.Helper()
	out = map[string]map[string]any{}
	ids := map[string]string{}
	for _, v := range s.read(topic) {
		event, id := v["source_id"].(string), v["id"].(string)
		if out[event] != nil {
			repeats++
			if d := cmp.Diff(out[event], v["features"]); d != "" || ids[event] != id {
				s.t.Errorf("two results of %s, %s and %s, differ (-first +second)\n%s", event, ids[event], id, d)
			}
		}
		out[event], ids[event] = v["features"].(map[string]any), id
	}
	return out, repeats
}

// TestWithoutTransactionsNothingIsLostAtAnyWrite lets a client die before or
// behind each of its writes, and another one go on.
func TestWithoutTransactionsNothingIsLostAtAnyWrite(t *testing.T) {
	vs := visits(300, 3)
	want := features(vs)
	for _, c := range []struct {
		name        string
		append      bool
		spacing     int64
		limit       int
		checkpoints bool
	}{
		{"positions without gaps", true, 1, 8 << 10, false},
		{"positions with gaps", true, 1024, 8 << 10, false},
		{"small records", true, 1, 600, false},
		{"state in checkpoints", true, 3, 8 << 10, true},
		{"plain appends", false, 1, 8 << 10, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			died, repeats := 0, 0
			step := 11
			if testing.Short() {
				step = 31
			}
			for at := 1; ; at += step {
				m := newMoving(t)
				publish(t, m.b, "visits", records(vs)...)
				for life := 0; ; life++ {
					s := &stepped{Journal: m.j.(*journal.Journal), append: c.append, spacing: c.spacing, limit: c.limit, stored: (at+life)%2 == 0}
					if life < 2 {
						s.dieAt = at
					}
					err := s.run(t, m, c.checkpoints)
					if err == nil {
						if life == 0 {
							t.Logf("%d lives ended at one of about %d writes, %d results came twice", died, s.writes, repeats)
							return
						}
						break
					}
					if !errors.Is(err, errDead) {
						t.Fatalf("write %d: %v", at, err)
					}
					died++
				}
				got, n := m.distinct("visited")
				repeats += n
				if d := cmp.Diff(want, got); d != "" {
					t.Fatalf("dead at write %d (-want +got)\n%s", at, shortened(d))
				}
				m.b.Close()
			}
		})
	}
}

// TestEventsThatWereStoredTwiceAreProcessedOnce sends each event again, some at
// once and some later, and lets clients die.
func TestEventsThatWereStoredTwiceAreProcessedOnce(t *testing.T) {
	vs := visits(300, 4)
	want := features(vs)
	recs := records(vs)
	var twice []event.Record
	for i := range recs {
		twice = append(twice, recs[i])
		if i%3 == 0 {
			twice = append(twice, recs[i])
		}
		if i >= 40 {
			twice = append(twice, recs[i-40])
		}
	}
	for at := 5; at < 100; at += 23 {
		m := newMoving(t)
		if err := m.b.DeleteTopic(t.Context(), "visits"); err != nil {
			t.Fatal(err)
		}
		if err := m.b.CreateTopic(t.Context(), broker.TopicConfig{Name: "visits", Partitions: 4}); err != nil {
			t.Fatal(err)
		}
		publish(t, m.b, "visits", twice...)
		for life := 0; ; life++ {
			s := &stepped{Journal: m.j.(*journal.Journal), append: true, spacing: 1, limit: 8 << 10, dedup: time.Hour, stored: (at+life)%2 == 0}
			if life < 2 {
				s.dieAt = at
			}
			err := s.run(t, m, false)
			if err == nil {
				break
			}
			if !errors.Is(err, errDead) {
				t.Fatalf("write %d: %v", at, err)
			}
		}
		got, _ := m.distinct("visited")
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("dead at write %d (-want +got)\n%s", at, shortened(d))
		}
		m.b.Close()
	}
}
