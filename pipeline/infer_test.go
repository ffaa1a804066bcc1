package pipeline_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/pipeline"
)

// paymentsWith is the pipeline of the tests with parts of its text changed.
func paymentsWith(t *testing.T, changes ...string) string {
	t.Helper()
	text, err := os.ReadFile(payments)
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(string(text), changes[i]) {
			t.Fatalf("the pipeline has no %q", changes[i])
		}
	}
	file := filepath.Join(t.TempDir(), "pipeline.yaml")
	changed := strings.ReplaceAll(strings.NewReplacer(changes...).Replace(string(text)), "../", here+"/")
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// script is a model of two values that answers score(first value), or fails.
type script struct {
	version string
	score   func(x float64) float64
	err     func(x float64) error
	calls   *atomic.Int64
	late    time.Duration
}

func (m script) Metadata() inference.Metadata {
	meta := refuser{}.Metadata()
	meta.Name, meta.Version = "script", m.version
	return meta
}
func (script) Concurrency() int { return 2 }
func (script) Close() error     { return nil }
func (m script) Infer(ctx context.Context, in, out []inference.Tensor) error {
	if m.calls != nil {
		m.calls.Add(1)
	}
	if m.late > 0 {
		select {
		case <-time.After(m.late):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	n := in[0].Rows()
	out[0].Type, out[0].Shape, out[0].F64 = inference.Float64, []int{n, 1}, make([]float64, n)
	for i := range n {
		x := in[0].F64[2*i]
		if m.err != nil {
			if err := m.err(x); err != nil {
				return err
			}
		}
		out[0].F64[i] = m.score(x)
	}
	return nil
}

func thousandth(x float64) float64 { return x / 1000 }

// byID are the results of both topics.
func (s *setup) byID() map[string]map[string]any {
	s.t.Helper()
	all := map[string]map[string]any{}
	for _, topic := range []string{"scored", "alerts"} {
		for _, r := range s.read(topic) {
			all[r["source_id"].(string)] = r
		}
	}
	return all
}

// predictions are the records of what the pipeline said, by event.
func (s *setup) predictions() map[string]lineage.Prediction {
	s.t.Helper()
	all := map[string]lineage.Prediction{}
	for _, value := range s.values("payments-predictions") {
		m, err := lineage.Decode(value)
		if err != nil {
			s.t.Fatal(err)
		}
		for i := range m.Len() {
			p := m.At(i)
			if _, twice := all[p.ID]; twice {
				s.t.Errorf("%s is recorded twice", p.ID)
			}
			all[p.ID] = p
		}
	}
	return all
}

// values are the payloads on a topic.
func (s *setup) values(topic string) (all [][]byte) {
	s.t.Helper()
	info, err := s.b.Describe(s.t.Context(), topic, "")
	if err != nil {
		s.t.Fatal(err)
	}
	for i, p := range info.Partitions {
		r, err := s.b.Read(s.t.Context(), topic, i, p.Start)
		if err != nil {
			s.t.Fatal(err)
		}
		for next := p.Start; next < p.End; {
			b, err := r.Fetch(s.t.Context(), 100)
			if err != nil {
				s.t.Fatal(err)
			}
			for j := range b.Records {
				all = append(all, slices.Clone(b.Records[j].Value))
			}
			next = b.Next()
			b.Release()
		}
		if err := r.Close(); err != nil {
			s.t.Fatal(err)
		}
	}
	return all
}

func TestFallbacksAreTriedInOrderAndNamed(t *testing.T) {
	down := errkind.New(errkind.Permanent, "down")
	s := newSetup(t, paymentsWith(t, "batch: {max: 64}",
		`batch: {max: 1}
      fallback: [{rule: {score: "amount > 3000.0 ? 1.0/(amount - amount) : 0.75"}}, {value: 0.25}]`,
		"inputs: [amount, tx_1d]", "inputs: [amount, amount]"))
	s.open = func(string) (inference.Driver, error) {
		return script{version: "1", score: func(x float64) float64 {
			if x == 7 {
				return math.NaN()
			}
			return thousandth(x)
		}, err: func(x float64) error {
			if x > 1000 {
				return down
			}
			return nil
		}}, nil
	}
	s.send(payment(1, "ann", 100, 0, ""), payment(2, "ann", 2000, 1, ""), payment(3, "ann", 4000, 2, ""), payment(4, "ann", 7, 3, ""))
	st := s.mustRun()
	if st.Predictions != 4 || st.Fallbacks != 3 || st.Failures != 3 {
		t.Errorf("%d predictions, %d fallbacks, %d failures, dead letters %v", st.Predictions, st.Fallbacks, st.Failures, st.DeadLetters)
	}
	results, records := s.byID(), s.predictions()
	for id, want := range map[string]struct {
		score float64
		path  lineage.Path
	}{"p1": {0.1, lineage.Scored}, "p2": {0.75, lineage.FallbackRule}, "p3": {math.Inf(1), lineage.FallbackRule}, "p4": {0.75, lineage.FallbackRule}} {
		r, p := results[id], records[id]
		if id == "p3" { // a division by zero has no value, so the fixed one is taken
			want.score, want.path = 0.25, lineage.FallbackValue
		}
		if r["score"] != want.score || len(p.Steps) != 1 || p.Steps[0].Path != want.path || p.Steps[0].Outputs[0].Value != want.score {
			t.Errorf("%s: result %v, record %+v", id, r, p.Steps)
		}
		if (want.path == lineage.Scored) != (r["path"] == nil) || want.path != lineage.Scored && r["path"] != want.path.String() {
			t.Errorf("%s: path %v", id, r["path"])
		}
	}
	if st.Steps[0].Paths["fallback_rule"] != 2 || st.Steps[0].Paths["fallback_value"] != 1 || st.Steps[0].Paths["scored"] != 1 {
		t.Errorf("paths %v", st.Steps[0].Paths)
	}
}

func TestAnOlderAnswerServesWhereTheModelFails(t *testing.T) {
	var failing atomic.Bool
	s := newSetup(t, paymentsWith(t, "batch: {max: 64}", "batch: {max: 1}\n      retry: {attempts: 1}\n      fallback: {cached: 1h}",
		"inputs: [amount, tx_1d]", "inputs: [amount, amount]"))
	var calls atomic.Int64
	s.open = func(string) (inference.Driver, error) {
		return script{version: "1", calls: &calls, score: thousandth, err: func(float64) error {
			if failing.Load() {
				return errkind.New(errkind.Permanent, "down")
			}
			return nil
		}}, nil
	}
	p, err := s.pipeline()
	if err != nil {
		t.Fatal(err)
	}
	s.send(payment(1, "ann", 100, 0, ""))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, pipeline.RunOptions{}) }()
	await(t, func() bool { return p.Stats().Predictions == 1 })
	failing.Store(true)
	s.send(payment(2, "ann", 100, 1, ""), payment(3, "ann", 200, 2, ""))
	await(t, func() bool { st := p.Stats(); return st.Predictions+st.Letters() == 3 })
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if r := s.byID()["p2"]; r["score"] != 0.1 || r["path"] != "fallback_cached" || p.Stats().DeadLetters["inference"] != 1 {
		t.Errorf("%v, dead letters %v", r, p.Stats().DeadLetters)
	}
}

