package postgres

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lookup"
	"github.com/freshet-io/freshet/lookup/lookuptest"
	"github.com/freshet-io/freshet/test/servers"
)

var _ lookup.Driver = (*Driver)(nil)

func url(address string) string {
	return "postgres://freshet:" + servers.Password + "@" + address + "/freshet"
}

func pool(t testing.TB, address string) *pgxpool.Pool {
	t.Helper()
	p, err := pgxpool.New(context.Background(), url(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func exec(t testing.TB, p *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := p.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func open(t testing.TB, address string, o lookup.Options) *Driver {
	t.Helper()
	d, err := Open(url(address), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestSuite(t *testing.T) {
	address := servers.Start(t, "postgres")
	p := pool(t, address)
	exec(t, p, `CREATE SCHEMA "My Shop"`)
	var tables atomic.Int64
	lookuptest.Run(t, lookuptest.Harness{
		Address: address,
		Secrets: []string{servers.Password},
		Put: func(t testing.TB, rows []lookuptest.Row) string {
			name := fmt.Sprintf("Merchants %d", tables.Add(1))
			table := pgx.Identifier{"My Shop", name}
			exec(t, p, "CREATE TABLE "+table.Sanitize()+` ("Id" text PRIMARY KEY, risk float8, visits bigint, vip boolean, city text, since timestamptz, "updated at" timestamptz)`)
			var values [][]any
			for _, r := range rows {
				line := append([]any{r.Key}, r.Values[:]...)
				if r.At.IsZero() {
					line = append(line, nil)
				} else {
					line = append(line, r.At)
				}
				values = append(values, line)
			}
			columns := []string{"Id", "risk", "visits", "vip", "city", "since", "updated at"}
			if _, err := p.CopyFrom(t.Context(), table, columns, pgx.CopyFromRows(values)); err != nil {
				t.Fatal(err)
			}
			return "My Shop." + name
		},
		Open: func(t testing.TB, address, table string) lookup.Driver {
			d, err := Open(url(address), lookup.Options{From: table, Key: "Id", Fields: lookuptest.Fields, Time: "updated at"})
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
	})
}

// get asks for keys and returns the first field's values as text: "-" for a
// missing row, "null" for a null, "!" for an invalid row.
func get(t testing.TB, d *Driver, keys ...string) []string {
	t.Helper()
	var rows lookup.Rows
	rows.Reset(d.Fields(), len(keys))
	if err := d.Get(t.Context(), keys, &rows); err != nil {
		t.Fatal(err)
	}
	out := make([]string, len(keys))
	for i := range keys {
		c := &rows.Columns[0]
		switch {
		case rows.Reason(i) != nil:
			out[i] = "!"
		case !rows.IsFound(i):
			out[i] = "-"
		case c.IsNull(i):
			out[i] = "null"
		case c.Kind == event.Float:
			out[i] = fmt.Sprint(c.Floats[i])
		case c.Kind == event.String:
			out[i] = c.Strings[i]
		case c.Kind == event.Bool:
			out[i] = fmt.Sprint(c.Bools[i])
		default:
			out[i] = fmt.Sprint(c.Ints[i])
		}
	}
	return out
}

func TestAgainstAServer(t *testing.T) {
	address := servers.Start(t, "postgres")
	p := pool(t, address)

	t.Run("keys of every type are found by an index", func(t *testing.T) {
		for i, c := range []struct {
			typ, value string
			keys, want []string
		}{
			{"integer", "7", []string{"7", "007", "+7", "x", "99999999999", ""}, []string{"1", "-", "-", "-", "-", "-"}},
			{"bigint", "-9223372036854775808", []string{"-9223372036854775808", "1"}, []string{"1", "-"}},
			{"smallint", "7", []string{"7", "40000"}, []string{"1", "-"}},
			{"uuid", "0a1b2c3d-0000-4000-8000-00000000000f", []string{"0a1b2c3d-0000-4000-8000-00000000000f", "0A1B2C3D-0000-4000-8000-00000000000F", "x"}, []string{"1", "-", "-"}},
			{"varchar(10)", "ab", []string{"ab", "ab ", "AB", "abcdefghijk"}, []string{"1", "-", "-", "-"}},
			{"char(5)", "ab", []string{"ab", "ab   ", "abc"}, []string{"1", "-", "-"}},
			{"positive", "7", []string{"7", "-7"}, []string{"1", "-"}},
		} {
			if c.typ == "positive" {
				exec(t, p, "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)")
			}
			table := fmt.Sprintf("keys%d", i)
			exec(t, p, fmt.Sprintf("CREATE TABLE %s (k %s PRIMARY KEY, v float8)", table, c.typ))
			exec(t, p, fmt.Sprintf("INSERT INTO %s VALUES ('%s', 1)", table, c.value))
			d := open(t, address, lookup.Options{From: "public." + table, Key: "k", Fields: []lookup.Field{{Name: "v", Kind: event.Float}}})
			if diff := cmp.Diff(c.want, get(t, d, c.keys...)); diff != "" {
				t.Errorf("%s (−want +got):\n%s", c.typ, diff)
			}
			tx, err := p.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "SET LOCAL enable_seqscan = off"); err != nil {
				t.Fatal(err)
			}
			lines, err := tx.Query(t.Context(), "EXPLAIN "+d.plan.query, c.keys[:1])
			if err != nil {
				t.Fatal(err)
			}
			explained, err := pgx.CollectRows(lines, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(explained, "\n"), "Index Cond") {
				t.Errorf("%s: the index is not used:\n%s", c.typ, strings.Join(explained, "\n"))
			}
			_ = tx.Rollback(t.Context())
		}
	})

	t.Run("types are read as the kinds that they fit", func(t *testing.T) {
		exec(t, p, `CREATE TABLE kinds (k text PRIMARY KEY, n numeric, r real, f float8, i integer, t text, b boolean, ts timestamp, d date, u uuid, j jsonb)`)
		exec(t, p, `INSERT INTO kinds VALUES ('a', 12.50, 0.1, 'NaN', 1, '42', true, '2026-01-02 03:04:05.678901', '2026-01-02', '0a1b2c3d-0000-4000-8000-00000000000f', '{"x": 1}'),
			('b', 3.00, 1e10, 'Infinity', 0, 'x', false, '1969-12-31 23:59:59', '0001-01-01', NULL, NULL)`)
		for _, c := range []struct {
			field string
			kind  event.Kind
			want  []string
		}{
			{"n", event.Float, []string{"12.5", "3"}},
			{"n", event.Int, []string{"!", "3"}},
			{"r", event.Float, []string{"0.1", "1e+10"}},
			{"f", event.Float, []string{"null", "+Inf"}},
			{"i", event.Bool, []string{"true", "false"}},
			{"i", event.Time, []string{"1000000000", "0"}},
			{"t", event.Float, []string{"42", "!"}},
			{"t", event.Bool, []string{"!", "!"}},
			{"b", event.String, []string{"true", "false"}},
			{"ts", event.Time, []string{"1767323045678901000", "-1000000000"}},
			{"d", event.Time, []string{"1767312000000000000", "!"}},
			{"u", event.String, []string{"0a1b2c3d-0000-4000-8000-00000000000f", "null"}},
			{"j", event.String, []string{`{"x": 1}`, "null"}},
		} {
			d := open(t, address, lookup.Options{From: "kinds", Key: "k", Fields: []lookup.Field{{Name: c.field, Kind: c.kind}}})
			if diff := cmp.Diff(c.want, get(t, d, "a", "b")); diff != "" {
				t.Errorf("%s as %v (−want +got):\n%s", c.field, c.kind, diff)
			}
		}
	})

	t.Run("the newest of several rows is taken, and without a time none", func(t *testing.T) {
		exec(t, p, `CREATE TABLE history (k text, v integer, at timestamptz)`)
		exec(t, p, `INSERT INTO history VALUES ('a', 1, '2026-01-01'), ('a', 3, '2026-01-03'), ('a', 2, '2026-01-02'), ('a', 9, NULL), ('b', 5, NULL)`)
		o := lookup.Options{From: "history", Key: "k", Fields: []lookup.Field{{Name: "v", Kind: event.Int}}, Time: "at"}
		if diff := cmp.Diff([]string{"3", "5"}, get(t, open(t, address, o), "a", "b")); diff != "" {
			t.Error(diff)
		}
		o.Time = ""
		if diff := cmp.Diff([]string{"!", "5"}, get(t, open(t, address, o), "a", "b")); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("what is wrong is a Config error that says what", func(t *testing.T) {
		exec(t, p, `CREATE TABLE small (id text PRIMARY KEY, risk float8, vip boolean, place point)`)
		exec(t, p, `CREATE TABLE secret (id text PRIMARY KEY, risk float8)`)
		exec(t, p, `CREATE ROLE reader LOGIN PASSWORD 'reader-pass'`)
		risk := []lookup.Field{{Name: "risk", Kind: event.Float}}
		at := func(user, password, db string) string {
			return "postgres://" + user + ":" + password + "@" + address + "/" + db
		}
		good := at("freshet", servers.Password, "freshet")
		for _, c := range []struct {
			name, url string
			o         lookup.Options
			want      string
		}{
			{"table", good, lookup.Options{From: "smal", Key: "id", Fields: risk}, "smal"},
			{"schema", good, lookup.Options{From: "no.small", Key: "id", Fields: risk}, "no"},
			{"field", good, lookup.Options{From: "small", Key: "id", Fields: []lookup.Field{{Name: "rsk"}}}, `field "rsk" is no column of the table ("risk"?): it has id, risk, vip, place`},
			{"key", good, lookup.Options{From: "small", Key: "ident", Fields: risk}, `key "ident" is no column`},
			{"key type", good, lookup.Options{From: "small", Key: "place", Fields: risk}, `key "place" is of type point`},
			{"kind", good, lookup.Options{From: "small", Key: "id", Fields: []lookup.Field{{Name: "vip", Kind: event.Float}}}, "is of type boolean in the table, which does not fit the kind number"},
			{"time", good, lookup.Options{From: "small", Key: "id", Fields: risk, Time: "vip"}, "expected a timestamp"},
			{"password", at("freshet", "wrong-secret", "freshet"), lookup.Options{From: "small", Key: "id", Fields: risk}, "password authentication failed"},
			{"user", at("nobody", "wrong-secret", "freshet"), lookup.Options{From: "small", Key: "id", Fields: risk}, "password authentication failed"},
			{"database", at("freshet", servers.Password, "none"), lookup.Options{From: "small", Key: "id", Fields: risk}, "does not exist"},
			{"rights", at("reader", "reader-pass", "freshet"), lookup.Options{From: "secret", Key: "id", Fields: risk}, "permission denied"},
			{"tls", good + "?sslmode=require", lookup.Options{From: "small", Key: "id", Fields: risk}, "TLS"},
		} {
			t.Run(c.name, func(t *testing.T) {
				d, err := Open(c.url, c.o)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				err = d.Check(t.Context())
				if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Check: got %v (kind %v), want a Config error with %q", err, errkind.Of(err), c.want)
				}
				var rows lookup.Rows
				rows.Reset(d.Fields(), 1)
				if err := d.Get(t.Context(), []string{"a"}, &rows); !errkind.Is(err, errkind.Config) {
					t.Errorf("Get: got %v, want a Config error", err)
				}
				for _, s := range []string{servers.Password, "wrong-secret", "reader-pass"} {
					if strings.Contains(err.Error(), s) {
						t.Errorf("the error holds a password: %v", err)
					}
				}
			})
		}
	})

	t.Run("a table that changes is described anew", func(t *testing.T) {
		exec(t, p, `CREATE TABLE changing (id text PRIMARY KEY, risk integer)`)
		exec(t, p, `INSERT INTO changing VALUES ('a', 1)`)
		d := open(t, address, lookup.Options{From: "changing", Key: "id", Fields: []lookup.Field{{Name: "risk", Kind: event.Float}}})
		if got := get(t, d, "a"); got[0] != "1" {
			t.Fatal(got)
		}
		exec(t, p, `ALTER TABLE changing ALTER id TYPE integer USING 7, ALTER risk TYPE float8 USING 1.5`)
		var rows lookup.Rows
		rows.Reset(d.Fields(), 1)
		if err := d.Get(t.Context(), []string{"7"}, &rows); err == nil && rows.IsFound(0) {
			return // found already: the statement still fitted
		}
		if got := get(t, d, "7"); got[0] != "1.5" {
			t.Errorf("got %v, want 1.5", got)
		}
	})

	t.Run("credentials come from the options where the URL has none", func(t *testing.T) {
		exec(t, p, `CREATE TABLE own (id text PRIMARY KEY, v integer)`)
		o := lookup.Options{From: "own", Key: "id", Fields: []lookup.Field{{Name: "v", Kind: event.Int}}, User: "freshet", Password: servers.Password}
		for _, u := range []string{"postgres://" + address + "/freshet", "postgresql://freshet@" + address + "/freshet"} {
			d, err := Open(u, o)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Check(t.Context()); err != nil {
				t.Errorf("%s: %v", u, err)
			}
			_ = d.Close()
		}
	})
}

func TestBadOptionsAreRefusedWithoutAServer(t *testing.T) {
	good := lookup.Options{From: "t", Key: "k", Fields: []lookup.Field{{Name: "v"}}}
	for _, c := range []struct {
		name, url string
		change    func(*lookup.Options)
		want      string
	}{
		{"no fields", "postgres://h/d", func(o *lookup.Options) { o.Fields = nil }, "names no fields"},
		{"no key", "postgres://h/d", func(o *lookup.Options) { o.Key = "" }, "no key"},
		{"no table", "postgres://h/d", func(o *lookup.Options) { o.From = "" }, "table or schema.table"},
		{"three parts", "postgres://h/d", func(o *lookup.Options) { o.From = "a.b.c" }, "double quotes"},
		{"open quote", "postgres://h/d", func(o *lookup.Options) { o.From = `"a.b` }, "a quote is open"},
		{"port", "postgres://u:s3cret@h:port/d", nil, "percent-encode"},
		{"parameter", "postgres://u:s3cret@h/d?sslmode=maybe", nil, "parameters"},
		{"broken password", "postgres://u:s3cr%et@h/d", nil, "percent-encode"},
		{"slash in password", "postgres://u:s3cret/more@h/d", nil, "percent-encode"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			if c.change != nil {
				c.change(&o)
			}
			_, err := Open(c.url, o)
			if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cr") {
				t.Errorf("got %v, want a Config error with %q and without the password", err, c.want)
			}
		})
	}
}

func TestTableNamesAreQuoted(t *testing.T) {
	for from, want := range map[string]string{
		"t":              `"t"`,
		"s.t":            `"s"."t"`,
		`"a.b".t`:        `"a.b"."t"`,
		`s."x""y"`:       `"s"."x""y"`,
		`t"; DROP x; --`: `"t""; DROP x; --"`,
		"Ünï code":       `"Ünï code"`,
	} {
		if got, err := parseTable(from); got != want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", from, got, err, want)
		}
	}
}
