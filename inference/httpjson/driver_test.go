package httpjson

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/inferencetest"
)

var inputs = []inference.Signature{
	{Name: "amount", Type: inference.Float64}, {Name: "count", Type: inference.Int64},
	{Name: "night", Type: inference.Bool}, {Name: "city", Type: inference.String},
}

// model answers each row by what it holds: {"predictions": [{"score": …, "label": …, "vector": [a, b]}]}.
func model(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		return
	}
	data, _ := io.ReadAll(r.Body)
	var in struct{ Instances [][]any }
	if err := json.Unmarshal(quoteSpecial(data), &in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var predictions []string
	for _, row := range in.Instances {
		score := "NaN"
		if v, ok := row[0].(float64); ok {
			score = string(appendFloat(nil, v/2))
		} else if t, ok := row[0].(string); ok {
			score = t
		}
		label, _ := json.Marshal(fmt.Sprint(row[3]))
		predictions = append(predictions, fmt.Sprintf(`{"score": %s, "label": %s, "n": %v, "ok": %v, "vector": [%v, 1]}`, score, label, row[1], row[2], row[1]))
	}
	fmt.Fprintf(w, `{"predictions": [%s]}`, strings.Join(predictions, ","))
}

func response() map[string]any {
	return map[string]any{
		"score": "predictions.#.score", "label": map[string]any{"path": "predictions.#.label", "type": "string"},
		"n":      map[string]any{"path": "predictions.#.n", "type": "int"},
		"ok":     map[string]any{"path": "predictions.#.ok", "type": "bool"},
		"vector": map[string]any{"path": "predictions.#.vector", "width": 2},
	}
}

func open(t testing.TB, url string, settings map[string]any) (*Driver, error) {
	t.Helper()
	return Open(t.Context(), url, Options{Settings: settings, Inputs: inputs, Env: func(name string) (string, bool) {
		return "secret-of-" + name, name == "KEY"
	}})
}

func serve(t testing.TB, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL + "/predict"
}

func TestSuite(t *testing.T) {
	var trouble atomic.Pointer[http.HandlerFunc]
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if h := trouble.Load(); h != nil {
			(*h)(w, r)
			return
		}
		model(w, r)
	})
	become := func(h http.HandlerFunc) func(testing.TB, inference.Driver) {
		return func(testing.TB, inference.Driver) {
			if h == nil {
				trouble.Store(nil)
			} else {
				trouble.Store(&h)
			}
		}
	}
	say := func(status int, text string) func(testing.TB, inference.Driver) {
		return become(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		})
	}
	faults := []inferencetest.Fault{
		{Name: "connections cut", Kind: errkind.Transient, Recover: become(nil), Provoke: become(func(w http.ResponseWriter, _ *http.Request) {
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				_ = c.Close()
			}
		})},
		{Name: "overloaded", Kind: errkind.Throttled, RetryAfter: time.Second, Provoke: say(429, ""), Recover: become(nil)},
		{Name: "failing", Kind: errkind.Transient, RetryAfter: time.Second, Provoke: say(503, ""), Recover: become(nil)},
		{Name: "refused rows", Kind: errkind.Invalid, Provoke: say(422, ""), Recover: become(nil)},
		{Name: "refused credentials", Kind: errkind.Config, Provoke: say(401, ""), Recover: become(nil)},
		{Name: "garbage", Kind: errkind.Permanent, Provoke: say(200, "<html>"), Recover: become(nil)},
		{Name: "fewer rows", Kind: errkind.Permanent, Provoke: say(200, `{"predictions": [{"score": 1, "label": "x", "n": 1, "ok": true, "vector": [1, 2]}]}`), Recover: become(nil)},
	}
	freeze := func(testing.TB, inference.Driver) func() {
		warm := make(chan struct{})
		become(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-warm:
			case <-r.Context().Done():
			}
			panic(http.ErrAbortHandler)
		})(nil, nil)
		return func() {
			trouble.Store(nil)
			close(warm)
		}
	}
	for name, settings := range map[string]map[string]any{
		"batches": {"response": response(), "nan": "literal", "concurrency": 4},
		"rows":    {"response": response(), "nan": "literal", "batch": 3},
	} {
		t.Run(name, func(t *testing.T) {
			inferencetest.Run(t, inferencetest.Harness{Remote: true, Faults: faults, Freeze: freeze, Open: func(t testing.TB) inference.Driver {
				d, err := open(t, url, settings)
				if err != nil {
					t.Fatal(err)
				}
				return d
			}})
		})
	}
}

