package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/inference/onnx"
	"github.com/freshet-io/freshet/pipeline"
)

// A comparison is only fair between programs that do the same work.
func TestFreshetAndHandWrittenCodeGiveTheSameResults(t *testing.T) {
	const events = 100_000 // more than the longest window
	s, err := newScenario(t.TempDir(), "../..", events)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	b, err := filledJournal(ctx, t.TempDir(), s.records(0, events))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p, err := newPipeline(filepath.Join(s.dir, "pipeline.yaml"), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(ctx, pipeline.RunOptions{UntilIdle: true}); err != nil {
		t.Fatal(err)
	}
	got := map[string]result{}
	for _, topic := range []string{"scored", "alerts"} {
		readResults(t, b, topic, got)
	}
	if len(got) != events {
		t.Fatalf("%d results of %d events; dead letters: %v", len(got), events, p.Stats().DeadLetters)
	}
	model, err := onnx.Load(s.model, onnx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	w, sc := windows{}, newScorer(model)
	faults := 0
	for _, e := range s.events {
		pay, err := decodePayment(e)
		if err != nil {
			t.Fatal(err)
		}
		x, risk := s.features(w, pay)
		scores, err := sc.score(ctx, [][inputs]float32{x}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, data, err := answer(pay, x, risk, scores[0])
		if err != nil {
			t.Fatal(err)
		}
		var want result
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		if err := want.differs(got[strconv.FormatInt(*pay.ID, 10)]); err != nil && faults < 10 {
			faults++
			t.Errorf("payment %d: %v", *pay.ID, err)
		}
	}
}

func (r *result) differs(got result) error {
	// A mean that lies on a threshold of the model may fall to its other side by rounding.
	if math.Abs(r.Score-got.Score) > 1e-5 || r.Route != got.Route {
		return fmt.Errorf("score %v, route %s; by hand %v, %s", got.Score, got.Route, r.Score, r.Route)
	}
	for name, want := range r.Features {
		have, ok := got.Features[name]
		if name == "tx_amount" && !ok {
			continue // an input, not a feature
		}
		if math.Abs(have-want) > 1e-5*math.Abs(want) {
			return fmt.Errorf("%s is %v, by hand %v", name, have, want)
		}
	}
	return nil
}

func readResults(t *testing.T, b *broker.Broker, topic string, into map[string]result) {
	t.Helper()
	state, err := b.Describe(context.Background(), topic, "")
	if err != nil {
		t.Fatal(err)
	}
	for p, part := range state.Partitions {
		r, err := b.Read(context.Background(), topic, p, 0)
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(0); at < part.End; {
			batch, err := r.Fetch(context.Background(), 4096)
			if err != nil {
				t.Fatal(err)
			}
			for i := range batch.Records {
				res := rawResult{}
				if err := json.Unmarshal(batch.Records[i].Value, &res); err != nil {
					t.Fatal(err)
				}
				into[res.SourceID] = res.plain()
			}
			at = batch.Next()
			batch.Release()
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// rawResult takes features that are booleans as well.
type rawResult struct {
	SourceID string         `json:"source_id"`
	Score    float64        `json:"score"`
	Route    string         `json:"route"`
	Features map[string]any `json:"features"`
}

func (r *rawResult) plain() result {
	out := result{Score: r.Score, Route: r.Route, Features: map[string]float64{}}
	for k, v := range r.Features {
		switch v := v.(type) {
		case float64:
			out.Features[k] = v
		case bool:
			if v {
				out.Features[k] = 1
			} else {
				out.Features[k] = 0
			}
		}
	}
	return out
}
