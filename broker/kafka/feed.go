package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// feed reads one partition with a client of its own, so that no partition
// waits for another. What it holds is bounded by two answers of a server.
type feed struct {
	d      *Driver
	client *kgo.Client
	topic  *topic
	part   int32

	pos   atomic.Int64 // where the next Fetch begins
	end   atomic.Int64 // the high watermark, as the server said last
	queue []*kgo.Record
	told  bool // the client knows where to read, and reads ahead
	flows bool // it has received something

	ended context.Context // when the feed is over, with the cause
	over  context.CancelCauseFunc
}

// fetchBytes bounds one answer of a server, but for a single larger batch.
const fetchBytes = 2 << 20

// idleCheck is how often a feed that gets nothing asks whether its topic still is.
const idleCheck = 5 * time.Second

// newFeed returns a feed that reads nothing until it is sent to a position.
func (d *Driver) newFeed(t *topic, p int32) (*feed, error) {
	f := &feed{d: d, topic: t, part: p}
	var err error
	f.client, err = d.s.client(
		kgo.MaxVersions(versions(d.tx2)),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchBytes),
		kgo.FetchMaxWait(min(5*time.Second, d.s.timeout/2)),
	)
	if err != nil {
		return nil, err
	}
	f.ended, f.over = context.WithCancelCause(d.ctx)
	return f, nil
}

// batch is a broker.Batch with the memory of its records.
type batch struct {
	broker.Batch
	records []event.Record
	arena   []byte // of packed headers
}

// newBatch is the pool's New; Release brings the batch back.
func newBatch() any { return &batch{} }

func (d *Driver) batch() *batch {
	b := d.batches.Get().(*batch)
	if b.Free == nil {
		b.Free = func(*broker.Batch) {
			clear(b.records)
			b.Records = nil
			d.batches.Put(b)
		}
	}
	return b
}

// fetch is Fetch of Reader and Claim.
func (f *feed) fetch(ctx context.Context, limit int) (*broker.Batch, error) {
	if err := f.check(ctx); err != nil {
		return nil, err
	}
	for {
		if b := f.take(limit); b != nil {
			return b, nil
		}
		if err := f.poll(ctx); err != nil {
			return nil, err
		}
	}
}

// check reports that ctx or the feed is over.
func (f *feed) check(ctx context.Context) error {
	switch {
	case f.d.ctx.Err() != nil:
		return errkind.Errorf(errkind.Closed, "fetch from topic %q partition %d: the driver is closed", f.topic.name, f.part)
	case f.ended.Err() != nil:
		return fmt.Errorf("fetch from topic %q partition %d: %w", f.topic.name, f.part, context.Cause(f.ended))
	case ctx.Err() != nil:
		return fmt.Errorf("fetch from topic %q partition %d: %w", f.topic.name, f.part, ctx.Err())
	}
	return nil
}

// take makes a batch of up to limit records that were received, and passes the
// markers around them. It is nil where there is no record.
func (f *feed) take(limit int) *broker.Batch {
	q := f.queue
	var b *batch
	pos := f.pos.Load()
	for len(q) > 0 {
		k := q[0]
		if k.Attrs.IsControl() {
			pos = k.Offset + 1
			q[0], q = nil, q[1:]
			continue
		}
		if b == nil {
			b = f.d.batch()
			b.records, b.arena = b.records[:0], b.arena[:0]
		}
		if len(b.records) == limit {
			break
		}
		b.records = append(b.records, event.Record{})
		b.arena = fill(&b.records[len(b.records)-1], k, b.arena)
		pos = k.Offset + 1
		q[0], q = nil, q[1:]
	}
	f.queue = q
	f.pos.Store(pos)
	if b == nil {
		return nil
	}
	b.Topic, b.Partition = f.topic.name, int(f.part)
	b.Records, b.After, b.End = b.records, pos, max(f.end.Load(), pos)
	return &b.Batch
}

// poll waits for records or markers, until ctx or the feed is over.
func (f *feed) poll(ctx context.Context) error {
	if !f.told {
		f.set(f.pos.Load())
	}
	both, cancel := context.WithTimeout(ctx, idleCheck)
	defer cancel()
	defer context.AfterFunc(f.ended, cancel)()
	fetches := f.client.PollFetches(both)
	// What the client handed out is kept even where ctx ended meanwhile: it will
	// not hand it out again.
	var trouble error
	for _, ft := range fetches {
		for _, t := range ft.Topics {
			for i := range t.Partitions {
				p := &t.Partitions[i]
				if p.Err != nil {
					trouble = p.Err
				}
				if len(p.Records) > 0 || p.Err == nil {
					f.end.Store(p.HighWatermark)
					f.flows = true
					f.queue = append(f.queue, p.Records...)
				}
			}
		}
	}
	if err := f.check(ctx); err != nil {
		return err
	}
	idle := both.Err() != nil
	if trouble != nil && len(f.queue) == 0 {
		if err := f.troubled(ctx, trouble); err != nil {
			return err
		}
	}
	if idle && len(f.queue) == 0 {
		return f.stillThere(ctx)
	}
	return nil
}

