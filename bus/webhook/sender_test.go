package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/bustest"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func open(t testing.TB, url string) *Sender {
	t.Helper()
	s, err := OpenSender(context.Background(), url, Options{Env: environment})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func environment(name string) (string, bool) {
	v, ok := map[string]string{
		"TOKEN": "t0ken", "SECRET": "whsec_" + base64.StdEncoding.EncodeToString([]byte("s3cret")), "PLAIN": "s3cret", "BROKEN": "whsec_*",
		"HEADER": "aeg-sas-key: s3cret", "NOHEADER": "s3cret", "QUERY": "code=s3cret",
	}[name]
	return v, ok
}

// sink takes events, as a receiver of CloudEvents does, and refuses some.
type sink struct {
	mu      sync.Mutex
	recs    []event.Record
	stalled chan struct{}
	server  *http.Server
	address string
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	recs, err := event.FromHTTP(r.Header, body)
	s.mu.Lock()
	stalled := s.stalled
	s.mu.Unlock()
	if stalled != nil {
		select {
		case <-stalled:
		case <-r.Context().Done():
			return
		}
	}
	for i := range recs {
		if bytes.Contains(recs[i].Value, []byte("refuse me")) {
			err = errors.New("one of the events is refused")
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recs = append(s.recs, recs...)
	w.WriteHeader(http.StatusAccepted)
}

// listen serves on the same address as before.
func (s *sink) listen(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func(h *http.Server) { _ = h.Serve(l) }(s.server)
}

// sorted is a record with its headers in order, which HTTP does not keep.
func sorted(r event.Record) event.Record {
	var pairs [][2]string
	for k, v := range r.Headers.All() {
		pairs = append(pairs, [2]string{k, string(v)})
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	out := event.Record{ID: r.ID, Key: r.Key, Value: r.Value}
	for _, p := range pairs {
		out.Headers = out.Headers.AppendString(p[0], p[1])
	}
	return out
}

func harness(mode string) bustest.SenderHarness {
	return bustest.SenderHarness{
		Ordered: true, Records: 300,
		Refused: func() event.Record { return event.Record{ID: []byte("bad"), Value: []byte(`"refuse me"`)} },
		// What is sent is a CloudEvent, and other headers stay behind.
		Expect: func(r event.Record) event.Record {
			x, err := event.FromStructured(event.AppendStructured(nil, &r))
			if err != nil {
				panic(err)
			}
			return sorted(x)
		},
		Target: func(t testing.TB) bustest.Target {
			s := &sink{address: "127.0.0.1:0"}
			s.listen(t)
			t.Cleanup(func() { _ = s.server.Close() })
			again := func(t testing.TB) {
				_ = s.server.Close() // cuts connections off, and so is a crash
				s.listen(t)
			}
			return bustest.Target{
				Open: func(t testing.TB) bus.Sender {
					return open(t, "http://"+s.address+"/in?batch=16&secret_env=SECRET&mode="+mode)
				},
				Read: func(testing.TB, int) (all []event.Record) {
					s.mu.Lock()
					defer s.mu.Unlock()
					for _, r := range s.recs {
						all = append(all, sorted(r))
					}
					return all
				},
				Restart: again, Kill: again,
				Stall: func(testing.TB) func() {
					c := make(chan struct{})
					s.mu.Lock()
					defer s.mu.Unlock()
					s.stalled = c
					return func() {
						s.mu.Lock()
						defer s.mu.Unlock()
						s.stalled = nil
						close(c)
					}
				},
			}
		},
	}
}

func TestSender(t *testing.T) {
	for _, mode := range []string{"binary", "structured", "batched"} {
		t.Run(mode, func(t *testing.T) {
			bustest.RunSender(t, harness(mode))
			t.Run("crash", func(t *testing.T) { bustest.RunSenderCrash(t, harness(mode)) })
		})
	}
}

var one = bus.Batch{Topic: "t", Records: []event.Record{{ID: []byte("id 1"), Key: []byte(`k"é`), Value: []byte(`{"a":1}`),
	Headers: event.Headers(nil).AppendString("ce_specversion", "1.0").AppendString("ce_source", "/s").AppendString("ce_type", "t").
		AppendString("content-type", "application/json").AppendString("traceparent", "00-1-2-01").AppendString("other", "x")}}}

func TestRequestsAreAsTheStandardsSay(t *testing.T) {
	var got *http.Request
	var body []byte
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	}))
	defer h.Close()
	send := func(options string) {
		t.Helper()
		s := open(t, h.URL+"/a%20b?"+options)
		defer s.Close()
		if err := s.Send(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	send("token_env=TOKEN&secret_env=SECRET&query_env=QUERY")
	want := map[string]string{
		"Ce-Id": "id%201", "Ce-Source": "/s", "Ce-Type": "t", "Ce-Specversion": "1.0", "Ce-Partitionkey": "k%22%C3%A9",
		"Content-Type": "application/json", "Traceparent": "00-1-2-01", "Authorization": "Bearer t0ken", "Webhook-Id": "id%201", "Other": "",
	}
	for k, v := range want {
		if got.Header.Get(k) != v {
			t.Errorf("header %s is %q, want %q", k, got.Header.Get(k), v)
		}
	}
	if got.RequestURI != "/a%20b?code=s3cret" || string(body) != `{"a":1}` {
		t.Errorf("request for %s with %s", got.RequestURI, body)
	}
	mac := hmac.New(sha256.New, []byte("s3cret"))
	fmt.Fprintf(mac, "%s.%s.%s", got.Header.Get("Webhook-Id"), got.Header.Get("Webhook-Timestamp"), body)
	if sig := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); got.Header.Get("Webhook-Signature") != sig {
		t.Errorf("signature %s, want %s", got.Header.Get("Webhook-Signature"), sig)
	}
	send("mode=structured&header_env=HEADER")
	if got.Header.Get("aeg-sas-key") != "s3cret" || !strings.HasPrefix(got.Header.Get("Content-Type"), event.TypeStructured) || !strings.Contains(string(body), `"id":"id 1"`) {
		t.Errorf("headers %v with %s", got.Header, body)
	}
	send("mode=batched&user=u&password_env=PLAIN")
	if u, p, _ := got.BasicAuth(); u != "u" || p != "s3cret" || !strings.HasPrefix(got.Header.Get("Content-Type"), event.TypeBatch) || body[0] != '[' {
		t.Errorf("headers %v with %s", got.Header, body)
	}
}

func TestHandshakeAsksForPermission(t *testing.T) {
	for name, c := range map[string]struct {
		status       int
		origin, rate string
		want         errkind.Kind
		every        time.Duration
	}{
		"allowed":         {200, "freshet.example", "120", errkind.Unknown, 500 * time.Millisecond},
		"allowed to all":  {204, "*", "*", errkind.Unknown, 0},
		"another origin":  {200, "elsewhere", "", errkind.Config, 0},
		"no permission":   {200, "", "", errkind.Config, 0},
		"not understood":  {405, "", "", errkind.Config, 0},
		"for the moment":  {503, "", "", errkind.Throttled, 0},
		"refused by code": {403, "*", "", errkind.Config, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodOptions || r.Header.Get("WebHook-Request-Origin") != "freshet.example" || r.Header.Get("Authorization") != "Bearer t0ken" {
					t.Errorf("got %s %v", r.Method, r.Header)
				}
				if c.origin != "" {
					w.Header().Set("WebHook-Allowed-Origin", c.origin)
					w.Header().Set("WebHook-Allowed-Rate", c.rate)
				}
				w.WriteHeader(c.status)
			}))
			defer h.Close()
			s, err := OpenSender(t.Context(), h.URL+"/?origin=freshet.example&token_env=TOKEN", Options{Env: environment})
			if (err != nil) != (c.want != errkind.Unknown) || errkind.Of(err) != c.want {
				t.Fatalf("got %v (kind %v), want kind %v", err, errkind.Of(err), c.want)
			}
			if err != nil {
				return
			}
			defer s.Close()
			if s.pace.every != c.every {
				t.Errorf("a request every %v, want %v", s.pace.every, c.every)
			}
		})
	}
}

