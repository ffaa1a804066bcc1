package redis_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/bustest"
	"github.com/freshet-io/freshet/bus/redis"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

const patience = 40 * time.Second

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func url(s *servers.Server, options string) string {
	return "redis://:" + servers.Password + "@" + s.Address + "/" + options
}

func client(t testing.TB, s *servers.Server) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: s.Address, Password: servers.Password})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func open(t testing.TB, url string) *redis.Sender {
	t.Helper()
	s, err := redis.OpenSender(soon(t), url, redis.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// harness keeps every result, each under its id.
func harness(s *servers.Server, c *goredis.Client) bustest.SenderHarness {
	var targets atomic.Int64
	again := func(t testing.TB, end func(...int) error) {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	return bustest.SenderHarness{
		Keyed: true, JSON: true, Patience: patience,
		Refused: func() event.Record {
			return event.Record{ID: []byte("bad/0"), Key: []byte("bad"), Value: []byte("no JSON")}
		},
		// What is kept is the value, under the id.
		Expect: func(r event.Record) event.Record { return event.Record{ID: r.ID, Value: compact(r.Value)} },
		Target: func(t testing.TB) bustest.Target {
			prefix := fmt.Sprintf("suite%d:", targets.Add(1))
			return bustest.Target{
				Open: func(t testing.TB) bus.Sender { return open(t, url(s, "?by=id&prefix="+prefix)) },
				Read: func(t testing.TB, n int) []event.Record {
					for deadline := time.Now().Add(patience); ; {
						keys, err := c.Keys(soon(t), prefix+"*").Result()
						if err == nil && (len(keys) >= n || time.Now().After(deadline)) {
							return read(t, c, prefix, keys)
						}
						if time.Now().After(deadline) {
							t.Fatal(err)
						}
					}
				},
				Restart: func(t testing.TB) { again(t, s.Stop) },
				Kill:    func(t testing.TB) { again(t, s.Kill) },
				Stall: func(t testing.TB) func() {
					if err := s.Pause(); err != nil {
						t.Fatal(err)
					}
					return func() {
						if err := s.Resume(); err != nil {
							t.Error(err)
						}
					}
				},
			}
		},
	}
}

// compact writes JSON as read does: sorted, and numbers as they are.
func compact(b []byte) []byte {
	var v map[string]json.RawMessage
	if json.Unmarshal(b, &v) != nil {
		return b
	}
	flat := map[string]string{}
	for k, raw := range v {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			s = string(raw)
		}
		if s != "" || string(raw) != "null" {
			flat[k] = s
		}
	}
	out, _ := json.Marshal(flat)
	return out
}

func read(t testing.TB, c *goredis.Client, prefix string, keys []string) []event.Record {
	t.Helper()
	var out []event.Record
	for _, k := range keys {
		fields, err := c.HGetAll(soon(t), k).Result()
		if err != nil {
			t.Fatal(err)
		}
		delete(fields, "_version")
		value, _ := json.Marshal(fields)
		out = append(out, event.Record{ID: []byte(strings.TrimPrefix(k, prefix)), Value: value})
	}
	return out
}

func TestSender(t *testing.T) {
	s := servers.Run(t, "redis", "aof")
	c := client(t, s)
	bustest.RunSender(t, harness(s, c))
	t.Run("crash", func(t *testing.T) { bustest.RunSenderCrash(t, harness(s, c)) })
}

func result(key, id, at, more string) event.Record {
	return event.Record{Key: []byte(key), ID: []byte(id), Value: fmt.Appendf(nil, `{"time":%q,"id":%q%s}`, at, id, more)}
}

func send(t testing.TB, s *redis.Sender, recs ...event.Record) {
	t.Helper()
	if err := s.Send(soon(t), bus.Batch{Topic: "scores", Records: recs}); err != nil {
		t.Fatal(err)
	}
}

func TestHashHasTheMembersOfTheNewestResult(t *testing.T) {
	srv := servers.Run(t, "redis")
	c := client(t, srv)
	s := open(t, url(srv, "?prefix=scores:&ttl=1h"))
	hash := func() map[string]string { return c.HGetAll(soon(t), "scores:c1").Val() }
	send(t, s, result("c1", "b", "2024-05-01T10:00:01Z", `,"score":0.25,"ok":true,"none":null,"why":{"a":[1]},"name":"a\"\u00e9","old":1`))
	first := hash()
	delete(first, "_version")
	if diff := cmp.Diff(map[string]string{"time": "2024-05-01T10:00:01Z", "id": "b", "score": "0.25", "ok": "true", "why": `{"a":[1]}`, "name": `a"é`, "old": "1"}, first); diff != "" {
		t.Error(diff)
	}
	if ttl := c.TTL(soon(t), "scores:c1").Val(); ttl <= 0 || ttl > time.Hour {
		t.Errorf("the hash lives for %v, want up to an hour", ttl)
	}
	for _, step := range []struct{ what, id, at, want string }{
		{"an older one", "z", "2024-05-01T10:00:00.999Z", "b"},
		{"the same again", "b", "2024-05-01T10:00:01Z", "b"},
		{"another zone, the same time, a smaller id", "a", "2024-05-01T12:00:01+02:00", "b"},
		{"the same time, a greater id", "c", "2024-05-01T10:00:01Z", "c"},
		{"a newer one with a smaller id", "0", "2024-05-01T10:00:01.000000001Z", "0"},
		{"one without a time", "x", "yesterday", "0"},
		{"one before 1970", "y", "1812-01-01T00:00:00Z", "0"},
	} {
		send(t, s, result("c1", step.id, step.at, ""))
		if got := hash(); got["id"] != step.want {
			t.Errorf("%s: the hash holds %s, want %s", step.what, got["id"], step.want)
		}
	}
	var many strings.Builder
	for i := range 5001 {
		fmt.Fprintf(&many, `,"f%d":%d`, i, i)
	}
	send(t, s, result("large", "1", "2024-05-01T10:00:01Z", many.String()))
	if n, last := c.HLen(soon(t), "scores:large").Val(), c.HGet(soon(t), "scores:large", "f5000").Val(); n != 5004 || last != "5000" {
		t.Errorf("of 5004 fields there are %d, the last is %q", n, last)
	}
	if got := hash(); len(got) != 3 {
		t.Errorf("fields of an older result are left: %v", got)
	}
}

func TestOlderResultsNeverWinHoweverTheyAreSent(t *testing.T) {
	srv := servers.Run(t, "redis")
	c := client(t, srv)
	for _, keep := range []string{"hash", "string"} {
		var recs []event.Record
		for i := range 2000 {
			at := time.Unix(int64(1_700_000_000+i/20), 0).UTC().Format(time.RFC3339)
			recs = append(recs, result(fmt.Sprintf("k%d", i%10), fmt.Sprintf("%05d", i), at, ""))
		}
		var wg sync.WaitGroup
		for range 4 {
			s := open(t, url(srv, "?prefix="+keep+":&keep="+keep))
			mixed := append([]event.Record(nil), recs...)
			rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
			wg.Go(func() { send(t, s, mixed...) })
		}
		wg.Wait()
		for k := range 10 {
			want, key := fmt.Sprintf("%05d", 1990+k), fmt.Sprintf("%s:k%d", keep, k)
			got := c.HGet(soon(t), key, "id").Val()
			if keep == "string" {
				var v struct{ ID string }
				_ = json.Unmarshal([]byte(c.Get(soon(t), key).Val()), &v)
				got = v.ID
			}
			if got != want {
				t.Errorf("%s holds %s, want %s", key, got, want)
			}
		}
	}
}

func TestTimeComesFromTheEnvelopeOrTheTopicElsewhere(t *testing.T) {
	srv := servers.Run(t, "redis")
	c := client(t, srv)
	s := open(t, url(srv, "?keep=string"))
	ce := func(at string) event.Headers { return event.Headers(nil).AppendString(event.HeaderTime, at) }
	send(t, s, event.Record{Key: []byte("a"), ID: []byte("1"), Value: []byte("new"), Headers: ce("2024-05-01T10:00:01Z")})
	send(t, s, event.Record{Key: []byte("a"), ID: []byte("2"), Value: []byte("old"), Headers: ce("2024-05-01T10:00:00Z")})
	send(t, s, event.Record{Key: []byte("b"), ID: []byte("1"), Value: []byte("new"), Time: 2})
	send(t, s, event.Record{Key: []byte("b"), ID: []byte("2"), Value: []byte("old"), Time: 1})
	for _, k := range []string{"a", "b"} {
		if got := c.Get(soon(t), k).Val(); got != "new" {
			t.Errorf("%s holds %s", k, got)
		}
	}
}

func TestRecordsThatFitNowhereAreRefused(t *testing.T) {
	srv := servers.Run(t, "redis")
	s := open(t, url(srv, ""))
	err := s.Send(soon(t), bus.Batch{Records: []event.Record{
		result("", "1", "", ""), result("k", "1", "", ""), {Key: []byte("k"), Value: []byte("[]")}, {Key: []byte("k"), Value: []byte(`{"a":"` + "\xff" + `"}`)},
		result("k", "2", "", `,"_version":1`), {Key: []byte("k")},
	}})
	want := "record 0 of the batch is refused: the record has no key to keep it under (and 4 more)"
	if !errkind.Is(err, errkind.Invalid) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestErrorsOfTheServerHaveTheirKinds(t *testing.T) {
	srv := servers.Run(t, "redis")
	c := client(t, srv)
	s := open(t, url(srv, ""))
	one := bus.Batch{Records: []event.Record{result("k", "1", "2024-05-01T10:00:01Z", "")}}
	c.Set(soon(t), "k", "a string", 0)
	if err := s.Send(soon(t), one); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("a key of another type: %v", err)
	}
	c.Del(soon(t), "k")
	c.ConfigSet(soon(t), "maxmemory", "1")
	if err := s.Send(soon(t), one); !errkind.Is(err, errkind.Exhausted) {
		t.Errorf("full memory: %v", err)
	}
	c.ConfigSet(soon(t), "maxmemory", "0")
	send(t, s, one.Records...)
}

func TestServersThatDemandUsersAndCertificates(t *testing.T) {
	srv := servers.Run(t, "redis", "tls", "acl")
	in := func(name string) string { return filepath.Join(srv.Word("folder"), name) }
	tls := "tls_ca=" + in("ca.crt") + "&tls_cert=" + in("client.crt") + "&tls_key=" + in("client.key")
	good := "rediss://freshet:" + servers.Password + "@" + srv.Address + "/0?prefix=app:&" + tls
	for _, keep := range []string{"hash&ttl=1h", "string&ttl=1h"} {
		send(t, open(t, good+"&keep="+keep), result(keep, "1", "", ""))
	}
	for what, c := range map[string]struct{ url, want string }{
		"password":  {"rediss://freshet:wrong-secret@" + srv.Address + "?" + tls, "WRONGPASS"},
		"authority": {"rediss://freshet:" + servers.Password + "@" + srv.Address + "?tls_server_name=localhost", "certificate"},
		"keys":      {strings.Replace(good, "app:", "other:", 1), "NOPERM"},
		"keep":      {good + "&keep=list", "hash or string"},
		"by":        {good + "&by=x", "key or id"},
		"ttl":       {good + "&ttl=x", "duration"},
		"option":    {good + "&tll=1h", `"ttl"`},
	} {
		s, err := redis.OpenSender(soon(t), c.url, redis.Options{})
		if err == nil {
			err = s.Send(soon(t), bus.Batch{Records: []event.Record{result("k", "1", "", "")}})
			_ = s.Close()
		}
		if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v (kind %v), want Config with %q", what, err, errkind.Of(err), c.want)
		}
		if err != nil && (strings.Contains(err.Error(), servers.Password) || strings.Contains(err.Error(), "wrong-secret")) {
			t.Errorf("%s: the error holds a secret: %v", what, err)
		}
	}
}

func BenchmarkSend(b *testing.B) {
	s := open(b, url(servers.Run(b, "redis"), ""))
	recs := make([]event.Record, 1000)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for i := range recs {
			n++
			recs[i] = result(fmt.Sprintf("k%d", i), fmt.Sprintf("%09d", n), "2024-05-01T10:00:01Z", `,"score":0.25,"model":"m"`)
		}
		send(b, s, recs...)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "results/s")
}
