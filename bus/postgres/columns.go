package postgres

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/jsonscan"
)

// columns are those of the table that can be written, as its catalogue has them.
type columns struct {
	all []column
	// at finds a column by the name of the member that goes there.
	at map[string]int
	id int
}

type column struct {
	name string
	typ  string // its type without a length, which a cast would cut values to
	json bool
}

const describeQuery = `
SELECT a.attname::text, a.atttypid::regtype::text, COALESCE(NULLIF(t.typbasetype, 0), t.oid)::regtype::text
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity <> 'a'
ORDER BY a.attnum`

func describe(ctx context.Context, pool *pgxpool.Pool, table string) (*columns, error) {
	rows, err := pool.Query(ctx, describeQuery, table)
	if err != nil {
		return nil, err
	}
	c := &columns{at: map[string]int{}, id: -1}
	var col column
	var base string
	if _, err := pgx.ForEachRow(rows, []any{&col.name, &col.typ, &base}, func() error {
		col.json = base == "json" || base == "jsonb"
		if col.name == "id" {
			c.id = len(c.all)
		}
		c.at[col.name] = len(c.all)
		c.all = append(c.all, col)
		return nil
	}); err != nil {
		return nil, err
	}
	if c.id < 0 {
		return nil, errkind.New(errkind.Config, "the table has no column id: results are written once by it")
	}
	return c, nil
}

// quoteTable quotes table or schema.table for SQL.
func quoteTable(name string) (string, error) {
	parts := strings.Split(name, ".")
	for _, p := range parts {
		if p == "" || strings.IndexByte(p, 0) >= 0 || len(parts) > 2 {
			return "", errkind.Errorf(errkind.Config, "%q is not of the form table or schema.table", name)
		}
	}
	return pgx.Identifier(parts).Sanitize(), nil
}

// row is a record on its way into the table: a text for each column.
type row struct {
	index  int // in the batch
	values []pgtype.Text
}

// rows lays the records of a batch out. Of records with one ID the last is taken, or, with first, the first.
func (c *columns) rows(b *bus.Batch, first bool) (rows []row, refused []bus.Refused) {
	seen := make(map[string]int, len(b.Records))
	rows = make([]row, 0, len(b.Records))
	cells := make([]pgtype.Text, len(b.Records)*len(c.all))
	for i := range b.Records {
		values := cells[:len(c.all):len(c.all)]
		cells = cells[len(c.all):]
		if err := c.fill(values, b, &b.Records[i]); err != nil {
			refused = append(refused, bus.Refused{Index: i, Err: err})
			continue
		}
		id := values[c.id].String
		switch at, again := seen[id]; {
		case !again:
			seen[id] = len(rows)
			rows = append(rows, row{i, values})
		case !first:
			rows[at] = row{i, values}
		}
	}
	return rows, refused
}

// fill makes the values of a record. Its error is Invalid: the record will never be taken.
func (c *columns) fill(values []pgtype.Text, b *bus.Batch, r *event.Record) error {
	if json.Valid(r.Value) {
		c.members(values, r.Value, "")
	}
	set := func(name string, text []byte) {
		if at, ok := c.at[name]; ok && text != nil {
			values[at] = pgtype.Text{String: string(text), Valid: true}
		}
	}
	header := func(name, from string) {
		if v, ok := r.Headers.Get(from); ok {
			set(name, v)
		}
	}
	if len(r.ID) > 0 {
		set("id", r.ID)
	}
	if !values[c.id].Valid || values[c.id].String == "" {
		return errkind.New(errkind.Invalid, "the record has no ID, by which it could be written once")
	}
	set("key", r.Key)
	if at, ok := c.at["time"]; ok && !values[at].Valid {
		header("time", event.HeaderTime)
	}
	header("source", event.HeaderSource)
	header("type", event.HeaderType)
	set("topic", []byte(b.Topic))
	set("partition", strconv.AppendInt(nil, int64(b.Partition), 10))
	if at, ok := c.at["payload"]; ok {
		values[at] = pgtype.Text{String: string(r.Value), Valid: true}
		if c.all[at].typ == "bytea" {
			values[at].String = `\x` + hex.EncodeToString(r.Value)
		}
	}
	for i := range values {
		if v := values[i].String; !utf8.ValidString(v) || strings.IndexByte(v, 0) >= 0 {
			return errkind.Errorf(errkind.Invalid, "the value of column %q is not text in UTF-8 without zeros", c.all[i].name)
		}
	}
	return nil
}

// members takes the members of a JSON object that have a column, and those of
// the objects in which results keep values.
func (c *columns) members(values []pgtype.Text, b []byte, prefix string) {
	i := jsonscan.Space(b, 0)
	if b[i] != '{' {
		return
	}
	for i = jsonscan.Space(b, i+1); b[i] != '}'; {
		start := i
		i = jsonscan.Value(b, i)
		quoted := b[start:i]
		i = jsonscan.Space(b, jsonscan.Space(b, i)+1) // the colon
		start = i
		i = jsonscan.Value(b, i)
		v := b[start:i]
		if i = jsonscan.Space(b, i); b[i] == ',' {
			i = jsonscan.Space(b, i+1)
		}
		name := string(quoted[1 : len(quoted)-1])
		if strings.IndexByte(name, '\\') >= 0 {
			if json.Unmarshal(quoted, &name) != nil {
				continue
			}
		}
		c.put(values, prefix+name, v)
		if prefix != "" {
			if at, ok := c.at[name]; ok && !values[at].Valid {
				c.put(values, name, v) // not one of the result itself
			}
		} else if name == "outputs" || name == "features" || name == "feature_times" {
			// Members of the result itself win, also those behind: they overwrite.
			c.members(values, v, name+".")
		}
	}
}

func (c *columns) put(values []pgtype.Text, name string, v []byte) {
	at, ok := c.at[name]
	if !ok || string(v) == "null" {
		return
	}
	text := string(v)
	if v[0] == '"' && !c.all[at].json {
		if json.Unmarshal(v, &text) != nil {
			return
		}
	}
	values[at] = pgtype.Text{String: text, Valid: true}
}
