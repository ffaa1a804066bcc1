package redis

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lookup"
	"github.com/freshet-io/freshet/lookup/lookuptest"
	"github.com/freshet-io/freshet/test/servers"
)

var _ lookup.Driver = (*Driver)(nil)

func url(address string) string { return "redis://:" + servers.Password + "@" + address + "/2" }

// client talks to the server directly.
func client(t testing.TB, address string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url(address))
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func text(v any) string {
	switch v := v.(type) {
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return fmt.Sprint(v)
}

func TestSuite(t *testing.T) {
	address := servers.Start(t, "redis")
	c := client(t, address)
	var tables atomic.Int64
	lookuptest.Run(t, lookuptest.Harness{
		Address: address,
		Secrets: []string{servers.Password},
		Put: func(t testing.TB, rows []lookuptest.Row) string {
			prefix := fmt.Sprintf("suite%d:", tables.Add(1))
			pipe := c.Pipeline()
			for _, r := range rows {
				var args []any
				for i, v := range r.Values {
					if v != nil {
						args = append(args, lookuptest.Fields[i].Name, text(v))
					}
				}
				if !r.At.IsZero() {
					args = append(args, "updated at", r.At.Unix())
				}
				pipe.HSet(t.Context(), prefix+r.Key, args...)
			}
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			return prefix
		},
		Open: func(t testing.TB, address, table string) lookup.Driver {
			d, err := Open(url(address), lookup.Options{From: table, Fields: lookuptest.Fields, Time: "updated at"})
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
	})
}

func open(t testing.TB, url string, o lookup.Options) *Driver {
	t.Helper()
	d, err := Open(url, o)
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

var risk = []lookup.Field{{Name: "risk", Kind: event.Float}}

func TestAgainstAServer(t *testing.T) {
	address := servers.Start(t, "redis")
	c := client(t, address)
	ctx := t.Context()

	t.Run("a row that cannot be used spoils no other", func(t *testing.T) {
		c.HSet(ctx, "m:good", "risk", "0.5", "at", "1767323045")
		c.HSet(ctx, "m:text", "risk", "high", "at", "1767323045")
		c.HSet(ctx, "m:time", "risk", "0.5", "at", "yesterday")
		c.HSet(ctx, "m:other", "color", "red")
		c.HSet(ctx, "m:untimed", "risk", "0.5")
		c.HSet(ctx, "m:null", "at", "1767323045")
		c.Set(ctx, "m:string", "0.5", 0)
		c.RPush(ctx, "m:list", "0.5")
		d := open(t, url(address), lookup.Options{From: "m:", Fields: risk, Time: "at"})
		keys := []string{"good", "text", "time", "other", "untimed", "null", "string", "list"}
		var rows lookup.Rows
		rows.Reset(d.Fields(), len(keys))
		if err := d.Get(ctx, keys, &rows); err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, key := range keys {
			got = append(got, fmt.Sprintf("%s: found %v, null %v, timed %v, reason %v", key, rows.IsFound(i), rows.Columns[0].IsNull(i), rows.At[i] != lookup.Unknown, rows.Reason(i)))
		}
		want := []string{
			"good: found true, null false, timed true, reason <nil>",
			`text: found false, null false, timed true, reason field risk: "high" does not fit kind number`,
			`time: found false, null false, timed false, reason time field at: "yesterday" is no time`,
			"other: found false, null false, timed false, reason <nil>",
			"untimed: found true, null false, timed false, reason <nil>",
			"null: found true, null true, timed true, reason <nil>",
			"string: found false, null false, timed false, reason the key holds no hash",
			"list: found false, null false, timed false, reason the key holds no hash",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("what is wrong is a Config error that says what", func(t *testing.T) {
		if err := c.Do(ctx, "ACL", "SETUSER", "reader", "on", ">reader-pass", "~allowed:*", "+hmget", "+hello", "+select").Err(); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ name, url, want string }{
			{"password", "redis://:wrong-secret@" + address, "WRONGPASS"},
			{"user", "redis://nobody:wrong-secret@" + address, "WRONGPASS"},
			{"no password", "redis://" + address, "NOAUTH"},
			{"rights", "redis://reader:reader-pass@" + address, "NOPERM"},
			{"database", "redis://:" + servers.Password + "@" + address + "/999", "DB index"},
		} {
			d := open(t, c.url, lookup.Options{From: "m:", Fields: risk})
			err := d.Check(ctx)
			if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v (kind %v), want a Config error with %q", c.name, err, errkind.Of(err), c.want)
			}
			for _, s := range []string{servers.Password, "wrong-secret", "reader-pass"} {
				if err != nil && strings.Contains(err.Error(), s) {
					t.Errorf("%s: the error holds a password: %v", c.name, err)
				}
			}
		}
		allowed := open(t, "redis://reader:reader-pass@"+address, lookup.Options{From: "allowed:", Fields: risk})
		if err := allowed.Check(ctx); err != nil {
			t.Errorf("a user with only what is needed: %v", err)
		}
	})

	t.Run("credentials come from the options where the URL has none", func(t *testing.T) {
		d := open(t, "redis://"+address, lookup.Options{From: "m:", Fields: risk, Password: servers.Password})
		if err := d.Check(ctx); err != nil {
			t.Error(err)
		}
	})

	t.Run("TLS is used and checked", func(t *testing.T) {
		tlsAddress, roots := terminate(t, address)
		url := "rediss://:" + servers.Password + "@" + tlsAddress
		if err := open(t, url, lookup.Options{From: "m:", Fields: risk}).Check(ctx); !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), "x509") {
			t.Errorf("a stranger's certificate: got %v (kind %v), want a Config error", err, errkind.Of(err))
		}
		if err := open(t, url, lookup.Options{From: "m:", Fields: risk, TLS: &tls.Config{RootCAs: roots}}).Check(ctx); err != nil {
			t.Errorf("a trusted certificate: %v", err)
		}
	})
}

// terminate listens with TLS and passes everything on to address. The
// certificate is that of net/http/httptest.
func terminate(t *testing.T, address string) (listening string, roots *x509.CertPool) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	config, roots := s.TLS.Clone(), x509.NewCertPool()
	config.NextProtos = nil
	roots.AddCert(s.Certificate())
	s.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				s, err := net.Dial("tcp", address)
				if err != nil {
					return
				}
				defer s.Close()
				wg.Go(func() { _, _ = io.Copy(c, s); _ = c.Close() })
				_, _ = io.Copy(s, c)
			})
		}
	})
	return l.Addr().String(), roots
}

