package pipeline_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
)

// explained is a model whose score is its first input, and all of it that input's.
type explained struct{ script }

func (explained) Methods(inference.Target) []inference.Method {
	return []inference.Method{inference.LinearAttribution}
}
func (explained) SetBackground([]inference.Tensor) error { return nil }
func (explained) Explain(_ context.Context, in []inference.Tensor, _ inference.Target, m inference.Method, a *inference.Attributions) error {
	n := in[0].Rows()
	*a = inference.Attributions{Method: m, Width: 2, Base: make([]float64, n), Values: make([]float64, 2*n), Raw: make([]float64, n)}
	for i := range n {
		a.Raw[i] = in[0].F64[2*i] / 1000
		a.Values[2*i] = a.Raw[i]
	}
	return nil
}

func TestAShareOfTheEventsIsExplainedWithOrWithoutIDs(t *testing.T) {
	text, err := os.ReadFile("testdata/contracts/payment.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	contract := filepath.Join(t.TempDir(), "payment.schema.json")
	text = []byte(strings.NewReplacer(`"id": "id", `, "", `"required": ["id", `, `"required": [`).Replace(string(text)))
	if err := os.WriteFile(contract, text, 0o644); err != nil {
		t.Fatal(err)
	}
	s := newSetup(t, paymentsWith(t, "../contracts/payment.schema.json", contract, "batch: {max: 64}", "explain: {share: 0.25}", "inputs: [amount, tx_1d]", "inputs: [amount, amount]"))
	s.open = func(string) (inference.Driver, error) {
		return explained{script{version: "1", score: thousandth}}, nil
	}
	const each = 400
	var all []string
	for i := range each {
		all = append(all, payment(i, "ann", float64(i%100), time.Duration(i)*time.Second, ""))
	}
	s.send(all...)
	for i := range each { // the broker is given no id of these
		rec := event.Record{Key: []byte("ann"), Value: []byte(all[i])}
		if _, err := s.b.Publish(t.Context(), "payments", []event.Record{rec}); err != nil {
			t.Fatal(err)
		}
	}
	s.mustRun()
	var results, explained [2]int // of events with an id, and of those without
	for _, topic := range []string{"scored", "alerts"} {
		for _, r := range s.read(topic) {
			kind := 0
			if strings.HasPrefix(r["source_id"].(string), "@") {
				kind = 1
			}
			results[kind]++
			if r["explanation"] != nil {
				explained[kind]++
			}
		}
	}
	for kind, n := range explained {
		if results[kind] != each || n < each/8 || n > each/2 {
			t.Errorf("of %v results %v are explained, and a quarter is asked for", results, explained)
		}
	}
}