// stillThere fails when the topic was deleted.
func (f *feed) stillThere(ctx context.Context) error {
	t, err := f.d.freshTopic(ctx, f.topic.name)
	switch {
	case errkind.Is(err, errkind.NotFound):
		return f.d.failed(ctx, err, "fetch")
	case err == nil && t.id != f.topic.id:
		return errkind.Errorf(errkind.NotFound, "fetch: topic %q was deleted and made anew", f.topic.name)
	}
	return nil // who does not answer may do so later
}

// troubled acts on an error of a partition; those that pass are waited for.
func (f *feed) troubled(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return f.check(ctx) // of the poll itself
	case errors.Is(err, kerr.OffsetOutOfRange):
		return f.reposition(ctx)
	}
	var loss *kgo.ErrDataLoss
	if errors.As(err, &loss) { // the server lost records that it had: what comes next is there
		f.d.log.Error("the server lost records", "topic", f.topic.name, "partition", f.part, "error", err)
		return nil
	}
	switch kind := kindOf(err); kind {
	case errkind.Transient, errkind.Throttled:
		return f.wait(ctx, 50*time.Millisecond)
	case errkind.NotFound:
		if err := f.stillThere(ctx); err != nil {
			return err
		}
		return f.wait(ctx, 50*time.Millisecond)
	default:
		return f.d.failed(ctx, err, "fetch from topic %q partition %d", f.topic.name, f.part)
	}
}

func (f *feed) wait(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-f.ended.Done():
	}
	return f.check(ctx)
}

// reposition goes on at the first record kept, where the position was trimmed,
// and waits for the log to grow where it lies behind the end.
func (f *feed) reposition(ctx context.Context) error {
	call, cancel := f.d.begin(ctx)
	start, end, err := f.d.bounds(call, f.topic.name, f.part)
	cancel()
	if err != nil {
		f.set(f.pos.Load())
		return f.wait(ctx, 100*time.Millisecond)
	}
	pos := f.pos.Load()
	switch {
	case pos < start:
		f.queue = nil
		f.pos.Store(start)
		f.set(start)
	case pos > end:
		if err := f.wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		f.set(pos)
	default:
		f.set(pos)
	}
	return nil
}

// seek makes the next fetch begin at pos; not concurrently with fetch.
func (f *feed) seek(pos int64) {
	f.queue = nil
	f.pos.Store(pos)
	if f.told && f.flows {
		f.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{f.topic.name: {f.part: {Epoch: -1, Offset: pos}}})
		return
	}
	f.told = false // Fetch tells it
}

// set tells the client anew of the partition.
func (f *feed) set(pos int64) {
	f.told, f.flows = true, false
	f.client.RemoveConsumePartitions(map[string][]int32{f.topic.name: {f.part}})
	f.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{f.topic.name: {f.part: kgo.NewOffset().At(pos)}})
}

// end ends the feed: a fetch in progress returns cause.
func (f *feed) finish(cause error) { f.over(cause) }

func (f *feed) close() { f.client.Close() }

// reader is a broker.Reader.
type reader struct{ *feed }

var _ broker.Positioner = reader{}

// Read implements broker.Driver.
func (d *Driver) Read(ctx context.Context, name string, partition int, from int64) (broker.Reader, error) {
	t, err := d.topic(ctx, name)
	var p int32
	if err == nil {
		p, err = t.partition(partition)
	}
	if err != nil {
		return nil, d.failed(ctx, err, "read")
	}
	f, err := d.newFeed(t, p)
	if err != nil {
		return nil, d.failed(ctx, err, "read topic %q partition %d", name, partition)
	}
	f.seek(max(from, 0))
	r := &reader{f}
	if err := d.keep(r); err != nil {
		f.close()
		return nil, fmt.Errorf("read topic %q: %w", name, err)
	}
	return r, nil
}

// Fetch implements broker.Reader.
func (r reader) Fetch(ctx context.Context, limit int) (*broker.Batch, error) {
	return r.fetch(ctx, limit)
}

// Position implements broker.Positioner.
func (r reader) Position() int64 { return r.pos.Load() }

// Close implements broker.Reader.
func (r *reader) Close() error {
	r.d.forget(r)
	r.finish(errkind.New(errkind.Closed, "the reader is closed"))
	r.close()
	return nil
}