func TestAllowedRateIsKept(t *testing.T) {
	var p pace
	p.every = 40 * time.Millisecond
	start := time.Now()
	for range 4 {
		if err := p.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(start); d < 120*time.Millisecond {
		t.Errorf("4 requests took %v, want at least 120ms", d)
	}
}

func TestAnswersDecideWhatMayBeRepeated(t *testing.T) {
	var status atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect to another host was followed") }))
	defer elsewhere.Close()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			w.WriteHeader(http.StatusOK)
			return
		}
		code := int(status.Load())
		switch code {
		case 307:
			w.Header().Set("Location", elsewhere.URL+"/?code=s3cret")
		case 308:
			w.Header().Set("Location", "/moved")
		case 302:
			w.Header().Set("Location", "/moved")
		case 429:
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(code)
	}))
	defer h.Close()
	for code, want := range map[int]errkind.Kind{
		200: errkind.Unknown, 202: errkind.Unknown, 204: errkind.Unknown, 308: errkind.Unknown, 307: errkind.Config, 302: errkind.Config,
		400: errkind.Invalid, 401: errkind.Config, 403: errkind.Config, 404: errkind.NotFound, 405: errkind.Config, 408: errkind.Transient,
		410: errkind.Permanent, 413: errkind.Invalid, 415: errkind.Invalid, 422: errkind.Invalid, 425: errkind.Transient, 429: errkind.Throttled,
		500: errkind.Transient, 502: errkind.Transient, 503: errkind.Throttled, 504: errkind.Transient,
	} {
		status.Store(int64(code))
		s := open(t, h.URL+"/?query_env=QUERY")
		err := s.Send(t.Context(), one)
		if (err != nil) != (want != errkind.Unknown) || errkind.Of(err) != want {
			t.Errorf("%d: got %v (kind %v), want kind %v", code, err, errkind.Of(err), want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%d: the error holds a secret: %v", code, err)
		}
		var refused *bus.RefusedError
		if errors.As(err, &refused) != (want == errkind.Invalid) {
			t.Errorf("%d: got %v", code, err)
		}
		if code == 429 {
			status.Store(200)
			start := time.Now()
			if err := s.Send(t.Context(), one); err != nil || time.Since(start) < 500*time.Millisecond {
				t.Errorf("after Retry-After: 1 the next took %v: %v", time.Since(start), err)
			}
		}
		_ = s.Close()
	}
}

