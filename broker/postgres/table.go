package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-io/freshet/broker/internal/lease"
	"github.com/freshet-io/freshet/errkind"
)

// table is a lease.Table: the table leases, whose versions come from a sequence.
type table struct{ d *Driver }

var _ lease.Table = (*table)(nil)

// below is behind all keys that begin with prefix, which ends in a dot.
func below(prefix string) string { return prefix[:len(prefix)-1] + "/" }

// List implements lease.Table.
func (t *table) List(ctx context.Context, prefix string) (out []lease.Entry, err error) {
	err = t.d.do(ctx, "list groups of", func(ctx context.Context) error {
		rows, err := t.d.pool.Query(ctx, `SELECT key, value, version FROM leases WHERE key >= $1 AND key < $2`, prefix, below(prefix))
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[lease.Entry])
		return err
	})
	return out, err
}

// Put implements lease.Table.
func (t *table) Put(ctx context.Context, key string, value []byte, version uint64) (now uint64, err error) {
	statement, arguments := `UPDATE leases SET value = $2, version = nextval('versions') WHERE key = $1 AND version = $3 RETURNING version`, []any{key, append([]byte{}, value...), version}
	if version == 0 {
		statement, arguments = `INSERT INTO leases (key, value, version) VALUES ($1, $2, nextval('versions')) ON CONFLICT DO NOTHING RETURNING version`, arguments[:2]
	}
	err = t.d.do(ctx, "write to groups of", func(ctx context.Context) error {
		return t.d.pool.QueryRow(ctx, statement, arguments...).Scan(&now)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, errkind.Errorf(errkind.Conflict, "write %s: it has changed", key)
	}
	return now, err
}

// Delete implements lease.Table.
func (t *table) Delete(ctx context.Context, key string, version uint64) error {
	changed := false
	err := t.d.do(ctx, "delete from groups of", func(ctx context.Context) error {
		b := &pgx.Batch{}
		b.Queue(`DELETE FROM leases WHERE key = $1 AND version = $2`, key, version)
		b.Queue(`SELECT EXISTS (SELECT FROM leases WHERE key = $1)`, key).QueryRow(func(row pgx.Row) error { return row.Scan(&changed) })
		return t.d.pool.SendBatch(ctx, b).Close()
	})
	if err == nil && changed {
		return errkind.Errorf(errkind.Conflict, "delete %s: it has changed", key)
	}
	return err
}
