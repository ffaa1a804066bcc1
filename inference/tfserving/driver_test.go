package tfserving

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/inferencetest"
)

// described is a tensor as the server's metadata has it.
func described(dtype string, dims ...int) map[string]any {
	var dim []any
	for _, d := range append([]int{-1}, dims...) {
		dim = append(dim, map[string]any{"size": fmt.Sprint(d), "name": ""})
	}
	return map[string]any{"dtype": dtype, "tensor_shape": map[string]any{"dim": dim, "unknown_rank": false}, "name": "graph_name:0"}
}

// server follows the documented interface: status, metadata and predict.
type server struct {
	state    string
	defs     map[string]any
	metadata http.HandlerFunc // instead of the metadata
	predict  http.HandlerFunc
	token    string
	host     string
	paths    chan string
}

func signature(inputs, outputs map[string]any) map[string]any {
	return map[string]any{"serving_default": map[string]any{"inputs": inputs, "outputs": outputs, "method_name": "tensorflow/serving/predict"}}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.paths != nil {
		select {
		case s.paths <- r.URL.Path:
		default:
		}
	}
	if s.token != "" && r.Header.Get("Authorization") != s.token || s.host != "" && r.Host != s.host {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	rest, ok := strings.CutPrefix(strings.TrimPrefix(r.URL.Path, "/gate way"), "/v1/models/m")
	rest = regexp.MustCompile(`^/(versions/3|labels/stable)`).ReplaceAllString(rest, "")
	switch {
	case ok && rest == "" && r.Method == http.MethodGet:
		state := s.state
		if state == "" {
			state = "AVAILABLE"
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"model_version_status": []any{map[string]any{"version": "3", "state": state, "status": map[string]any{"error_code": "OK", "error_message": ""}}}})
	case ok && rest == "/metadata" && s.metadata != nil:
		s.metadata(w, r)
	case ok && rest == "/metadata":
		_ = json.NewEncoder(w).Encode(map[string]any{"model_spec": map[string]any{"name": "m", "version": "3"}, "metadata": map[string]any{"signature_def": map[string]any{"signature_def": s.defs}}})
	case ok && rest == ":predict" && r.Method == http.MethodPost:
		s.predict(w, r)
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error": "Servable not found for request: Latest(m)"}`))
	}
}

func serve(t testing.TB, s *server) string {
	t.Helper()
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return "tfserving://" + strings.TrimPrefix(h.URL, "http://") + "/m"
}

// echo answers each input under its name with "_out" behind it.
func echo(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	special := regexp.MustCompile(`(-?Infinity|NaN)`)
	var in struct {
		SignatureName string `json:"signature_name"`
		Inputs        map[string]json.RawMessage
	}
	if err := json.Unmarshal(special.ReplaceAll(data, []byte(`"$1"`)), &in); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": err.Error()})
		return
	}
	out := map[string]json.RawMessage{}
	for name, v := range in.Inputs {
		out[name+"_out"] = v
	}
	answer, _ := json.Marshal(map[string]any{"outputs": out})
	if len(out) == 1 {
		for _, v := range out {
			answer, _ = json.Marshal(map[string]any{"outputs": v})
		}
	}
	_, _ = w.Write(regexp.MustCompile(`"(-?Infinity|NaN)"`).ReplaceAll(answer, []byte("$1")))
}

func mixed() *server {
	in := map[string]any{"x": described("DT_FLOAT", 3), "d": described("DT_DOUBLE"), "n": described("DT_INT64", 1), "i": described("DT_INT32", 2, 2), "ok": described("DT_BOOL"), "city": described("DT_STRING"), "open": described("DT_FLOAT", -1)}
	out := map[string]any{}
	for name, v := range in {
		out[name+"_out"] = v
	}
	return &server{defs: signature(in, out), predict: echo}
}

func open(t testing.TB, url string, settings map[string]any) (*Driver, error) {
	t.Helper()
	return Open(t.Context(), url, Options{Settings: settings, Env: func(name string) (string, bool) {
		return "secret-of-" + name, name == "KEY"
	}})
}

