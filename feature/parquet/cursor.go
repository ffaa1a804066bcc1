package parquet

import (
	"context"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
)

// fetchRecords is the most records that one fetch asks for.
const fetchRecords = 1000

// cursor reads a partition up to where it ended when the export began.
type cursor struct {
	topic     string
	partition int
	reader    broker.Reader
	next, end int64
	batch     *broker.Batch

	// rest are fetched records behind the head; row is the head, where ok.
	rest []event.Record
	row  row
	ok   bool
}

func openCursor(ctx context.Context, b *broker.Broker, topic string, partition int, s broker.PartitionState) (*cursor, error) {
	r, err := b.Read(ctx, topic, partition, s.Start)
	if err != nil {
		return nil, err
	}
	return &cursor{topic: topic, partition: partition, reader: r, next: s.Start, end: s.End}, nil
}

// fetch returns the next records, which are valid until the next call; nil at the end.
func (c *cursor) fetch(ctx context.Context) ([]event.Record, error) {
	c.release()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.next >= c.end {
		return nil, nil
	}
	b, err := c.reader.Fetch(ctx, fetchRecords)
	if err != nil {
		return nil, err
	}
	c.batch, c.next = b, b.Next()
	recs := b.Records
	for len(recs) > 0 && recs[len(recs)-1].Position >= c.end {
		recs = recs[:len(recs)-1]
	}
	if len(recs) == 0 {
		return nil, nil
	}
	return recs, nil
}

func (c *cursor) release() {
	if c.batch != nil {
		c.batch.Release()
		c.batch = nil
	}
}

func (c *cursor) close() error {
	c.release()
	return c.reader.Close()
}