func batch(amounts ...float64) []inference.Tensor {
	n := len(amounts)
	in := []inference.Tensor{
		{Type: inference.Float64, Shape: []int{n}, F64: amounts}, {Type: inference.Int64, Shape: []int{n}},
		{Type: inference.Bool, Shape: []int{n}, Bool: make([]bool, n)}, {Type: inference.String, Shape: []int{n}},
	}
	for i := range n {
		in[1].I64 = append(in[1].I64, int64(i))
		in[3].Str = append(in[3].Str, fmt.Sprintf("city %q \\ %d", "a", i))
	}
	return in
}

func infer(t *testing.T, url string, settings map[string]any, in []inference.Tensor) ([]inference.Tensor, error) {
	t.Helper()
	d, err := open(t, url, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	out := make([]inference.Tensor, len(d.meta.Outputs))
	return out, d.Infer(t.Context(), in, out)
}

func TestAnswersBecomeTensors(t *testing.T) {
	out, err := infer(t, serve(t, model), map[string]any{"response": response(), "nan": "literal"}, batch(3, math.NaN(), math.Inf(-1), 1e-300, math.MaxFloat64))
	if err != nil {
		t.Fatal(err)
	}
	// In the order of their names: label, n, ok, score, vector.
	s := out[3].F64
	if s[0] != 1.5 || s[1] == s[1] || !math.IsInf(s[2], -1) || s[3] != 0.5e-300 || s[4] != math.MaxFloat64/2 {
		t.Errorf("scores %v", s)
	}
	if out[0].Str[1] != `city "a" \ 1` || !slices.Equal(out[1].I64, []int64{0, 1, 2, 3, 4}) || out[2].Bool[0] || !slices.Equal(out[4].Shape, []int{5, 2}) || out[4].F64[2] != 1 {
		t.Errorf("%+v", out)
	}
}

func TestRequestsAreWrittenByTemplates(t *testing.T) {
	var got string
	var header http.Header
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead {
			data, _ := io.ReadAll(r.Body)
			got, header = r.Method+" "+r.URL.String()+" "+string(data), r.Header
			if strings.Contains(got, "/one") {
				_, _ = w.Write([]byte(`{"y": 0.25}`))
				return
			}
			_, _ = w.Write([]byte(`[0.5, 0.75]`))
		}
	})
	in := batch(1.5, math.NaN())
	for name, tc := range map[string]struct {
		request map[string]any
		nan     string
		want    string
	}{
		"default": {nil, "null", `POST /predict {"instances":[[1.5,0,false,"city \"a\" \\ 0"],[null,1,false,"city \"a\" \\ 1"]]}`},
		"text":    {map[string]any{"path": "x?y=1", "method": "put"}, "text", `PUT /x?y=1 {"instances":[[1.5,0,false,"city \"a\" \\ 0"],["NaN",1,false,"city \"a\" \\ 1"]]}`},
		"rows": {map[string]any{"body": `{"dataframe_records": {{.rows}}, "n": {{.n}}}`}, "null",
			`POST /predict {"dataframe_records": [{"amount":1.5,"city":"city \"a\" \\ 0","count":0,"night":false},{"amount":null,"city":"city \"a\" \\ 1","count":1,"night":false}], "n": 2}`},
		"columns": {map[string]any{"body": `{"a": {{json .columns.amount}}, "names": {{.names}}}`}, "literal",
			`POST /predict {"a": [1.5,NaN], "names": ["amount","count","night","city"]}`},
		"a loop with text": {map[string]any{"body": `[{{range $i, $r := .rows}}{{if $i}},{{end}}"in {{text $r.city}} at {{text $r.count}}"{{end}}]`}, "null",
			`POST /predict ["in city \"a\" \\ 0 at 0","in city \"a\" \\ 1 at 1"]`},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := infer(t, url, map[string]any{"request": tc.request, "nan": tc.nan, "response": map[string]any{"y": "@this"}}, in)
			if err != nil {
				t.Fatal(err)
			}
			if got != tc.want || !slices.Equal(out[0].F64, []float64{0.5, 0.75}) {
				t.Errorf("%v\n%s", out[0].F64, cmp.Diff(tc.want, got))
			}
		})
	}
	t.Run("per row", func(t *testing.T) {
		out, err := infer(t, strings.Replace(url, "://", "://user:pass@", 1), map[string]any{
			"request": map[string]any{"path": "/one", "per_row": true, "body": `{"x": {{.row.amount}}, "all": {{.instance}}}`,
				"headers": map[string]any{"X-Team": "risk"}, "headers_env": map[string]any{"X-Key": "KEY"}},
			"response": map[string]any{"y": "y"},
		}, batch(4))
		if err != nil {
			t.Fatal(err)
		}
		if want := `POST /one {"x": 4, "all": [4,0,false,"city \"a\" \\ 0"]}`; got != want || out[0].F64[0] != 0.25 {
			t.Errorf("%s, %v", got, out[0])
		}
		if header.Get("X-Team") != "risk" || header.Get("X-Key") != "secret-of-KEY" || header.Get("Authorization") != "Basic dXNlcjpwYXNz" || header.Get("Content-Type") != "application/json" {
			t.Errorf("headers %v", header)
		}
	})
	t.Run("a token", func(t *testing.T) {
		if _, err := infer(t, url+"?token_env=KEY", map[string]any{"response": map[string]any{"y": "@this"}}, in); err != nil || header.Get("Authorization") != "Bearer secret-of-KEY" {
			t.Errorf("%v %v", header, err)
		}
	})
}