func mustOpen(t testing.TB, url string, settings map[string]any) *Driver {
	t.Helper()
	d, err := open(t, url, settings)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSuite(t *testing.T) {
	in := map[string]any{"x": described("DT_DOUBLE", 3)}
	one := &server{defs: signature(in, map[string]any{"x_out": in["x"]}), predict: echo}
	for name, url := range map[string]string{"several": serve(t, mixed()) + "?version=3", "one output": serve(t, one)} {
		t.Run(name, func(t *testing.T) {
			inferencetest.Run(t, inferencetest.Harness{Remote: true, Width: 2, Open: func(t testing.TB) inference.Driver {
				return mustOpen(t, url, map[string]any{"concurrency": 4, "batch": 70})
			}})
		})
	}
}

func TestRequestsAreInColumns(t *testing.T) {
	got := make(chan string, 1)
	s := &server{
		defs:  signature(map[string]any{"age": described("DT_INT64"), "x": described("DT_FLOAT", 2), "city": described("DT_STRING")}, map[string]any{"y": described("DT_FLOAT", 2), "z": described("DT_INT64")}),
		paths: make(chan string, 8), token: "Bearer secret-of-KEY",
		predict: func(w http.ResponseWriter, r *http.Request) {
			data, _ := io.ReadAll(r.Body)
			got <- string(data)
			_, _ = w.Write([]byte(`{"outputs": {"y": [[0.25, 0.75], [NaN, -Infinity]], "z": [7, 8]}}`))
		},
	}
	url := strings.Replace(serve(t, s), "/m", "/gate%20way/m", 1)
	d := mustOpen(t, url+"?label=stable&token_env=KEY", map[string]any{"inputs": []any{"x", "city", "age"}, "outputs": []any{"z", "y"}, "labels": map[string]any{"y": []any{"no", "yes"}}})
	defer d.Close()
	in := []inference.Tensor{
		{Type: inference.Float32, Shape: []int{2, 2}, F32: []float32{1, 0.1, float32(math.NaN()), float32(math.Inf(1))}},
		{Type: inference.String, Shape: []int{2}, Str: []string{`a "b"`, ""}},
		{Type: inference.Int64, Shape: []int{2}, I64: []int64{1 << 60, -1}},
	}
	out := make([]inference.Tensor, 2)
	if err := d.Infer(t.Context(), in, out); err != nil {
		t.Fatal(err)
	}
	want := `{"signature_name":"serving_default","inputs":{"x":[[1,0.1],[NaN,Infinity]],"city":["a \"b\"",""],"age":[1152921504606846976,-1]}}`
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Error(diff)
	}
	if y := out[1].F32; !slices.Equal(out[0].I64, []int64{7, 8}) || y[0] != 0.25 || y[2] == y[2] || !math.IsInf(float64(y[3]), -1) {
		t.Errorf("%+v", out)
	}
	m := d.Metadata()
	if m.Version != "label stable" || !slices.Equal(m.Outputs[1].Labels, []string{"no", "yes"}) {
		t.Errorf("%+v", m)
	}
	for _, want := range []string{"/gate way/v1/models/m/labels/stable", "/gate way/v1/models/m/labels/stable/metadata", "/gate way/v1/models/m/labels/stable:predict"} {
		if path := <-s.paths; path != want {
			t.Errorf("asked %s, expected %s", path, want)
		}
	}
}

func TestValuesThatTheServersTypeCannotHoldAreInvalid(t *testing.T) {
	for dtype, v := range map[string]any{"DT_INT8": int32(128), "DT_UINT8": int32(-1), "DT_UINT16": int32(65536), "DT_UINT32": int64(-1), "DT_UINT64": int64(-1), "DT_HALF": float32(65520)} {
		d := mustOpen(t, serve(t, &server{defs: signature(map[string]any{"x": described(dtype)}, map[string]any{"x_out": described(dtype)}), predict: echo}), nil)
		in := []inference.Tensor{{Type: d.meta.Inputs[0].Type, Shape: []int{1}}}
		switch v := v.(type) {
		case int32:
			in[0].I32 = []int32{v}
		case int64:
			in[0].I64 = []int64{v}
		case float32:
			in[0].F32 = []float32{v}
		}
		if err := d.Infer(t.Context(), in, make([]inference.Tensor, 1)); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("%s: %v", dtype, err)
		}
		_ = d.Close()
	}
}

