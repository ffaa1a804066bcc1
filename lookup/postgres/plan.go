package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/spell"
	"github.com/freshet-io/freshet/lookup"
)

// plan is what the catalogue says about the table, made into a query.
type plan struct {
	query string
	// holds reports whether the key's type can hold a key in this form.
	holds func(key string) bool
}

// column is a column of the table: its base type, and the type in full.
type column struct{ base, full string }

const describeQuery = `
SELECT a.attname::text, COALESCE(NULLIF(t.typbasetype, 0), t.oid)::regtype::text, format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum`

// described returns the plan, made at the first call.
func (d *Driver) described(ctx context.Context) (*plan, error) {
	d.mu.Lock()
	p := d.plan
	d.mu.Unlock()
	if p != nil {
		return p, nil
	}
	columns := map[string]column{}
	var names []string
	rows, err := d.pool.Query(ctx, describeQuery, d.table)
	if err != nil {
		return nil, err
	}
	var name string
	var c column
	if _, err := pgx.ForEachRow(rows, []any{&name, &c.base, &c.full}, func() error {
		columns[name] = c
		names = append(names, name)
		return nil
	}); err != nil {
		return nil, err
	}
	if p, err = d.makePlan(columns, names); err != nil {
		return nil, err
	}
	d.setPlan(p)
	return p, nil
}

func (d *Driver) setPlan(p *plan) {
	d.mu.Lock()
	d.plan = p
	d.mu.Unlock()
}

// forgetPlan has the table described again after an error that says that it changed.
func (d *Driver) forgetPlan(err error) {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && (strings.HasPrefix(pe.Code, "42") || strings.HasPrefix(pe.Code, "22") || pe.Code == "0A000") {
		d.setPlan(nil)
	}
}

func (d *Driver) makePlan(columns map[string]column, names []string) (*plan, error) {
	find := func(what, name string) (column, error) {
		c, ok := columns[name]
		if !ok {
			hint := ""
			if near := spell.Nearest(name, names); near != "" {
				hint = fmt.Sprintf(" (%q?)", near)
			}
			return c, errkind.Errorf(errkind.Config, "%s %q is no column of the table%s: it has %s", what, name, hint, strings.Join(names, ", "))
		}
		return c, nil
	}
	key, err := find("key", d.key)
	if err != nil {
		return nil, err
	}
	p := &plan{}
	quoted := pgx.Identifier{d.key}.Sanitize()
	keyText := quoted + "::text"
	var b strings.Builder
	b.WriteString("SELECT ")
	var list []string
	for _, f := range d.fields {
		c, err := find("field", f.Name)
		if err != nil {
			return nil, err
		}
		expr, ok := selectAs(f, c)
		if !ok {
			return nil, errkind.Errorf(errkind.Config, "field %q is of type %s in the table, which does not fit the kind %v", f.Name, c.full, f.Kind)
		}
		list = append(list, expr)
	}
	if d.time != "" {
		c, err := find("time", d.time)
		if err != nil {
			return nil, err
		}
		expr, ok := selectAs(lookup.Field{Name: d.time, Kind: event.Time}, c)
		if !ok {
			return nil, errkind.Errorf(errkind.Config, "time %q is of type %s in the table, expected a timestamp, a date or a number", d.time, c.full)
		}
		list = append(list, expr)
		fmt.Fprintf(&b, "DISTINCT ON (%s) ", quoted)
	}
	cast := ""
	switch key.base {
	case "text", "character varying", "name":
		cast, p.holds = "text", isText
	case "character":
		// Blanks behind do not count in this type, and are cut in its text.
		cast, p.holds = "bpchar", func(key string) bool { return isText(key) && !strings.HasSuffix(key, " ") }
	case "smallint":
		cast, p.holds = key.base, isInt(16)
	case "integer":
		cast, p.holds = key.base, isInt(32)
	case "bigint":
		cast, p.holds = key.base, isInt(64)
	case "uuid":
		cast, p.holds = key.base, isUUID
	default:
		return nil, errkind.Errorf(errkind.Config, "key %q is of type %s, expected a text or integer type or uuid: make a view with such a column and an index on it", d.key, key.full)
	}
	fmt.Fprintf(&b, "%s, %s FROM %s WHERE %s = ANY($1::text[]::%s[])", keyText, strings.Join(list, ", "), d.table, quoted, cast)
	if d.time != "" {
		fmt.Fprintf(&b, " ORDER BY %s, %s DESC NULLS LAST", quoted, pgx.Identifier{d.time}.Sanitize())
	}
	p.query = b.String()
	return p, nil
}