func TestNumbersThatJSONLacksAreRefusedWhereTheyWouldBeLost(t *testing.T) {
	url := serve(t, model)
	for nan, amounts := range map[string]float64{"null": math.Inf(1), "refuse": math.NaN()} {
		_, err := infer(t, url, map[string]any{"response": response(), "nan": nan}, batch(1, amounts))
		if !errkind.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), "row 1: input amount: JSON has no") {
			t.Errorf("%s: %v", nan, err)
		}
	}
	_, err := infer(t, url, map[string]any{"response": response(), "nan": "refuse", "request": map[string]any{"body": `{"instances": {{.instances}}}`}}, batch(math.NaN()))
	if !errkind.Is(err, errkind.Invalid) {
		t.Errorf("in a template: %v %v", errkind.Of(err), err)
	}
}

func TestNoScoreComesOfAHostileAnswer(t *testing.T) {
	deep := strings.Repeat("[", 1<<20)
	for name, tc := range map[string]struct {
		answer string
		want   string
	}{
		"garbage":            {"<html>504</html>", "the answer is no JSON: <html>504</html>"},
		"nothing":            {"", "the answer is no JSON: nothing"},
		"half":               {`{"predictions": [0.1, 0.`, "no JSON"},
		"more behind":        {`{"predictions": [0.1, 0.2]} {}`, "no JSON"},
		"fewer rows":         {`{"predictions": [0.1]}`, "1 values for 2 rows"},
		"more rows":          {`{"predictions": [0.1, 0.2, 0.3]}`, "3 values for 2 rows"},
		"no rows":            {`{"predictions": []}`, "0 values for 2 rows"},
		"another name":       {`{"prediction": [0.1, 0.2]}`, "nothing at predictions"},
		"no list":            {`{"predictions": 0.1}`, "expected a list"},
		"a mapping":          {`{"predictions": {"0": 0.1, "1": 0.2}}`, "expected a list"},
		"NaN":                {`{"predictions": [0.1, NaN]}`, "no JSON"},
		"null":               {`{"predictions": [0.1, null]}`, "row 1: expected a number, not null"},
		"a text":             {`{"predictions": [0.1, "0.2"]}`, "row 1: expected a number"},
		"true":               {`{"predictions": [0.1, true]}`, "expected a number"},
		"a list too many":    {`{"predictions": [[0.1], [0.2]]}`, "row 0: expected a number, not [0.1]"},
		"beyond a float":     {`{"predictions": [0.1, 1e999]}`, "expected a number"},
		"deep":               {deep, "no JSON"},
		"deep and closed":    {`{"predictions": ` + deep[:9000] + strings.Repeat("]", 9000) + `}`, "row 0: expected a number"},
		"an error as 200":    {`{"error": "model is \u001b[31m loading"}`, "nothing at predictions"},
		"longer than wanted": {`{"predictions": [0.1, 0.2], "x": "` + strings.Repeat("y", 2<<20) + `"}`, "longer than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(tc.answer)) })
			settings := map[string]any{"response": map[string]any{"score": "predictions"}, "max_answer": 1 << 20}
			_, err := infer(t, url, settings, batch(1, 2))
			if !errkind.Is(err, errkind.Permanent) || !strings.Contains(err.Error(), tc.want) || len(err.Error()) > 500 {
				t.Errorf("%v: %.600v", errkind.Of(err), err)
			}
		})
	}
}