func TestNoScoreComesOfAHostileAnswer(t *testing.T) {
	for name, tc := range map[string]struct{ answer, want string }{
		"an error":        {`{"error": "no"}`, "none of that name"},
		"no JSON":         {`<html>`, "expected a mapping"},
		"nothing":         {``, "expected a mapping"},
		"half":            {`{"outputs": {"y": [1, 2`, "expected a comma"},
		"more behind":     {`{"outputs": {"y": [1, 2], "z": [[], []]}} {}`, "expected the end"},
		"rows":            {`{"predictions": [1, 2]}`, "none of that name"},
		"fewer rows":      {`{"outputs": {"y": [1], "z": [[], []]}}`, "1 values, expected 2"},
		"more rows":       {`{"outputs": {"y": [1, 2, 3], "z": [[], []]}}`, "more than 2"},
		"without a name":  {`{"outputs": [1, 2]}`, "none of that name"},
		"one missing":     {`{"outputs": {"y": [1, 2]}}`, `output "z"`},
		"twice":           {`{"outputs": {"y": [1, 2], "y": [1, 2], "z": [[], []]}}`, "twice"},
		"outputs twice":   {`{"outputs": {"y": [1, 2]}, "outputs": {"z": [[], []]}}`, "twice"},
		"null":            {`{"outputs": {"y": [1, null], "z": [[], []]}}`, "not null"},
		"a text":          {`{"outputs": {"y": [1, "2"], "z": [[], []]}}`, "expected a number"},
		"a list too many": {`{"outputs": {"y": [[1], [2]], "z": [[], []]}}`, "expected a number"},
		"ragged":          {`{"outputs": {"y": [1, 2], "z": [[1], []]}}`, "0 values, expected 1"},
		"a fraction":      {`{"outputs": {"y": [1, 2], "z": [[1], [1.5]]}}`, "whole number"},
		"too great":       {`{"outputs": {"y": [1, 1e39], "z": [[], []]}}`, "does not fit"},
		"bytes":           {`{"outputs": {"y": [1, {"b64": "AAAA"}], "z": [[], []]}}`, "expected a number"},
		"deep":            {`{"outputs": {"y": ` + strings.Repeat("[", 100000) + `}}`, "too deep"},
		"beyond its type": {`{"outputs": {"y": [1, 2], "z": [[128], [0]]}}`, "beyond the server's type"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{
				defs:    signature(map[string]any{"x": described("DT_FLOAT")}, map[string]any{"y": described("DT_FLOAT"), "z": described("DT_INT8", -1)}),
				predict: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(tc.answer)) },
			}
			d := mustOpen(t, serve(t, s), nil)
			defer d.Close()
			in := []inference.Tensor{{Type: inference.Float32, Shape: []int{2}, F32: []float32{1, 2}}}
			err := d.Infer(t.Context(), in, make([]inference.Tensor, 2))
			if !errkind.Is(err, errkind.Permanent) || !strings.Contains(err.Error(), tc.want) || len(err.Error()) > 900 {
				t.Errorf("%v %v, expected %q", errkind.Of(err), err, tc.want)
			}
		})
	}
}

