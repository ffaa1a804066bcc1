package postgres

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/internal/lease"
	"github.com/freshet-io/freshet/errkind"
)

// topic is what the driver knows of a topic. It does not change: one that is
// deleted and made anew has another id.
type topic struct {
	id     int64
	config broker.TopicConfig
}

// leases is the topic's name in the table of leases, which no later topic of the same name has.
func (t *topic) leases() string { return t.config.Name + "@" + strconv.FormatInt(t.id, 10) }

func errMissing(name string) error {
	return errkind.Errorf(errkind.NotFound, "topic %q does not exist", name)
}

func (t *topic) check(partition int) error {
	if partition < 0 || partition >= t.config.Partitions {
		return errkind.Errorf(errkind.NotFound, "topic %q has no partition %d; it has %d", t.config.Name, partition, t.config.Partitions)
	}
	return nil
}

// known returns the topic, from memory where it was asked for before.
func (d *Driver) known(ctx context.Context, name string) (*topic, error) {
	d.mu.Lock()
	t := d.topics[name]
	d.mu.Unlock()
	if t != nil {
		return t, nil
	}
	return d.resolve(ctx, name)
}

// resolve asks the server for a topic.
func (d *Driver) resolve(ctx context.Context, name string) (*topic, error) {
	t := &topic{config: broker.TopicConfig{Name: name}}
	c := &t.config
	err := d.do(ctx, "look for topic on", func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, `SELECT id, partitions, retention, retain_bytes, dedup_window FROM topics WHERE name = $1`, name).
			Scan(&t.id, &c.Partitions, (*int64)(&c.Retention), &c.RetainBytes, (*int64)(&c.DedupWindow))
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if errors.Is(err, pgx.ErrNoRows) {
		delete(d.topics, name)
		return nil, errMissing(name)
	}
	if err != nil {
		return nil, err
	}
	d.topics[name] = t
	return t, nil
}

// forget makes the next known ask the server.
func (d *Driver) forget(t *topic) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.topics[t.config.Name] == t {
		delete(d.topics, t.config.Name)
	}
}

// Describe implements broker.Driver.
func (d *Driver) Describe(ctx context.Context, name, group string) (broker.Topic, error) {
	var out broker.Topic
	err := d.do(ctx, "describe topic on", func(ctx context.Context) error {
		out = broker.Topic{Config: broker.TopicConfig{Name: name}}
		rows, err := d.pool.Query(ctx, describe, name, group)
		if err != nil {
			return err
		}
		var s broker.PartitionState
		var oldest pgtype.Timestamptz
		_, err = pgx.ForEachRow(rows, []any{
			(*int64)(&out.Config.Retention), &out.Config.RetainBytes, (*int64)(&out.Config.DedupWindow),
			&s.Start, &s.End, &s.Bytes, &s.Committed, &oldest,
		}, func() error {
			s.Waiting = max(0, s.End-max(s.Start, s.Committed))
			if s.OldestTime = 0; oldest.Valid {
				s.OldestTime = oldest.Time.UnixNano()
			}
			out.Partitions = append(out.Partitions, s)
			return nil
		})
		return err
	})
	if err == nil && len(out.Partitions) == 0 {
		err = errMissing(name)
	}
	out.Config.Partitions = len(out.Partitions)
	return out, err
}

// CreateTopic implements broker.Admin.
func (d *Driver) CreateTopic(ctx context.Context, c broker.TopicConfig) error {
	if c.Partitions < 1 || c.Partitions > maxPartitions {
		return errkind.Errorf(errkind.Invalid, "%d partitions asked for, 1 to %d are possible", c.Partitions, maxPartitions)
	}
	err := d.do(ctx, "create topic on", func(ctx context.Context) error {
		_, err := d.pool.Exec(ctx, createTopic, c.Name, c.Partitions, int64(c.Retention), c.RetainBytes, int64(c.DedupWindow))
		return err
	})
	if err != nil {
		return err
	}
	t, err := d.resolve(ctx, c.Name)
	if err == nil && t.config.Partitions != c.Partitions {
		return errkind.Errorf(errkind.Conflict, "topic %q exists with %d partitions, %d are wanted", c.Name, t.config.Partitions, c.Partitions)
	}
	return err
}

// DeleteTopic implements broker.Admin. The rows of its records go in the background.
func (d *Driver) DeleteTopic(ctx context.Context, name string) error {
	t, err := d.resolve(ctx, name)
	if err != nil {
		return err
	}
	n := 0
	err = d.do(ctx, "delete topic on", func(ctx context.Context) error {
		prefix := lease.Prefix(t.leases())
		b := &pgx.Batch{}
		b.Queue(lockTopic, t.id)
		b.Queue(deleteTopic, t.id, prefix, below(prefix)).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
		return d.pool.SendBatch(ctx, b).Close()
	})
	d.forget(t)
	if err == nil && n == 0 {
		return errMissing(name)
	}
	d.sweepSoon()
	return err
}

// Topics implements broker.Admin.
func (d *Driver) Topics(ctx context.Context) (names []string, err error) {
	err = d.do(ctx, "list topics of", func(ctx context.Context) error {
		rows, err := d.pool.Query(ctx, `SELECT name FROM topics`)
		if err != nil {
			return err
		}
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	slices.Sort(names)
	return names, err
}

// Trim implements broker.Admin.
func (d *Driver) Trim(ctx context.Context, name string, partition int, before int64) error {
	t, err := d.resolve(ctx, name)
	if err != nil {
		return err
	}
	if err := t.check(partition); err != nil {
		return err
	}
	return d.do(ctx, "trim topic on", func(ctx context.Context) error {
		_, err := d.pool.Exec(ctx, trim, t.id, partition, before)
		return err
	})
}

// Seek implements broker.Admin.
func (d *Driver) Seek(ctx context.Context, name string, partition int, at time.Time) (position int64, err error) {
	t, err := d.resolve(ctx, name)
	if err != nil {
		return 0, err
	}
	if err := t.check(partition); err != nil {
		return 0, err
	}
	if us := at.Truncate(time.Microsecond); us.Before(at) {
		at = us.Add(time.Microsecond) // the first that the server knows and that is not before
	}
	err = d.do(ctx, "seek in topic on", func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, seek, t.id, partition, at).Scan(&position)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, t.errGone()
	}
	return position, err
}