func TestBadOptionsAreRefusedWithoutAServer(t *testing.T) {
	for _, c := range []struct {
		name, url string
		fields    []lookup.Field
		want      string
	}{
		{"no fields", "redis://h", nil, "names no fields"},
		{"scheme", "http://u:s3cret@h", risk, "scheme"},
		{"database", "redis://u:s3cret@h/x", risk, "database number"},
		{"parameter", "redis://u:s3cret@h?nosuch=s3cret", risk, "unexpected"},
		{"port", "redis://u:s3cret@h:port", risk, "percent-encode"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(c.url, lookup.Options{Fields: c.fields})
			if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %v, want a Config error with %q and without the secret", err, c.want)
			}
		})
	}
}

// BenchmarkGet reads 1,000 rows of four fields in one batch, and one by one.
func BenchmarkGet(b *testing.B) {
	address := servers.Start(b, "redis")
	c := client(b, address)
	keys := make([]string, 1000)
	pipe := c.Pipeline()
	for i := range keys {
		keys[i] = strconv.Itoa(i)
		pipe.HSet(b.Context(), "m:"+keys[i], "risk", "0.5", "visits", i, "city", "Lodz", "vip", "true")
	}
	if _, err := pipe.Exec(b.Context()); err != nil {
		b.Fatal(err)
	}
	d := open(b, url(address), lookup.Options{From: "m:", Fields: lookuptest.Fields[:4]})
	for _, size := range []int{1000, 1} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			var rows lookup.Rows
			for range b.N {
				for at := 0; at < len(keys); at += size {
					rows.Reset(d.Fields(), size)
					if err := d.Get(b.Context(), keys[at:at+size], &rows); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "keys/s")
		})
	}
}
