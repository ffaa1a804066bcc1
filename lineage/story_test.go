package lineage

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
)

var update = flag.Bool("update", false, "rewrite golden files")

// alarm is a prediction with something of everything.
func alarm() *Prediction {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC).UnixNano()
	ms := int64(time.Millisecond)
	values := []float64{2.1, 0.75, -0.4, 0.02, 0.01, -0.01, 0, 0.003, 0.002, 0.001}
	inputs := []string{"amount", "country", "merchant.risk", "tx_1d", "risk_7d", "f5", "f6", "f7", "f8", "f9"}
	raw := -1.5
	for _, v := range values {
		raw += v
	}
	return &Prediction{
		Source: &Source{
			Pipeline: "card-fraud", Config: "bce050f1bcc2d3a0f4288c2fb89790a1", Topic: "transactions", Contract: "card-transaction 1.2.0",
			Features: []Feature{
				{Name: "amount", Lookup: -1}, {Name: "country", Lookup: -1}, {Name: "merchant.risk", Lookup: 0}, {Name: "tx_1d", Window: 24 * int64(time.Hour), Lookup: -1},
				{Name: "risk_7d", Window: 168 * int64(time.Hour), Delay: 168 * int64(time.Hour), Lookup: -1}, {Name: "seen", Lookup: -1},
			},
			Steps: []Step{{Outputs: []string{"score"}, Inputs: inputs}}, Routes: []string{"alert"},
		},
		ID: "t-4711", Key: "c-7", Result: "35017f2f624bbb03029d71ec3efec6ea", Partition: 2, Position: 4174,
		Time: at, Arrival: at + 12*ms, Published: at + 31*ms, Route: "alert", Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Features: []Value{
			{Name: "amount", Value: 240.64, Newest: at}, {Name: "country", Kind: event.String, Value: "de\x1b[31m", Newest: at},
			{Name: "merchant.risk", Value: math.NaN(), Newest: at - int64(time.Hour)}, {Name: "tx_1d", Kind: event.Int, Value: int64(3), Newest: at},
			{Name: "risk_7d", Newest: at - 168*int64(time.Hour)}, {Name: "seen", Kind: event.Time, Value: at, Newest: at},
		},
		Steps: []Answer{{
			Arm: Arm{"fraud-risk", "3", "5194a32b666f51ced41f54ca84b015f9", "canary", "r-2"}, Path: Scored,
			Outputs: []Value{{Name: "score", Value: 1 / (1 + math.Exp(-raw))}}, Called: true,
			Call:      Call{Answered: at + 29*ms, Rows: 64, Reason: inference.FlushDeadline, Attempts: 2},
			Shadows:   []ShadowAnswer{{Arm{Model: "fraud-risk", Version: "4", Role: "shadow"}, 0.69}},
			Explained: &Explained{Method: inference.TreeSHAP, Link: inference.Logistic, Base: -1.5, Raw: raw, Values: values}, Inputs: inputs,
		}},
	}
}

func TestTheStoryOfAPrediction(t *testing.T) {
	r := alarm().Record()
	var b strings.Builder
	if err := WriteStory(&b, &r, 3); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "story.txt")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("run go test ./lineage -update if this is meant (-want +got):\n%s", d)
	}
	// What came over HTTP tells the same story.
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Record
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	var again strings.Builder
	if err := WriteStory(&again, &back, 3); err != nil {
		t.Fatal(err)
	}
	// A time as a value is text there.
	if d := cmp.Diff(b.String(), again.String()); d != "" {
		t.Errorf("(-here +over HTTP):\n%s", d)
	}
}

func TestAttributionsAddUp(t *testing.T) {
	e := alarm().Record().Answers[0].Explanation
	sum := e.Base.(float64)
	for _, a := range e.Attributions {
		sum += a.Attribution.(float64)
	}
	if math.Abs(sum-e.Raw.(float64)) > 1e-6 || math.Abs(e.Output.(float64)-1/(1+math.Exp(-sum))) > 1e-6 {
		t.Errorf("base and attributions add up to %v, raw is %v, output %v", sum, e.Raw, e.Output)
	}
}