func TestTypesAndWidthsAreHeld(t *testing.T) {
	for answer, tc := range map[string]struct {
		spec map[string]any
		want string // empty: no error
	}{
		`[[1, 2], [3]]`:             {map[string]any{"width": 2}, "row 1 has 1 values, expected 2"},
		`[[1, 2], [3, 4, 5]]`:       {map[string]any{"width": 2}, "row 1 has 3 values"},
		`[[1, 2], 3]`:               {map[string]any{"width": 2}, "row 1: expected a list"},
		`[[1, 2], [3, "x"]]`:        {map[string]any{"width": 2}, "row 1, value 1: expected a number"},
		`[1, 2.5]`:                  {map[string]any{"type": "int"}, "expected a whole number"},
		`[1, 9223372036854775808]`:  {map[string]any{"type": "int"}, "expected a whole number"},
		`[1, 9223372036854775807]`:  {map[string]any{"type": "int"}, ""},
		`[true, "false"]`:           {map[string]any{"type": "bool"}, "expected true or false"},
		`["a", 1]`:                  {map[string]any{"type": "string"}, "expected a text"},
		`["NaN", null]`:             {map[string]any{"null": "nan"}, ""},
		`["-Infinity", "Infinity"]`: {map[string]any{}, ""},
	} {
		tc.spec["path"] = "@this"
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) })
		_, err := infer(t, url, map[string]any{"response": map[string]any{"y": tc.spec}}, batch(1, 2))
		if tc.want == "" && err != nil || tc.want != "" && (!errkind.Is(err, errkind.Permanent) || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, expected %q", answer, err, tc.want)
		}
	}
}

func TestErrorsHaveKinds(t *testing.T) {
	for status, want := range map[int]errkind.Kind{400: errkind.Invalid, 403: errkind.Config, 404: errkind.NotFound, 429: errkind.Throttled, 503: errkind.Transient, 302: errkind.Permanent} {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodHead {
				w.Header().Set("Retry-After", "3")
				w.Header().Set("Location", "/elsewhere?token=hidden")
				w.WriteHeader(status)
			}
		})
		_, err := infer(t, url, map[string]any{"response": map[string]any{"y": "y"}}, batch(1))
		var ra *inference.RetryAfter
		if errors.As(err, &ra) != want.Retryable() || !errkind.Is(err, want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%d: %v %v", status, errkind.Of(err), err)
		}
	}
}

