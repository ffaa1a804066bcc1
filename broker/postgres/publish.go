package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Publish implements broker.Driver. Each part of chunkBytes is a transaction.
func (d *Driver) Publish(ctx context.Context, name string, recs []event.Record) (broker.Published, error) {
	var total broker.Published
	w := &writing{d: d, drop: true}
	if err := w.add(ctx, name, broker.AnyPartition, recs); err != nil || len(recs) == 0 {
		return total, err
	}
	for _, c := range w.chunks {
		stored, err := w.send(ctx, "publish to", []chunk{c}, nil)
		if err != nil {
			return total, err
		}
		total.Stored += stored
		total.Duplicates += len(c.values) - stored
	}
	return total, nil
}

// Commit implements broker.Transactor.
func (d *Driver) Commit(ctx context.Context, tx *broker.Tx) error {
	if d.life.Err() != nil {
		return d.errClosed()
	}
	w := &writing{d: d}
	for i := range tx.Publish {
		p := &tx.Publish[i]
		if err := w.add(ctx, p.Topic, p.Partition, p.Records); err != nil {
			return err
		}
	}
	var claims []*claim
	var next []int64
	seen := map[*claim]int{}
	for _, p := range tx.Positions {
		c, ok := p.Claim.(*claim)
		if !ok || c.c.d != d {
			return errkind.Errorf(errkind.Invalid, "commit: a claim of type %T is not of this broker", p.Claim)
		}
		if p.Next < 0 {
			return errkind.Errorf(errkind.Invalid, "commit position %d: it is below 0", p.Next)
		}
		if i, twice := seen[c]; twice {
			next[i] = p.Next
			continue
		}
		if err := c.check(); err != nil {
			return err
		}
		seen[c] = len(claims)
		claims, next = append(claims, c), append(next, p.Next)
	}
	if len(w.chunks)+len(claims) == 0 {
		return ctx.Err()
	}
	_, err := w.send(ctx, "commit to", w.chunks, func(b *pgx.Batch) { move(b, claims, next) })
	switch {
	case err == nil, undone(err), errkind.Is(err, errkind.Closed), errkind.Is(err, errkind.NotFound),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded): // the caller's
		return err
	case !errkind.Is(err, errkind.Conflict):
		err = errkind.Errorf(errkind.Conflict, "%w; whether it was applied is unknown, so the partitions are given back", err)
	}
	var revoking sync.WaitGroup
	for _, c := range claims {
		revoking.Go(func() { _ = c.lease.Release() }) // lost at once, also where the server cannot be told now
	}
	revoking.Wait()
	return err
}

// writing is a change that is being put together.
type writing struct {
	d      *Driver
	drop   bool // ids that were seen
	chunks []chunk
	size   int
}

// chunk is what one statement stores.
type chunk struct {
	t          *topic
	partitions []int32
	ids, keys  [][]byte
	headers    [][]byte
	values     [][]byte
	size       int
}

// add takes recs in; it holds on to their bytes until they are sent.
func (w *writing) add(ctx context.Context, name string, partition int, recs []event.Record) error {
	t, err := w.d.known(ctx, name)
	if err != nil {
		return err
	}
	if partition != broker.AnyPartition {
		if err := t.check(partition); err != nil {
			return err
		}
	}
	free := int(w.d.next.Add(1) % uint64(t.config.Partitions)) // of records without a key
	var c *chunk
	for i := range recs {
		r := &recs[i]
		n := r.Size()
		if n > maxRecordBytes {
			return errkind.Errorf(errkind.Invalid, "record %d for topic %q has %d bytes, this broker takes at most %d", i, name, n, maxRecordBytes)
		}
		if w.size += n; w.size > maxTxBytes && !w.drop {
			return errkind.Errorf(errkind.Invalid, "the transaction has more than %d MiB", maxTxBytes>>20)
		}
		if c == nil || c.size+n > chunkBytes || len(c.values) == maxBatch {
			w.chunks = append(w.chunks, chunk{t: t})
			c = &w.chunks[len(w.chunks)-1]
		}
		p := partition
		switch {
		case p != broker.AnyPartition:
		case len(r.Key) > 0:
			p = broker.PartitionFor(r.Key, t.config.Partitions)
		default:
			p = free
		}
		c.partitions = append(c.partitions, int32(p))
		c.ids, c.keys = append(c.ids, r.ID), append(c.keys, r.Key)
		c.headers, c.values = append(c.headers, r.Headers), append(c.values, r.Value)
		c.size += n
	}
	return nil
}

// places are the partitions that chunks add to.
func places(chunks []chunk) []place {
	seen := map[place]struct{}{}
	var out []place
	for i := range chunks {
		for _, p := range chunks[i].partitions {
			at := place{chunks[i].t.id, int(p)}
			if _, ok := seen[at]; !ok {
				seen[at] = struct{}{}
				out = append(out, at)
			}
		}
	}
	return out
}

// send stores chunks, after what first queues, in one transaction, and returns how
// many records were stored.
func (w *writing) send(ctx context.Context, doing string, chunks []chunk, first func(b *pgx.Batch)) (stored int, err error) {
	at := places(chunks)
	err = w.d.do(ctx, doing, func(ctx context.Context) error {
		b := &pgx.Batch{}
		if first != nil {
			first(b)
		}
		if len(at) > 0 {
			topics, partitions := make([]int64, len(at)), make([]int32, len(at))
			for i, p := range at {
				topics[i], partitions[i] = p.topic, int32(p.partition)
			}
			b.Queue(lockPartitions, topics, partitions)
		}
		for i := range chunks {
			c := &chunks[i]
			count := func(row pgx.Row) error {
				n := 0
				err := row.Scan(&n)
				stored += n
				return err
			}
			if c.t.config.DedupWindow > 0 {
				b.Queue(storeOnce, c.t.id, c.partitions, c.ids, c.keys, c.headers, c.values, w.drop).QueryRow(count)
			} else {
				b.Queue(store, c.t.id, c.partitions, c.ids, c.keys, c.headers, c.values).QueryRow(count)
			}
		}
		return w.d.pool.SendBatch(ctx, b).Close()
	})
	switch {
	case err == nil:
		w.d.bells.stored(at)
	case missing(err, "records"):
		for i := range chunks {
			w.d.forget(chunks[i].t)
		}
		return 0, errkind.Errorf(errkind.NotFound, "%s %s: a topic has been deleted", doing, w.d.where)
	case missing(err, "positions"):
		return 0, errkind.Errorf(errkind.Conflict, "%s %s: a partition is no longer held by this member of its group", doing, w.d.where)
	}
	return stored, err
}

// move queues the positions of claims.
func move(b *pgx.Batch, claims []*claim, next []int64) {
	if len(claims) == 0 {
		return
	}
	n := len(claims)
	keys, epochs, groups := make([]string, n), make([]int64, n), make([]string, n)
	topics, partitions := make([]int64, n), make([]int32, n)
	for i, c := range claims {
		keys[i], epochs[i], groups[i] = c.key(), int64(c.lease.Epoch()), c.c.group
		topics[i], partitions[i] = c.c.t.id, int32(c.lease.Partition())
	}
	b.Queue(lockLeases, keys)
	b.Queue(movePositions, keys, epochs, groups, topics, partitions, next)
}

// errGone is for a topic that is no longer there.
func (t *topic) errGone() error {
	return fmt.Errorf("it has been deleted: %w", errMissing(t.config.Name))
}
