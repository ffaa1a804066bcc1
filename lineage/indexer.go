package lineage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
)

// Indexer takes the predictions of a topic into a Store, each exactly once: what it
// took and where it goes on change together.
type Indexer struct {
	b     *broker.Broker
	topic string
	s     *Store
	log   *slog.Logger
	// Progress is told now and then how many messages of those that were there have been taken; it may be nil.
	Progress func(done, total int64)
}

// NewIndexer returns an Indexer from a pipeline's topic of predictions into s,
// which is emptied if it holds those of another topic.
func NewIndexer(b *broker.Broker, topic string, s *Store) *Indexer {
	return &Indexer{b: b, topic: topic, s: s, log: s.o.Logger}
}

const (
	// takeRecords is how many messages are taken at once.
	takeRecords = 64
	// A read that has an end looks every lookAgain, looks times, whether what it waits for is gone.
	lookAgain = time.Second
	looks     = 10
)

// CatchUp takes what is on the topic when it is called. When it returns nil, that is
// durable. A topic that is missing is NotFound.
func (x *Indexer) CatchUp(ctx context.Context) error {
	parts, err := x.begin(ctx)
	if err != nil {
		return err
	}
	var done, total int64
	for p, st := range parts {
		total += max(0, st.End-max(st.Start, x.s.position(p)))
	}
	for p, st := range parts {
		err := read(ctx, x.b, x.topic, p, max(st.Start, x.s.position(p)), st.End, func(b *broker.Batch) error {
			done += int64(len(b.Records))
			if x.Progress != nil {
				x.Progress(min(done, total), total)
			}
			return x.take(p, b)
		})
		if err != nil {
			return fmt.Errorf("take predictions: %w", err)
		}
	}
	return x.s.sync()
}

// Follow takes what is and what comes, until ctx ends, which is no error.
func (x *Indexer) Follow(ctx context.Context) error {
	parts, err := x.begin(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(parts))
	var wg sync.WaitGroup
	for p, st := range parts {
		wg.Go(func() {
			err := read(ctx, x.b, x.topic, p, max(st.Start, x.s.position(p)), -1, func(b *broker.Batch) error { return x.take(p, b) })
			if ctx.Err() == nil {
				errs <- err
				cancel()
			}
		})
	}
	wg.Wait()
	select {
	case err = <-errs:
		return fmt.Errorf("take predictions: %w", err)
	default:
		return x.s.sync()
	}
}

// begin looks at the topic. Where it ends before what was taken, it is another one
// of that name.
func (x *Indexer) begin(ctx context.Context) ([]broker.PartitionState, error) {
	t, err := x.b.Describe(ctx, x.topic, "")
	if err != nil {
		return nil, err
	}
	if err := x.s.begin(x.topic); err != nil {
		return nil, err
	}
	for p, st := range t.Partitions {
		if at := x.s.position(p); at > st.End {
			x.log.Warn("the topic of predictions was made anew; the store begins again", "topic", x.topic, "partition", p, "position", at, "end", st.End)
			if err := x.s.restart(); err != nil {
				return nil, err
			}
			break
		}
	}
	return t.Partitions, nil
}

func (x *Indexer) take(partition int, b *broker.Batch) error {
	messages := make([]published, len(b.Records))
	for i := range b.Records {
		messages[i] = published{b.Records[i].Value, b.Records[i].Time}
	}
	_, unreadable, err := x.s.take(partition, messages, b.Next())
	if unreadable > 0 {
		x.log.Warn("records that are no predictions were passed over", "topic", x.topic, "partition", partition, "before", b.Next(), "records", unreadable)
	}
	return err
}