func TestLateRowsAreScoredOrNotAsTheStepSays(t *testing.T) {
	for policy, want := range map[string]struct {
		path  any
		score any
	}{"score": {nil, 0.1}, "fallback": {"fallback_value", 0.5}, "skip": {"skipped", nil}} {
		t.Run(policy, func(t *testing.T) {
			s := newSetup(t, paymentsWith(t, "target: 2s", "target: 1ms", "batch: {max: 64}", "late: "+policy+"\n      fallback: {value: 0.5}",
				"inputs: [amount, tx_1d]", "inputs: [amount, amount]"))
			s.open = func(string) (inference.Driver, error) { return script{version: "1", score: thousandth}, nil }
			s.send(payment(1, "ann", 100, 0, ""))
			time.Sleep(5 * time.Millisecond) // older than the target now
			if st := s.mustRun(); st.Predictions != 1 {
				t.Fatalf("%d predictions, dead letters %v", st.Predictions, st.DeadLetters)
			}
			if r := s.byID()["p1"]; r["path"] != want.path || r["score"] != want.score {
				t.Errorf("%v", r)
			}
		})
	}
}

// rowOf is a model that gives two values a row as one vector, and takes it back.
type rowOf struct{ in, out int }

func (m rowOf) Metadata() inference.Metadata {
	return inference.Metadata{
		Name: fmt.Sprintf("row-%d", m.out), Version: "1",
		Inputs:  []inference.Signature{{Name: "x", Type: inference.Float32, Shape: []int{m.in}}},
		Outputs: []inference.Signature{{Name: "y", Type: inference.Float32, Shape: []int{m.out}}},
	}
}
func (rowOf) Concurrency() int { return 1 }
func (rowOf) Close() error     { return nil }
func (m rowOf) Infer(_ context.Context, in, out []inference.Tensor) error {
	n := in[0].Rows()
	out[0].Type, out[0].Shape, out[0].F32 = inference.Float32, []int{n, m.out}, make([]float32, n*m.out)
	for i := range n {
		for j := range m.out {
			for k := range m.in {
				out[0].F32[i*m.out+j] += in[0].F32[i*m.in+k] * float32(j+1)
			}
		}
	}
	return nil
}