func TestEndpointsThatDemandTLS(t *testing.T) {
	h := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer h.Close()
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer plain.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]errkind.Kind{
		h.URL + "/?tls_ca=" + ca: errkind.Unknown,
		h.URL + "/":              errkind.Config,
		h.URL + "/?tls_server_name=elsewhere&tls_ca=" + ca: errkind.Config,
		strings.Replace(plain.URL, "http:", "https:", 1):   errkind.Config,
		"http://127.0.0.1:1/":                              errkind.Transient,
	} {
		s, err := OpenSender(t.Context(), url, Options{})
		if err == nil {
			err = s.Send(t.Context(), one)
			_ = s.Close()
		}
		if (err != nil) != (want != errkind.Unknown) || errkind.Of(err) != want {
			t.Errorf("%s: got %v (kind %v), want kind %v", url, err, errkind.Of(err), want)
		}
	}
}

func TestURLsAreChecked(t *testing.T) {
	for url, want := range map[string]string{
		"ftp://h/":                        "https://host/path",
		"https:///x":                      "https://host/path",
		"https://a,b/":                    "https://host/path",
		"https://h/?mode=all":             "binary, structured or batched",
		"https://h/?batch=0":              "at least 1",
		"https://h/?concurrency=9999":     "at most",
		"https://h/?secret_env=BROKEN":    "whsec_",
		"https://h/?header_env=NOHEADER":  "NAME: VALUE",
		"https://h/?token_env=NONE":       "no variable NONE",
		"https://h/?tokn_env=TOKEN":       `did you mean "token_env"`,
		"https://u:s3cret@h/?timeout=now": "timeout",
	} {
		if _, _, err := parse(url, Options{Env: environment}); !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, want a Config error with %q", url, err, want)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add("id", "key", "ce_x", "value", []byte("{}"))
	f.Add("é", "", "ce_source", "a b%", []byte{0})
	f.Fuzz(func(t *testing.T, id, key, name, value string, body []byte) {
		r := event.Record{ID: []byte(id), Key: []byte(key), Value: body, Headers: event.Headers(nil).AppendString("ce_specversion", "1.0").AppendString(name, value)}
		for _, mode := range []mode{binary, structured, batched} {
			s := Sender{mode: mode}
			m, err := s.message([]event.Record{r}, []int{0})
			if err != nil {
				if !errkind.Is(err, errkind.Invalid) {
					t.Fatal(err)
				}
				continue
			}
			recs, err := event.FromHTTP(m.header, m.body)
			if err != nil {
				continue // an attribute that is not allowed is the receiver's to refuse
			}
			if len(recs) != 1 || id != "" && cmp.Diff(string(recs[0].ID), id) != "" && event.ModeOf(r.Headers) != event.Structured {
				t.Fatalf("%s: %q became %+v", mode, id, recs)
			}
		}
	})
}