func TestASlowBodyEndsWithTheTime(t *testing.T) {
	stop := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead {
			_, _ = w.Write([]byte(`{"predictions": [`))
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-stop:
			}
		}
	})
	defer close(stop)
	settings := map[string]any{"response": map[string]any{"y": "predictions"}, "timeout": "100ms"}
	if _, err := infer(t, url, settings, batch(1)); !errkind.Is(err, errkind.Transient) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v %v", errkind.Of(err), err)
	}
	d, err := open(t, url, map[string]any{"response": map[string]any{"y": "predictions"}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.Infer(ctx, batch(1), make([]inference.Tensor, 1)); !errkind.Is(err, errkind.Transient) {
		t.Errorf("%v %v", errkind.Of(err), err)
	}
}

func TestOpenFailsFastAndByKind(t *testing.T) {
	good := map[string]any{"response": map[string]any{"y": "y"}}
	with := func(key string, v any) map[string]any { return map[string]any{"response": good["response"], key: v} }
	ok := serve(t, model)
	for _, tc := range []struct {
		url      string
		settings map[string]any
		kind     errkind.Kind
		want     string
	}{
		{"http://127.0.0.1:1/x?token_env=KEY", good, errkind.Transient, "refused"},
		{"http://a,b/x", good, errkind.Config, "one host"},
		{"ftp://a/x", good, errkind.Config, "expected http"},
		{ok + "?token_env=NONE", good, errkind.Config, "NONE"},
		{ok + "?tokn_env=NONE", good, errkind.Config, "token_env"},
		{ok, nil, errkind.Config, "response"},
		{ok, with("bach", 3), errkind.Config, `did you mean "batch"?`},
		{ok, map[string]any{"response": map[string]any{"y": map[string]any{"path": "y", "typ": "int"}}}, errkind.Config, `"response.y.typ"; did you mean "type"?`},
		{ok, map[string]any{"response": map[string]any{"y": map[string]any{"type": "int"}}}, errkind.Config, "name the path"},
		{ok, map[string]any{"response": map[string]any{"y": map[string]any{"path": "y", "type": "int", "null": "nan"}}}, errkind.Config, "only a float"},
		{ok, with("request", map[string]any{"method": "DELETE"}), errkind.Config, "DELETE"},
		{ok, with("request", map[string]any{"headers": map[string]any{"A b": "c"}}), errkind.Config, "no header"},
		{ok, with("request", map[string]any{"headers": map[string]any{"A": "c\r\nB: d"}}), errkind.Config, "no header"},
		{ok, with("request", map[string]any{"headers_env": map[string]any{"A": "NONE"}}), errkind.Config, "NONE"},
		{ok, with("request", map[string]any{"body": "{{.rows"}), errkind.Config, "request.body"},
		{ok, with("request", map[string]any{"body": "{{.row}}"}), errkind.Config, "request.body"},
		{ok, with("request", map[string]any{"body": `{"a": "{{range .rows}}{{.city}}{{end}}"}`}), errkind.Config, "no JSON"},
		{ok, with("request", map[string]any{"body": `{"a": {{(index .rows 0).town}}}`}), errkind.Config, "town"},
		{serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }), good, errkind.Config, "401"},
		{serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), with("ready", "/healthz"), errkind.Transient, "503"},
		{strings.Replace(ok, "http:", "https:", 1), good, errkind.Config, ""},
	} {
		d, err := open(t, tc.url, tc.settings)
		if err == nil {
			_ = d.Close()
		}
		if !errkind.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret-of") {
			t.Errorf("%s %v: %v %v, expected %q", tc.url, tc.settings, errkind.Of(err), err, tc.want)
		}
	}
	if _, err := Open(t.Context(), ok, Options{Settings: good}); !errkind.Is(err, errkind.Config) {
		t.Errorf("without inputs: %v", err)
	}
	d, err := open(t, serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(405) }), good)
	if err != nil {
		t.Fatalf("a server that takes no HEAD: %v", err)
	}
	_ = d.Close()
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"predictions": [{"score": 1, "label": "x", "n": 1, "ok": true, "vector": [1, 2]}]}`, `NaN`, `{"predictions": [[]]}`, `{"predictions":[{"score":-Infinity}]}`} {
		f.Add([]byte(s))
	}
	c, err := readSettings("options", Options{Settings: map[string]any{"response": response(), "nan": "literal"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		out := make([]inference.Tensor, len(c.answers))
		if err := c.read(data, 2, out); err != nil && !errkind.Is(err, errkind.Permanent) {
			t.Fatal(err)
		}
	})
}

func FuzzSpecialNumbersStayInTexts(f *testing.F) {
	f.Add(`{"NaN": "Infinity \" NaN", "a": [NaN, -Infinity, Infinity, -1]}`)
	f.Fuzz(func(t *testing.T, s string) {
		if json.Valid([]byte(s)) && string(quoteSpecial([]byte(s))) != s {
			t.Fatalf("%s became %s", s, quoteSpecial([]byte(s)))
		}
	})
}
