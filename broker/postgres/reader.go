package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// batchBytes is about what a batch holds at most, if it is more than one record.
const batchBytes = 8 << 20

// reader reads a partition. Its methods are called by one goroutine at a time.
type reader struct {
	d           *Driver
	t           *topic
	at          place
	next        int64
	size, count int // of the last batch
}

// Read implements broker.Driver.
func (d *Driver) Read(ctx context.Context, name string, partition int, from int64) (broker.Reader, error) {
	t, err := d.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := t.check(partition); err != nil {
		return nil, err
	}
	r := d.newReader(t, partition)
	if err := r.seek(from); err != nil {
		return nil, err
	}
	return r, nil
}

func (d *Driver) newReader(t *topic, partition int) *reader {
	d.listen()
	return &reader{d: d, t: t, at: place{t.id, partition}}
}

// seek makes the next fetch begin elsewhere.
func (r *reader) seek(position int64) error {
	if position < 0 {
		return errkind.Errorf(errkind.Invalid, "read topic %q from position %d: it is below 0", r.t.config.Name, position)
	}
	r.next = position
	return nil
}

// Close implements broker.Reader.
func (r *reader) Close() error { return nil }

// Fetch implements broker.Reader.
func (r *reader) Fetch(ctx context.Context, max int) (*broker.Batch, error) {
	return r.fetch(ctx, max, nil)
}

// fetch is Fetch that ends with nil, nil when revoked is closed.
func (r *reader) fetch(ctx context.Context, max int, revoked <-chan struct{}) (*broker.Batch, error) {
	look := time.NewTimer(lookEvery)
	defer look.Stop()
	for {
		more := r.d.bells.next(r.at) // before looking, so that nothing falls between
		b, err := r.look(ctx, max)
		if b != nil || err != nil {
			return b, err
		}
		look.Reset(lookEvery)
		select {
		case <-more:
		case <-look.C:
		case <-revoked:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.d.life.Done():
			return nil, r.d.errClosed()
		}
	}
}

// look returns what is there, or nil.
func (r *reader) look(ctx context.Context, most int) (*broker.Batch, error) {
	var b *broker.Batch
	err := r.d.do(ctx, "read topic on", func(ctx context.Context) error {
		var err error
		b, err = r.query(ctx, most)
		return err
	})
	if err != nil {
		return nil, err
	}
	if b == nil {
		r.d.forget(r.t)
		return nil, r.t.errGone()
	}
	if len(b.Records) == 0 {
		return nil, nil
	}
	r.next = b.Next()
	return b, nil
}

// query reads a batch: without records where there are none, nil where there is no such partition.
func (r *reader) query(ctx context.Context, most int) (*broker.Batch, error) {
	rows, err := r.d.pool.Query(ctx, fetch, r.at.topic, r.at.partition, r.next, min(most, maxBatch), batchBytes)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var b *broker.Batch
	var arena []byte
	var stamp pgtype.Timestamptz
	var position pgtype.Int8
	for rows.Next() {
		if b == nil {
			b = &broker.Batch{Topic: r.t.config.Name, Partition: r.at.partition}
			arena = make([]byte, 0, r.size+r.size/8)
			b.Records = make([]event.Record, 0, r.count)
		}
		if err := rows.Scan(&b.End, &position, &stamp, nil, nil, nil, nil); err != nil {
			return nil, err
		}
		if !position.Valid {
			continue
		}
		rec := event.Record{Position: position.Int64, Time: stamp.Time.UnixNano()}
		raw := rows.RawValues()
		for i, field := range [...]*[]byte{&rec.ID, &rec.Key, (*[]byte)(&rec.Headers), &rec.Value} {
			if v := raw[3+i]; v != nil { // bytea in binary is the bytes
				begin := len(arena)
				arena = append(arena, v...)
				*field = arena[begin:len(arena):len(arena)]
			}
		}
		b.Records = append(b.Records, rec)
	}
	if len(arena) > 0 {
		r.size, r.count = min(len(arena), batchBytes), len(b.Records)
	}
	return b, rows.Err()
}
