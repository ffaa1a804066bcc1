package httpjson

import (
	"encoding/json"
	"math"
	"net/http"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/inferencetest"
	"github.com/freshet-io/freshet/test/servers"
)

func TestFlask(t *testing.T) {
	server := servers.Run(t, "httpmodel")
	address := server.Address
	inputs := []inference.Signature{{Name: "amount", Type: inference.Float64}, {Name: "count", Type: inference.Int64}, {Name: "night", Type: inference.Bool}}
	open := func(t testing.TB, more map[string]any) *Driver {
		settings := map[string]any{"concurrency": 2, "batch": 64, "ready": "/healthz", "nan": "literal", "response": map[string]any{
			"score":  "predictions.#.score",
			"label":  map[string]any{"path": "predictions.#.label", "type": "string"},
			"flag":   map[string]any{"path": "predictions.#.flag", "type": "bool"},
			"vector": map[string]any{"path": "vectors", "width": 2},
		}}
		for k, v := range more {
			settings[k] = v
		}
		d, err := Open(t.Context(), "http://"+address+"/predict", Options{Settings: settings, Inputs: inputs})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	inferencetest.Run(t, inferencetest.Harness{
		Remote: true, Open: func(t testing.TB) inference.Driver { return open(t, nil) },
		Freeze: func(t testing.TB, _ inference.Driver) func() {
			if err := server.Pause(); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := server.Resume(); err != nil {
					t.Error(err)
				}
			}
		},
		Faults: []inferencetest.Fault{{
			Name: "server killed", Kind: errkind.Transient,
			Provoke: func(t testing.TB, _ inference.Driver) {
				if err := server.Kill(); err != nil {
					t.Fatal(err)
				}
			},
			Recover: func(t testing.TB, _ inference.Driver) {
				if err := server.Restart(); err != nil {
					t.Fatal(err)
				}
			},
		}},
	})

	t.Run("scores are the framework's own", func(t *testing.T) {
		resp, err := http.Get("http://" + address + "/golden")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var golden struct {
			Rows   [][]*float64
			Scores []float64
		}
		if err := json.NewDecoder(resp.Body).Decode(&golden); err != nil {
			t.Fatal(err)
		}
		inputs = []inference.Signature{{Name: "features", Type: inference.Float64, Shape: []int{3}}}
		for _, settings := range []map[string]any{
			{"batch": 200, "nan": "null", "request": map[string]any{"body": `{"instances": {{.columns.features}}}`}},
			{"batch": 200, "nan": "literal", "request": map[string]any{"body": `{"instances": [{{range $i, $r := .rows}}{{if $i}},{{end}}{{$r.features}}{{end}}]}`}},
		} {
			d := open(t, settings)
			in := []inference.Tensor{{Type: inference.Float64, Shape: []int{len(golden.Rows), 3}}}
			for _, row := range golden.Rows {
				for _, v := range row {
					if v == nil {
						in[0].F64 = append(in[0].F64, math.NaN())
					} else {
						in[0].F64 = append(in[0].F64, *v)
					}
				}
			}
			out := make([]inference.Tensor, 4)
			if err := d.Infer(t.Context(), in, out); err != nil {
				t.Fatal(err)
			}
			for i, want := range golden.Scores {
				if got := out[2].F64[i]; got != want || (out[1].Str[i] == "fraud") != (want > 0.5) || out[3].F64[2*i+1] != want {
					t.Fatalf("row %d: %v %s, expected %v", i, got, out[1].Str[i], want)
				}
			}
			_ = d.Close()
		}
	})
	t.Run("rows that do not fit are Invalid", func(t *testing.T) {
		inputs = []inference.Signature{{Name: "amount", Type: inference.Float64}}
		d := open(t, nil)
		defer d.Close()
		in := []inference.Tensor{{Type: inference.Float64, Shape: []int{1}, F64: []float64{1}}}
		if err := d.Infer(t.Context(), in, make([]inference.Tensor, 4)); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("%v %v", errkind.Of(err), err)
		}
	})
	t.Run("another path", func(t *testing.T) {
		d := open(t, map[string]any{"request": map[string]any{"path": "/forecast"}, "ready": "/healthz"})
		defer d.Close()
		in := []inference.Tensor{{Type: inference.Float64, Shape: []int{1}, F64: []float64{1}}}
		if err := d.Infer(t.Context(), in, make([]inference.Tensor, 4)); !errkind.Is(err, errkind.NotFound) {
			t.Errorf("%v %v", errkind.Of(err), err)
		}
	})
}