// selectAs is the SQL that gives a column as text in a form that
// lookup.Rows.SetText reads as the field's kind. It is not ok where the
// column's type has no values of that kind.
func selectAs(f lookup.Field, c column) (expr string, ok bool) {
	name := pgx.Identifier{f.Name}.Sanitize()
	number, text, clock := false, false, false
	switch c.base {
	case "smallint", "integer", "bigint", "numeric", "real", "double precision", "oid":
		number = true
	case "text", "character varying", "character", "name", "citext":
		text = true
	case "timestamp with time zone", "timestamp without time zone", "date":
		clock = true
	}
	switch f.Kind {
	case event.Float, event.Int:
		ok = number || text
	case event.Bool:
		ok = c.base == "boolean" || text || c.base == "smallint" || c.base == "integer" || c.base == "bigint"
	case event.String:
		ok = true // every type has a text
	case event.Time:
		if clock {
			// to_char does not depend on the session's settings, and the number of seconds would.
			return fmt.Sprintf(`to_char(%s AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')`, atUTC(name, c.base)), true
		}
		ok = number || text
	}
	return name + "::text", ok
}

// atUTC makes a timestamp with time zone of a column; without a zone it is UTC.
func atUTC(name, base string) string {
	switch base {
	case "timestamp without time zone":
		return "(" + name + " AT TIME ZONE 'UTC')"
	case "date":
		return "(" + name + "::timestamp AT TIME ZONE 'UTC')"
	}
	return name
}

func isText(key string) bool { return utf8.ValidString(key) && strings.IndexByte(key, 0) < 0 }

// isInt takes an integer as PostgreSQL writes it: without a sign +, blanks or leading zeros.
func isInt(bits int) func(string) bool {
	return func(key string) bool {
		v, err := strconv.ParseInt(key, 10, bits)
		return err == nil && strconv.FormatInt(v, 10) == key
	}
}

func isUUID(key string) bool {
	if len(key) != 36 {
		return false
	}
	for i := range len(key) {
		c := key[i]
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || (!dash && (c < '0' || c > '9') && (c < 'a' || c > 'f')) {
			return false
		}
	}
	return true
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
	if k := lookup.NetworkKind(err); k != errkind.Unknown {
		return k
	}
	var ce *pgconn.ConnectError
	if errors.As(err, &ce) {
		// TLS that the server refuses, or a certificate that is not trusted.
		return errkind.Config
	}
	if pgconn.Timeout(err) || pgconn.SafeToRetry(err) {
		return errkind.Transient
	}
	return errkind.Transient // the connection broke in the middle of an answer
}

// kindOfCode sorts SQLSTATE codes by their class.
func kindOfCode(code string) errkind.Kind {
	switch code {
	case "53300", "53400": // too many connections, configured limit
		return errkind.Throttled
	case "57014": // canceled by statement_timeout
		return errkind.Transient
	case "42P05", "26000": // statement names lost by a connection pooler
		return errkind.Transient
	case "0A000": // cached plan must not change result type
		return errkind.Transient
	}
	if len(code) < 2 {
		return errkind.Permanent
	}
	switch code[:2] {
	case "08", "40", "53", "55", "57", "58", "XX": // connection, rollback, resources, in use, intervention, system
		return errkind.Transient
	case "28", "3D", "3F", "42", "0P": // authorization, catalogue, schema, names and rights
		return errkind.Config
	}
	return errkind.Permanent
}