func TestErrorsHaveKinds(t *testing.T) {
	for status, want := range map[int]errkind.Kind{400: errkind.Invalid, 403: errkind.Config, 404: errkind.NotFound, 429: errkind.Throttled, 503: errkind.Transient} {
		s := mixed()
		s.predict = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"error": "why"}`))
		}
		d := mustOpen(t, serve(t, s), map[string]any{"inputs": "d"})
		in := []inference.Tensor{{Type: inference.Float64, Shape: []int{1}, F64: []float64{1}}}
		err := d.Infer(t.Context(), in, make([]inference.Tensor, 7))
		var ra *inference.RetryAfter
		if !errkind.Is(err, want) || errors.As(err, &ra) != want.Retryable() || !strings.Contains(err.Error(), "why") {
			t.Errorf("%d: %v %v", status, errkind.Of(err), err)
		}
		_ = d.Close()
	}
	s := mixed()
	stop := make(chan struct{})
	s.predict = func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}
	url := serve(t, s)
	defer close(stop)
	d := mustOpen(t, url+"?timeout=100ms", map[string]any{"inputs": "d"})
	defer d.Close()
	in := []inference.Tensor{{Type: inference.Float64, Shape: []int{1}, F64: []float64{1}}}
	if err := d.Infer(t.Context(), in, make([]inference.Tensor, 7)); !errkind.Is(err, errkind.Transient) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("late: %v %v", errkind.Of(err), err)
	}
}

func TestOpenFailsFastAndByKind(t *testing.T) {
	good := serve(t, mixed())
	with := func(change func(*server)) string {
		s := mixed()
		change(s)
		return serve(t, s)
	}
	defs := func(in, out map[string]any) string {
		return with(func(s *server) { s.defs = signature(map[string]any{"x": in}, map[string]any{"y": out}) })
	}
	unknown := described("DT_FLOAT")
	unknown["tensor_shape"] = map[string]any{"dim": []any{}, "unknown_rank": true}
	fixed := described("DT_FLOAT")
	fixed["tensor_shape"] = map[string]any{"dim": []any{map[string]any{"size": "8"}}}
	bytesIn := with(func(s *server) {
		s.defs = signature(map[string]any{"image_bytes": described("DT_STRING")}, map[string]any{"y": described("DT_FLOAT")})
	})
	for _, tc := range []struct {
		url      string
		settings map[string]any
		kind     errkind.Kind
		want     string
	}{
		{"tfserving://127.0.0.1:1/m", nil, errkind.Transient, "refused"},
		{"tfserving://a,b/m", nil, errkind.Config, "one host"},
		{"tfserving://a", nil, errkind.Config, "MODEL"},
		{strings.TrimSuffix(good, "m") + "nope", nil, errkind.NotFound, "Servable not found"},
		{good + "?version=9", nil, errkind.NotFound, "404"},
		{good + "?version=3&label=stable", nil, errkind.Config, "not both"},
		{good + "?verzion=3", nil, errkind.Config, `did you mean "version"?`},
		{good + "?token_env=NONE", nil, errkind.Config, "NONE"},
		{strings.Replace(good, "tfserving:", "tfserving+tls:", 1), nil, errkind.Config, ""},
		{with(func(s *server) { s.token = "x" }), nil, errkind.Config, "401"},
		{with(func(s *server) { s.state = "LOADING" }), nil, errkind.Transient, "LOADING"},
		{with(func(s *server) { s.state = "END" }), nil, errkind.NotFound, "END"},
		{with(func(s *server) {
			s.metadata = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }
		}), nil, errkind.Config, "not TensorFlow Serving"},
		{with(func(s *server) { s.defs = nil }), nil, errkind.Config, "no signature"},
		{good, map[string]any{"signature_name": "other"}, errkind.Config, "[serving_default]"},
		{good, map[string]any{"inputs": "z"}, errkind.Config, `no input "z"`},
		{good, map[string]any{"outputs": []any{"x_ot"}}, errkind.Config, `did you mean "x_out"?`},
		{good, map[string]any{"outputs": []any{"x_out", "x_out"}}, errkind.Config, "twice"},
		{good, map[string]any{"bach": 1}, errkind.Config, `did you mean "batch"?`},
		{good, map[string]any{"labels": map[string]any{"x_out": []any{"a"}}}, errkind.Config, "1 labels"},
		{good, map[string]any{"labels": map[string]any{"y": []any{"a"}}}, errkind.Config, "no output"},
		{good, map[string]any{"features": []any{"a"}}, errkind.Config, "features"},
		{defs(unknown, described("DT_FLOAT")), nil, errkind.Config, "shape is unknown"},
		{defs(fixed, described("DT_FLOAT")), nil, errkind.Config, "no other number of rows than 8"},
		{defs(described("DT_COMPLEX64"), described("DT_FLOAT")), nil, errkind.Config, "DT_COMPLEX64"},
		{defs(described("DT_FLOAT", 1<<30, 1<<30), described("DT_FLOAT")), nil, errkind.Config, "more than"},
		{bytesIn, nil, errkind.Config, "bytes"},
	} {
		d, err := open(t, tc.url, tc.settings)
		if err == nil {
			_ = d.Close()
		}
		if !errkind.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret-of") {
			t.Errorf("%s %v: %v %v, expected %v %q", tc.url, tc.settings, errkind.Of(err), err, tc.kind, tc.want)
		}
	}
	d := mustOpen(t, with(func(s *server) { s.host = "tf.example.com" }), map[string]any{"host": "tf.example.com"})
	_ = d.Close()
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"outputs": {"y": [1, NaN], "z": [["a"], ["b"]]}}`, `{"outputs": [1, 2]}`, `{"outputs": {"z": [[], []], "y": [-Infinity, 0]}}`} {
		f.Add([]byte(s))
	}
	d := &Driver{outputs: []port{{dt: dtypes["DT_FLOAT"], sig: inference.Signature{Name: "y", Type: inference.Float32}}, {dt: dtypes["DT_STRING"], sig: inference.Signature{Name: "z", Type: inference.String, Shape: []int{-1}}}}}
	f.Fuzz(func(t *testing.T, text []byte) {
		out := make([]inference.Tensor, 2)
		if err := d.read(text, 2, out); err == nil && (len(out[0].F32) != 2 || len(out[1].Str) != 2*out[1].Shape[1]) {
			t.Fatalf("%+v", out)
		}
	})
}