// read visits a partition's records from a position up to end, which is a position of
// before; −1 is for ever. Batches are released behind each visit.
func read(ctx context.Context, b *broker.Broker, topic string, partition int, from, end int64, visit func(*broker.Batch) error) error {
	if end >= 0 && from >= end {
		return nil
	}
	r, err := b.Read(ctx, topic, partition, from)
	if err != nil {
		return err
	}
	defer r.Close()
	for next := from; end < 0 || next < end; {
		batch, err := fetch(ctx, b, r, topic, partition, end)
		if batch == nil || err != nil {
			return err
		}
		next = batch.Next()
		err = visit(batch)
		batch.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// fetch returns nil where nothing is left before end: what was there has been trimmed,
// or the last positions hold no record.
func fetch(ctx context.Context, b *broker.Broker, r broker.Reader, topic string, partition int, end int64) (*broker.Batch, error) {
	if end < 0 {
		return r.Fetch(ctx, takeRecords)
	}
	for attempt := 1; ; attempt++ {
		wait, cancel := context.WithTimeout(ctx, lookAgain)
		batch, err := r.Fetch(wait, takeRecords)
		cancel()
		if err == nil || ctx.Err() != nil || wait.Err() == nil {
			return batch, err
		}
		t, derr := b.Describe(ctx, topic, "")
		if derr != nil {
			return nil, derr
		}
		if partition >= len(t.Partitions) || t.Partitions[partition].Start >= end {
			return nil, nil
		}
		if p, ok := r.(broker.Positioner); ok && p.Position() >= end || attempt == looks {
			return nil, nil
		}
	}
}

// Topic answers questions from a pipeline's topic of predictions itself. It reads all
// of it for each, which takes a second for some millions of predictions.
type Topic struct {
	Broker *broker.Broker
	Name   string
	// Progress is told now and then how many messages have been read; it may be nil.
	Progress func(done, total int64)
}

// Event implements Records.
func (t *Topic) Event(ctx context.Context, id string) ([]Prediction, error) {
	var byID, byResult []Prediction
	err := t.messages(ctx, func(message []byte, at int64) error {
		if !mayName(message, id) {
			return nil
		}
		m, err := Decode(append([]byte(nil), message...))
		if err != nil {
			return nil // others than predictions are passed over
		}
		m.Published = at
		for row := range m.Rows {
			switch {
			case m.Batch.IDs[row] == id, m.Batch.IDs[row] == "" && placeOf(m, row) == id:
				byID = append(byID, m.At(row))
			case string(m.Batch.Results[row]) == id:
				byResult = append(byResult, m.At(row))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(byID) == 0 {
		byID = byResult
	}
	if len(byID) == 0 {
		return nil, notFound(id)
	}
	newestFirst(byID)
	return byID, nil
}

// mayName reports whether a message has an event or a result of this id; it is true for
// places, which take decoding.
func mayName(message []byte, id string) bool {
	if strings.HasPrefix(id, "@") {
		return true
	}
	c, h, err := open(message)
	if err != nil {
		return false
	}
	c.bytes() // the source
	ids, results := c.strings(h.Rows), c.strings(h.Rows)
	return slices.Contains(ids, id) || slices.Contains(results, id)
}

// errEnough ends reading.
var errEnough = errors.New("enough")

// Search implements Records.
func (t *Topic) Search(ctx context.Context, q Query, visit func(Prediction) bool) error {
	f := newFinder(q)
	err := t.messages(ctx, func(message []byte, at int64) error {
		h, err := Peek(message)
		if err != nil || h.To < f.from || h.From > f.to {
			return nil
		}
		m, err := Decode(append([]byte(nil), message...))
		if err != nil {
			return nil
		}
		m.Published = at
		f.add(m)
		if !f.before(math.MaxInt64, visit) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.where.fault(); err != nil {
		return searchFault(err)
	}
	f.before(math.MinInt64, visit)
	return nil
}

// messages visits all messages of the topic, which are valid during the visit.
func (t *Topic) messages(ctx context.Context, visit func(message []byte, at int64) error) error {
	d, err := t.Broker.Describe(ctx, t.Name, "")
	if err != nil {
		return err
	}
	var done, total int64
	for _, st := range d.Partitions {
		total += st.End - st.Start
	}
	for p, st := range d.Partitions {
		err := read(ctx, t.Broker, t.Name, p, st.Start, st.End, func(b *broker.Batch) error {
			for i := range b.Records {
				if err := visit(b.Records[i].Value, b.Records[i].Time); err != nil {
					return err
				}
			}
			done += int64(len(b.Records))
			if t.Progress != nil {
				t.Progress(min(done, total), total)
			}
			return ctx.Err()
		})
		if err != nil {
			return fmt.Errorf("read predictions: %w", err)
		}
	}
	return nil
}
