package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	sweepEvery = 15 * time.Second
	// sweepFor bounds a sweep; the next one goes on.
	sweepFor = 5 * time.Minute
	// sweepRows is how many rows one statement deletes.
	sweepRows = 5000
	// sweepLock keeps two processes from sweeping at once.
	sweepLock int32 = 1718773608
)

// sweepSoon asks for a sweep now.
func (d *Driver) sweepSoon() {
	select {
	case d.swept <- struct{}{}:
	default:
	}
}

// sweepOften deletes what is to go: nobody waits for it, so that a failure is
// tried again the next time.
func (d *Driver) sweepOften() {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-d.life.Done():
			return
		case <-t.C:
		case <-d.swept:
		}
		if err := d.sweep(d.life); err != nil && d.life.Err() == nil {
			d.log.Warn("delete records that are to go", "broker", d.where, "error", err)
		}
	}
}

// dirty is a partition that has something to give free.
type dirty struct {
	Topic              int64
	Partition          int
	Start, Swept       int64
	Gone               bool
	Bytes, RetainBytes int64
	Old                pgtype.Timestamptz // what was stored before it is to go
}

// sweep goes over all topics once, where nobody else does.
func (d *Driver) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepFor)
	defer cancel()
	c, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	mine := false
	if err := c.QueryRow(ctx, `SELECT pg_try_advisory_lock($1, hashtext(current_schema()))`, sweepLock).Scan(&mine); err != nil || !mine {
		return err
	}
	defer func() { // a connection that is lost gives the lock back by itself
		_, _ = c.Exec(ctx, `SELECT pg_advisory_unlock($1, hashtext(current_schema()))`, sweepLock)
	}()
	for rows := int64(sweepRows); rows == sweepRows; {
		tag, err := c.Exec(ctx, forgetIDs, sweepRows)
		if err != nil {
			return err
		}
		rows = tag.RowsAffected()
	}
	rows, err := c.Query(ctx, sweepable)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dirty])
	if err != nil {
		return err
	}
	for i := range all {
		// No row is a partition that has changed meanwhile: the next sweep sees how.
		if err := d.sweepPartition(ctx, c.Conn(), &all[i]); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
	}
	return nil
}

// sweepPartition moves the start as the topic's limits say, and deletes what lies before it.
func (d *Driver) sweepPartition(ctx context.Context, c *pgx.Conn, p *dirty) error {
	start := p.Start
	if p.Old.Valid && !p.Gone {
		if err := c.QueryRow(ctx, seek, p.Topic, p.Partition, p.Old.Time).Scan(&start); err != nil {
			return err
		}
	}
	for {
		if _, err := c.Exec(ctx, trim, p.Topic, p.Partition, start); err != nil {
			return err
		}
		for p.Swept < start {
			to := min(p.Swept+sweepRows, start)
			if err := c.QueryRow(ctx, sweep, p.Topic, p.Partition, p.Swept, to).Scan(&p.Bytes); err != nil {
				return err
			}
			p.Swept = to
		}
		if p.Gone {
			_, err := c.Exec(ctx, forgetPartition, p.Topic, p.Partition)
			return err
		}
		if p.RetainBytes == 0 || p.Bytes <= p.RetainBytes {
			return nil
		}
		var to *int64
		if err := c.QueryRow(ctx, excess, p.Topic, p.Partition, start, sweepRows, p.Bytes-p.RetainBytes).Scan(&to); err != nil || to == nil {
			return err
		}
		start = *to
	}
}
