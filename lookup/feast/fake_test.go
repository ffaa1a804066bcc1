package feast

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lookup"
)

// fake answers what respond says; the first request, for the key "0", is that
// by which the driver learns the entity's type.
func fake(t *testing.T, respond http.HandlerFunc) (url string) {
	t.Helper()
	s := httptest.NewServer(respond)
	t.Cleanup(s.Close)
	return "feast+" + s.URL
}

var options = lookup.Options{From: "v", Key: "id", Token: token, Fields: []lookup.Field{{Name: "a", Kind: event.Float}, {Name: "b", Kind: event.Time}}}

func getOne(t *testing.T, url string) (*lookup.Rows, error) {
	t.Helper()
	d := open(t, url, options)
	var rows lookup.Rows
	rows.Reset(d.Fields(), 1)
	return &rows, d.Get(t.Context(), []string{"k"}, &rows)
}

func TestAnswersOfOtherServersHaveAKind(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		header string
		body   string
		kind   errkind.Kind
		want   string
	}{
		{"unauthorized", 401, "", `{"detail":"no token"}`, errkind.Config, "no token"},
		{"forbidden", 403, "", "", errkind.Config, "no reason given"},
		{"not found", 404, "", `"{\"module\": \"feast.errors\", \"class\": \"X\", \"message\": \"Feature view v does not exist\"}"`, errkind.Config, "Feature view v does not exist"},
		{"unprocessable", 422, "", `{"detail":[{"msg":"bad"}]}`, errkind.Config, "bad"},
		{"redirect", 302, "", "", errkind.Config, "302"},
		{"too many", 429, "", "", errkind.Throttled, "429"},
		{"unavailable", 503, "", "", errkind.Transient, "503"},
		{"unavailable until", 503, "3", "", errkind.Throttled, "503"},
		{"internal", 500, "", `"connection to the store lost"`, errkind.Transient, "connection to the store lost"},
		{"internal, a feature", 500, "", `"'Feature a not found in projection v'"`, errkind.Config, "not found in projection"},
		{"not JSON", 200, "", `<html>`, errkind.Permanent, "not that of a feature server"},
		{"another JSON", 200, "", `[]`, errkind.Permanent, "not that of a feature server"},
		{"cut", 200, "", `{"metadata":{"feature_names":["id"`, errkind.Permanent, "not that of a feature server"},
		{"nothing", 200, "", `{}`, errkind.Permanent, `lacks the feature "a"`},
		{"columns", 200, "", `{"metadata":{"feature_names":["id","a","b"]},"results":[]}`, errkind.Permanent, "names 3 features and has 0 columns"},
		{"rows", 200, "", `{"metadata":{"feature_names":["a"]},"results":[{"values":[1,2],"statuses":["PRESENT"],"event_timestamps":[""]}]}`, errkind.Permanent, "2 values, 1 statuses"},
		{"long reason", 500, "", `"` + strings.Repeat("é", 3000) + `"`, errkind.Transient, "é…"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := getOne(t, fake(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://elsewhere.invalid/")
				if c.header != "" {
					w.Header().Set("Retry-After", c.header)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			if !errkind.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v (kind %v), want kind %v and %q", err, errkind.Of(err), c.kind, c.want)
			}
			if strings.Contains(err.Error(), token) || len(err.Error()) > 600 {
				t.Errorf("the error holds the token or is long: %v", err)
			}
		})
	}
}

