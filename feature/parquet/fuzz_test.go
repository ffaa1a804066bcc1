package parquet

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/freshet-io/freshet/event"
)

// FuzzDecode holds the decoder to encoding/json, whatever the bytes.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"id":"r","source_id":"1","time":"2018-04-01T00:00:00Z","features":{"a":1.5,"n":2,"s":"x","b":true,"at":null,"new":[1,{"x":"]"}]}}`,
		` { "source_id" : "1" , "time" : "2018-04-01T00:00:00.5Z" , "features" : { } , "outputs":{"y":-0},"score":1e300 } `,
		`{"source_id":1,"time":"2018-04-01T00:00:00Z","features":{"a":"","s":3,"\u0061":7},"feature_times":{"a":"x","q":1}}`,
		`{"source_id":"1","time":"2018-04-01T00:00:00Z","features":[1],"outputs":7,"feature_times":null}`, `{}`, `[`, `{"a":`, `"`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o := Options{Features: floatFeatures, Outputs: []Column{{"score", event.Float}}}
		s := newSchema(&o, nil)
		var r row
		if !s.decode(b, 1, &r) {
			return
		}
		var want struct {
			Features map[string]any `json:"features"`
		}
		if !json.Valid(b) {
			t.Fatal("decoded what is no JSON")
		}
		if json.Unmarshal(b, &want) != nil || r.misfit {
			// What was learnt must hold at the second reading.
			next := s.relaid(o, nil)
			if r = (row{}); !next.decode(b, 1, &r) || next.changed {
				if third := next.relaid(o, nil); !third.decode(b, 1, &r) {
					t.Fatal("a result is none at the second reading")
				}
			}
			return
		}
		if v, ok := want.Features["a"].(float64); ok {
			if got := r.values[s.of[featureValue]["a"]]; !got.set || got.bits != math.Float64bits(v) {
				t.Fatalf("a is %v, expected %v", got, v)
			}
		}
	})
}
