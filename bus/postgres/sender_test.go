package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/bustest"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

func address(host, options string) string {
	return "postgres://freshet:" + servers.Password + "@" + host + "/freshet?" + options
}

func pool(t testing.TB, host string) *pgxpool.Pool {
	t.Helper()
	p, err := pgxpool.New(context.Background(), address(host, ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func exec(t testing.TB, p *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := p.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func open(t testing.TB, url string) *Sender {
	t.Helper()
	s, err := OpenSender(context.Background(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var tables atomic.Int64

func harness(server *servers.Server, t testing.TB) bustest.SenderHarness {
	p := pool(t, server.Address)
	again := func(t testing.TB, end func(...int) error) {
		t.Helper()
		if err := end(); err != nil {
			t.Fatal(err)
		}
		var err error
		for range 50 { // while processes of a server that was killed still run, none can start
			if err = server.Restart(); err == nil {
				return
			}
		}
		t.Fatal(err)
	}
	return bustest.SenderHarness{
		Ordered: true, Keyed: true, JSON: true, Patience: 30 * time.Second,
		Expect: func(r event.Record) event.Record { r.Headers = nil; return r },
		Refused: func() event.Record {
			return event.Record{ID: fmt.Appendf(nil, "bad%d", tables.Add(1)), Value: []byte(`{"score":"high"}`)}
		},
		Target: func(t testing.TB) bustest.Target {
			table := fmt.Sprintf("suite.t%d", tables.Add(1))
			// A result is kept as it was written, and rows are numbered as they come.
			exec(t, p, "CREATE SCHEMA IF NOT EXISTS suite")
			exec(t, p, "CREATE TABLE "+table+" (id text PRIMARY KEY, key text, score float8, payload json, seq bigserial)")
			return bustest.Target{
				Open: func(t testing.TB) bus.Sender { return open(t, address(server.Address, "table="+table)) },
				Read: func(t testing.TB, _ int) []event.Record {
					var all []event.Record
					for range 50 { // the pool's connections may be of before a restart
						rows, err := p.Query(context.Background(), "SELECT id, key, payload::text FROM "+table+" ORDER BY seq")
						if err != nil {
							continue
						}
						all = nil
						for rows.Next() {
							var id, payload string
							var key *string
							if err := rows.Scan(&id, &key, &payload); err != nil {
								t.Fatal(err)
							}
							r := event.Record{ID: []byte(id), Value: []byte(payload)}
							if key != nil {
								r.Key = []byte(*key)
							}
							all = append(all, r)
						}
						if rows.Err() == nil {
							return all
						}
					}
					t.Fatal("the table cannot be read")
					return nil
				},
				Restart: func(t testing.TB) { again(t, server.Stop) },
				Kill:    func(t testing.TB) { again(t, server.Kill) },
				Stall: func(t testing.TB) func() {
					tx, err := p.Begin(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					if _, err := tx.Exec(context.Background(), "LOCK TABLE "+table); err != nil {
						t.Fatal(err)
					}
					return func() { _ = tx.Rollback(context.Background()) }
				},
			}
		},
	}
}

func TestSender(t *testing.T) {
	server := servers.Run(t, "postgres")
	bustest.RunSender(t, harness(server, t))
	t.Run("crash", func(t *testing.T) { bustest.RunSenderCrash(t, harness(server, t)) })
}

const result = `{"id":"r1","source_id":"e1","time":"2018-04-01T00:00:31.5Z","key":"c\"1","model":"m","score":0.25,` +
	`"outputs":{"label":"fraud"},"route":"alerts","features":{"amount":57.16,"night":true,"score":9},"features_complete":true}`

func TestResultsFillTheColumnsThatTheTableHas(t *testing.T) {
	host := servers.Start(t, "postgres")
	p := pool(t, host)
	show := func(sql string) string {
		t.Helper()
		var out string
		if err := p.QueryRow(t.Context(), sql).Scan(&out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	batch := bus.Batch{Topic: "scores", Partition: 3, Records: []event.Record{{ID: []byte("r1"), Key: []byte(`c"1`), Value: []byte(result),
		Headers: event.Headers(nil).AppendString("ce_source", "/freshet/x").AppendString("ce_type", "p")}}}

	t.Run("a table that it makes", func(t *testing.T) {
		s := open(t, address(host, "table=made&create=true"))
		defer s.Close()
		for range 2 {
			if err := s.Send(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
		}
		got := show(`SELECT string_agg(concat_ws('|', id, source_id, time AT TIME ZONE 'UTC', key, score, route, payload->>'model'), ';') FROM made`)
		if d := cmp.Diff(`r1|e1|2018-04-01 00:00:31.5|c"1|0.25|alerts|m`, got); d != "" {
			t.Error(d)
		}
	})
	t.Run("a table of the user's", func(t *testing.T) {
		exec(t, p, `CREATE DOMAIN ratio AS float8 CHECK (value <= 1)`)
		exec(t, p, `CREATE TABLE "Own Table" (n int GENERATED ALWAYS AS IDENTITY, id varchar(10) UNIQUE, score ratio, label text, amount numeric,
			night boolean, "features.score" int, outputs jsonb, topic text, partition int, source text, type text, at timestamptz DEFAULT now(), half float8 GENERATED ALWAYS AS (score / 2) STORED, payload bytea)`)
		s := open(t, address(host, "table=Own%20Table"))
		defer s.Close()
		if err := s.Send(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		got := show(`SELECT concat_ws('|', id, score, label, amount, night, "features.score", outputs, topic, partition, source, type, at IS NOT NULL, half, convert_from(payload, 'UTF8')) FROM "Own Table"`)
		if d := cmp.Diff(`r1|0.25|fraud|57.16|t|9|{"label": "fraud"}|scores|3|/freshet/x|p|t|0.125|`+result, got); d != "" {
			t.Error(d)
		}
	})
	t.Run("rows that the table refuses", func(t *testing.T) {
		s := open(t, address(host, "table=Own%20Table"))
		defer s.Close()
		values := []string{`{"score":0.1}`, `{"score":2}`, `{"score":0.2}`, `{"amount":"much"}`, `no JSON`, `{"score":0.3}`}
		b := bus.Batch{}
		for i, v := range values {
			b.Records = append(b.Records, event.Record{ID: fmt.Appendf(nil, "v%d", i), Value: []byte(v)})
		}
		b.Records = append(b.Records, event.Record{ID: []byte("longer than ten"), Value: []byte("{}")}, event.Record{Value: []byte("{}")}, event.Record{ID: []byte("\xff")})
		err := s.Send(t.Context(), b)
		var refused *bus.RefusedError
		if !errors.As(err, &refused) || !errkind.Is(err, errkind.Invalid) {
			t.Fatalf("got %v, want a RefusedError", err)
		}
		var got []int
		for _, r := range refused.Records {
			got = append(got, r.Index)
		}
		if d := cmp.Diff([]int{1, 3, 6, 7, 8}, got); d != "" {
			t.Errorf("%s%v", d, err)
		}
		if got := show(`SELECT string_agg(id, ',' ORDER BY n) FROM "Own Table" WHERE id LIKE 'v%'`); got != "v0,v2,v4,v5" {
			t.Errorf("written are %s", got)
		}
	})
	t.Run("a value that jsonb does not take", func(t *testing.T) {
		s := open(t, address(host, "table=made"))
		defer s.Close()
		err := s.Send(t.Context(), bus.Batch{Records: []event.Record{{ID: []byte("z0"), Value: []byte(`{"a":"\u0000"}`)}, {ID: []byte("z1"), Value: []byte(`{}`)}}})
		var refused *bus.RefusedError
		if !errors.As(err, &refused) || len(refused.Records) != 1 || refused.Records[0].Index != 0 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the first or the last of an ID stays", func(t *testing.T) {
		for option, want := range map[string]string{"update": "3", "nothing": "1"} {
			exec(t, p, "CREATE TABLE c_"+option+" (id text PRIMARY KEY, score int)")
			s := open(t, address(host, "table=c_"+option+"&on_conflict="+option))
			one := func(score string) event.Record {
				return event.Record{ID: []byte("x"), Value: []byte(`{"score":` + score + `}`)}
			}
			for _, b := range [][]event.Record{{one("1"), one("2")}, {one("3")}} {
				if err := s.Send(t.Context(), bus.Batch{Records: b}); err != nil {
					t.Fatal(err)
				}
			}
			_ = s.Close()
			if got := show("SELECT score::text FROM c_" + option); got != want {
				t.Errorf("on_conflict=%s: score %s, want %s", option, got, want)
			}
		}
	})
	t.Run("a table that changes is described anew", func(t *testing.T) {
		exec(t, p, `CREATE TABLE changing (id text PRIMARY KEY, score int, route text)`)
		s := open(t, address(host, "table=changing"))
		defer s.Close()
		send := func(id string) error {
			return s.Send(t.Context(), bus.Batch{Records: []event.Record{{ID: []byte(id), Value: []byte(`{"score":7,"route":"a"}`)}}})
		}
		if err := send("1"); err != nil {
			t.Fatal(err)
		}
		exec(t, p, `ALTER TABLE changing DROP route, ALTER score TYPE float8`)
		_ = send("2")
		if err := send("2"); err != nil {
			t.Error(err)
		}
	})
	t.Run("what is wrong is said", func(t *testing.T) {
		exec(t, p, `CREATE TABLE keyless (id text)`)
		exec(t, p, `CREATE TABLE idless (a text)`)
		exec(t, p, `CREATE ROLE reader LOGIN PASSWORD 'reader-secret'`)
		for name, c := range map[string]struct {
			url  string
			kind errkind.Kind
			want string
		}{
			"table":    {address(host, "table=none"), errkind.Config, "does not exist"},
			"key":      {address(host, "table=keyless"), errkind.Config, "no unique"},
			"id":       {address(host, "table=idless"), errkind.Config, "no column id"},
			"password": {"postgres://freshet:wrong-secret@" + host + "/freshet", errkind.Config, "password authentication failed"},
			"database": {"postgres://freshet:" + servers.Password + "@" + host + "/none", errkind.Config, "does not exist"},
			"rights":   {"postgres://reader:reader-secret@" + host + "/freshet?table=made", errkind.Config, "permission denied"},
			"tls":      {strings.Replace(address(host, ""), "postgres:", "postgres+tls:", 1), errkind.Config, "TLS"},
			"nobody":   {"postgres://freshet@127.0.0.1:1/freshet?timeout=2s", errkind.Transient, "refused"},
		} {
			s, err := OpenSender(t.Context(), c.url, Options{})
			if err == nil {
				err = s.Send(t.Context(), batch)
				_ = s.Close()
			}
			if !errkind.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: got %v (kind %v), want kind %v with %q", name, err, errkind.Of(err), c.kind, c.want)
			}
		}
	})
}

func TestBadURLsAreRefusedWithoutAServer(t *testing.T) {
	for url, want := range map[string]string{
		"mysql://h/d":                          "postgres://",
		"postgres://h":                         "DATABASE",
		"postgres:///d":                        "DATABASE",
		"postgres://h/d?table=a.b.c":           "schema.table",
		"postgres://h/d?create=perhaps":        "true or false",
		"postgres://h/d?on_conflict=x":         "update or nothing",
		"postgres://h/d?connections=0":         "connections",
		"postgres://u:s3cret@h/d?tabel=a":      `did you mean "table"`,
		"postgres://u:s3cret@h:port/d":         "port",
		"postgres://u:s3cret@h/d?timeout=soon": "timeout",
	} {
		_, err := OpenSender(t.Context(), url, Options{})
		if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, want a Config error with %q", url, err, want)
		}
	}
}

func FuzzRow(f *testing.F) {
	f.Add([]byte(result))
	f.Add([]byte(`{"features":{"a":1,"\u0061":"\ud800"},"a":null}`))
	f.Add([]byte(`[{}]`))
	f.Fuzz(func(t *testing.T, value []byte) {
		c := &columns{at: map[string]int{}}
		for i, name := range []string{"id", "key", "score", "a", "features.a", "features", "payload"} {
			c.all = append(c.all, column{name: name, typ: "text", json: name == "features"})
			c.at[name] = i
		}
		rows, refused := c.rows(&bus.Batch{Records: []event.Record{{Value: value}, {ID: []byte("x"), Value: value}}}, false)
		if len(rows)+len(refused) > 2 || len(rows) == 2 && rows[0].values[0] == rows[1].values[0] {
			t.Fatalf("%v %v", rows, refused)
		}
	})
}