func TestValuesOfEveryFormAreRead(t *testing.T) {
	const unset = -1 // no row
	for _, c := range []struct {
		name, names      string
		a, aStatus, aAt  string
		b, bStatus, bAt  string
		found            bool
		nullA, nullB     bool
		wantA            float64
		wantB, wantAtSec int64
	}{
		{"both", `["id","a","b"]`, `1.5`, "PRESENT", "2026-01-02T03:04:05Z", `1767323045`, "PRESENT", "2026-01-02T03:04:06Z", true, false, false, 1.5, 1767323045, 1767323045},
		{"protocol buffer names", `{"val":["id","a","b"]}`, `1.5`, "PRESENT", "1970-01-01T00:00:00Z", `"2026-01-02T03:04:05Z"`, "PRESENT", "1970-01-01T00:00:00Z", true, false, false, 1.5, 1767323045, unset},
		{"numbers as text", `["id","a","b"]`, `"1.5"`, "PRESENT", "2026-01-02T03:04:05Z", `"1767323045"`, "PRESENT", "2026-01-02T03:04:05Z", true, false, false, 1.5, 1767323045, 1767323045},
		{"nulls", `["id","a","b"]`, `null`, "PRESENT", "2026-01-02T03:04:05Z", `-9223372036854775808`, "PRESENT", "2026-01-02T03:04:05Z", true, true, true, 0, 0, 1767323045},
		{"NaN", `["id","a","b"]`, `"NaN"`, "PRESENT", "2026-01-02T03:04:05Z", `null`, "NULL_VALUE", "2026-01-02T03:04:05Z", true, true, true, 0, 0, 1767323045},
		{"too old", `["id","a","b"]`, `1`, "OUTSIDE_MAX_AGE", "2026-01-02T03:04:05Z", `1767323045`, "PRESENT", "2026-01-02T03:04:05Z", true, true, false, 0, 1767323045, 1767323045},
		{"one of two", `["id","a","b"]`, `null`, "NOT_FOUND", "1970-01-01T00:00:00Z", `1767323045`, "PRESENT", "2026-01-02T03:04:05Z", true, true, false, 0, 1767323045, 1767323045},
		{"none", `["id","a","b"]`, `null`, "NOT_FOUND", "1970-01-01T00:00:00Z", `null`, "NOT_FOUND", "1970-01-01T00:00:00Z", false, true, true, 0, 0, unset},
		{"a list", `["id","a","b"]`, `[1]`, "PRESENT", "2026-01-02T03:04:05Z", `1`, "PRESENT", "2026-01-02T03:04:05Z", false, false, false, 0, 1, 1767323045},
		{"a boolean", `["id","a","b"]`, `true`, "PRESENT", "2026-01-02T03:04:05Z", `1`, "PRESENT", "2026-01-02T03:04:05Z", false, false, false, 0, 1, 1767323045},
	} {
		t.Run(c.name, func(t *testing.T) {
			column := func(value, status, at string) string {
				return `{"values":[` + value + `],"statuses":["` + status + `"],"event_timestamps":["` + at + `"]}`
			}
			rows, err := getOne(t, fake(t, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, `{"metadata":{"feature_names":`+c.names+`},"results":[`+column(`"k"`, "PRESENT", "1970-01-01T00:00:00Z")+","+
					column(c.a, c.aStatus, c.aAt)+","+column(c.b, c.bStatus, c.bAt)+`]}`)
			}))
			if err != nil {
				t.Fatal(err)
			}
			if rows.IsFound(0) != c.found {
				t.Fatalf("found %v, reason %v", rows.IsFound(0), rows.Reason(0))
			}
			if !c.found {
				return
			}
			at := int64(lookup.Unknown)
			if c.wantAtSec != unset {
				at = c.wantAtSec * 1e9
			}
			a, b := &rows.Columns[0], &rows.Columns[1]
			if a.IsNull(0) != c.nullA || b.IsNull(0) != c.nullB || a.Floats[0] != c.wantA || b.Ints[0] != c.wantB*1e9 || rows.At[0] != at {
				t.Errorf("got %v (null %v), %v (null %v) at %d", a.Floats[0], a.IsNull(0), b.Ints[0], b.IsNull(0), rows.At[0])
			}
		})
	}
}

func TestRequestsAreThoseOfFeastsAPI(t *testing.T) {
	var got []string
	d := open(t, fake(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
		var req struct{ Entities map[string][]string }
		_ = json.Unmarshal(body, &req)
		values, rest := []any{}, []string{}
		for _, k := range req.Entities["id"] {
			values, rest = append(values, k), append(rest, "PRESENT")
		}
		col := map[string]any{"values": values, "statuses": rest, "event_timestamps": rest}
		_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]any{"feature_names": []string{"id", "a", "b"}}, "results": []any{col, col, col}})
	})+"/prefix/", options)
	for range 2 {
		var rows lookup.Rows
		rows.Reset(d.Fields(), 3)
		if err := d.Get(t.Context(), []string{"k1", "\xff", "k2"}, &rows); err != nil {
			t.Fatal(err)
		}
	}
	const head = "POST /prefix/get-online-features Bearer " + token + " "
	want := []string{
		head + `{"features":["v:a","v:b"],"entities":{"id":["0"]}}`,
		head + `{"features":["v:a","v:b"],"entities":{"id":["k1","k2"]}}`,
		head + `{"features":["v:a","v:b"],"entities":{"id":["k1","k2"]}}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTLSIsChecked(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // the refused handshake is what is wanted
	s.StartTLS()
	t.Cleanup(s.Close)
	if _, err := getOne(t, "feast+"+s.URL); !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), "x509") {
		t.Errorf("a stranger's certificate: got %v (kind %v), want a Config error", err, errkind.Of(err))
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	o := options
	o.TLS = &tls.Config{RootCAs: pool}
	d := open(t, "feast+"+s.URL, o)
	if err := d.Check(t.Context()); !errkind.Is(err, errkind.Throttled) {
		t.Errorf("a trusted certificate: got %v, want the server's own answer", err)
	}
}

func TestBadOptionsAreRefusedWithoutAServer(t *testing.T) {
	for _, c := range []struct {
		name, url string
		change    func(*lookup.Options)
		want      string
	}{
		{"scheme", "http://h", nil, "feast+http://host:port"},
		{"other scheme", "feast+ftp://h", nil, "feast+http://host:port"},
		{"no host", "feast+http://", nil, "feast+http://host:port"},
		{"password", "feast+http://u:s3cret@h", nil, "token goes into the environment"},
		{"query", "feast+http://h?token=s3cret", nil, "token goes into the environment"},
		{"no view", "feast+http://h", func(o *lookup.Options) { o.From = "" }, "feature view"},
		{"view with field", "feast+http://h", func(o *lookup.Options) { o.From = "v:a" }, "feature view"},
		{"no key", "feast+http://h", func(o *lookup.Options) { o.Key = "" }, "no key"},
		{"time", "feast+http://h", func(o *lookup.Options) { o.Time = "t" }, "times of their own"},
		{"no fields", "feast+http://h", func(o *lookup.Options) { o.Fields = nil }, "names no fields"},
		{"twice", "feast+http://h", func(o *lookup.Options) { o.Fields = append(o.Fields, o.Fields[0]) }, "named twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options
			if c.change != nil {
				c.change(&o)
			}
			_, err := Open(c.url, o)
			if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %v, want a Config error with %q and without the secret", err, c.want)
			}
		})
	}
}