func TestModelsBehindOneAnotherPassVectorsOn(t *testing.T) {
	s := newSetup(t, paymentsWith(t, `  - infer:
      model: ../models/two.onnx
      inputs: [amount, tx_1d]
      outputs: {score: value}
      batch: {max: 64}
`, `  - infer:
      name: embed
      model: ../models/two.onnx
      inputs: [amount, amount]
      outputs: {embedding: vector(y)}
      batch: {max: 2}
  - features:
      more: {expr: "amount + 1.0"}
  - infer:
      name: judge
      model: ../models/one.onnx
      inputs: [embedding]
      outputs: {score: value}
      batch: {max: 3}
`))
	one := filepath.Join(filepath.Dir(s.file), "one.onnx")
	text, _ := os.ReadFile(s.file)
	here, _ := filepath.Abs("testdata")
	if err := os.WriteFile(s.file, []byte(strings.ReplaceAll(string(text), here+"/models/one.onnx", one)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(one, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.open = func(path string) (inference.Driver, error) {
		if path == one {
			return rowOf{3, 1}, nil
		}
		return rowOf{2, 3}, nil
	}
	var all []string
	for i := range 50 {
		all = append(all, payment(i, fmt.Sprintf("c%d", i%5), float64(i)/100, time.Duration(i)*time.Second, ""))
	}
	s.send(all...)
	if st := s.mustRun(); st.Predictions != 50 {
		t.Fatalf("%d predictions, dead letters %v", st.Predictions, st.DeadLetters)
	}
	for i := range 50 {
		r := s.byID()[fmt.Sprintf("p%d", i)]
		e := r["outputs"].(map[string]any)["embedding"].([]any)
		x := float32(i) / 100
		if len(e) != 3 || float32(e[1].(float64)) != 2*(x+x) || float32(r["score"].(float64)) != (x+x)+2*(x+x)+3*(x+x) {
			t.Fatalf("%d: %v", i, r)
		}
		if steps := r["steps"].(map[string]any); steps["embed"].(map[string]any)["model"] != "row-3" || r["model"] != "row-1" {
			t.Fatalf("%v", r)
		}
	}
	if p := s.predictions()["p7"]; len(p.Steps) != 2 || p.Steps[1].Arm.Model != "row-1" || !p.Steps[0].Called {
		t.Errorf("%+v", p.Steps)
	}
}
