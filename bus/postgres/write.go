package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// statement is the INSERT for rows, and its arguments. Columns without a value in any row are left out.
func (s *Sender) statement(c *columns, rows []row) (sql string, args []any) {
	var names, from, sets []string
	for i := range c.all {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.values[i].Valid }) {
			continue
		}
		texts := make(pgtype.FlatArray[pgtype.Text], len(rows))
		for j := range rows {
			texts[j] = rows[j].values[i]
		}
		args = append(args, texts)
		name := pgx.Identifier{c.all[i].name}.Sanitize()
		names = append(names, name)
		from = append(from, fmt.Sprintf("c%d::%s", len(args), c.all[i].typ))
		if i != c.id {
			sets = append(sets, name+" = EXCLUDED."+name)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "INSERT INTO %s (%s) SELECT %s FROM unnest(", s.table, strings.Join(names, ", "), strings.Join(from, ", "))
	for i := range args {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d::text[]", i+1)
	}
	b.WriteString(") AS t(")
	for i := range args {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "c%d", i+1)
	}
	b.WriteString(") ON CONFLICT (id) DO ")
	if s.nothing || len(sets) == 0 {
		b.WriteString("NOTHING")
	} else {
		b.WriteString("UPDATE SET " + strings.Join(sets, ", "))
	}
	return b.String(), args
}

// executor is a pool or a transaction.
type executor interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func (s *Sender) insert(ctx context.Context, on executor, c *columns, rows []row) error {
	sql, args := s.statement(c, rows)
	_, err := on.Exec(ctx, sql, args...)
	return err
}

// write writes rows in one transaction, without those that the server refuses.
func (s *Sender) write(ctx context.Context, c *columns, rows []row, alive func()) ([]bus.Refused, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	err := s.insert(ctx, s.pool, c, rows)
	if err != nil && isOfTable(err) {
		s.forget()
	}
	if err == nil || !isOfRow(err) {
		return nil, err
	}
	var refused []bus.Refused
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		refused = refused[:0]
		return s.halves(ctx, tx, c, rows, &refused, alive)
	})
	return refused, err
}

// halves writes rows, and where one of them is refused, each half by itself.
func (s *Sender) halves(ctx context.Context, tx pgx.Tx, c *columns, rows []row, refused *[]bus.Refused, alive func()) error {
	alive()
	err := pgx.BeginFunc(ctx, tx, func(point pgx.Tx) error { return s.insert(ctx, point, c, rows) })
	switch {
	case err == nil:
		return nil
	case !isOfRow(err):
		return err
	case len(rows) == 1:
		*refused = append(*refused, bus.Refused{Index: rows[0].index, Err: errkind.Errorf(errkind.Invalid, "write to %s: %w", s.where, err)})
		return nil
	}
	half := len(rows) / 2
	if err := s.halves(ctx, tx, c, rows[:half], refused, alive); err != nil {
		return err
	}
	return s.halves(ctx, tx, c, rows[half:], refused, alive)
}

func merge(a, b []bus.Refused) []bus.Refused {
	a = append(a, b...)
	slices.SortFunc(a, func(x, y bus.Refused) int { return cmp.Compare(x.Index, y.Index) })
	return a
}

// isOfRow reports whether an error is about the values of a row: data and constraints.
func isOfRow(err error) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || len(pe.Code) != 5 {
		return false
	}
	return pe.Code[:2] == "22" || pe.Code[:2] == "23" || pe.Code == "54000" || pe.Code == "P0001" // too large; a trigger's RAISE
}

// isOfTable reports whether an error is about the table's columns, or a type of theirs.
func isOfTable(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (strings.HasPrefix(pe.Code, "42") || pe.Code == "0A000" || isOfRow(err))
}

// kindOf gives a kind to an error of the server or of the way to it.
func kindOf(err error) errkind.Kind {
	if k := errkind.Of(err); k != errkind.Unknown && k != errkind.Canceled && k != errkind.Transient {
		return k
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return kindOfCode(pe.Code)
	}
	if k := endpoint.NetworkKind(err); k != errkind.Unknown && k != errkind.Canceled {
		return k
	}
	var ce *pgconn.ConnectError
	if errors.As(err, &ce) && strings.Contains(err.Error(), "tls") {
		return errkind.Config // a server that refuses TLS, or whose certificate is not trusted
	}
	return errkind.Transient // the connection broke in the middle of an answer
}

// kindOfCode sorts SQLSTATE codes by their class.
func kindOfCode(code string) errkind.Kind {
	switch code {
	case "53300", "53400": // too many connections, configured limit
		return errkind.Throttled
	case "57014", "42P05", "26000", "0A000": // statement_timeout; statement names lost by a pooler; a plan that no longer fits
		return errkind.Transient
	}
	if len(code) < 2 {
		return errkind.Permanent
	}
	switch code[:2] {
	case "08", "25", "40", "53", "55", "57", "58", "XX": // connection, state, rollback, resources, in use, intervention, system
		return errkind.Transient
	case "28", "3D", "3F", "42", "0P": // authorization, catalogue, schema, names and rights
		return errkind.Config
	}
	return errkind.Permanent
}
