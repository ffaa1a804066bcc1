package pipeline_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/model"
	"github.com/freshet-io/freshet/pipeline"
	"github.com/freshet-io/freshet/state/statetest"
)

// registry is a registry with versions of script models in memory.
func registry(t *testing.T, versions map[string]script) (*model.Registry, pipeline.ModelOpener) {
	t.Helper()
	objects := statetest.NewObjects()
	file := filepath.Join(t.TempDir(), "model.onnx")
	open := func(_ string, v *model.Version) (inference.Driver, error) { return versions[v.Version], nil }
	r := model.NewRegistry(objects, model.RegistryOptions{Cache: t.TempDir(), Open: open})
	for _, v := range slices.Sorted(maps.Keys(versions)) {
		if err := os.WriteFile(file, []byte(v), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Add(t.Context(), model.Submission{Name: "script", Version: v, Path: file, NoGolden: true, NaNOutputs: true}); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	return r, func(ctx context.Context, ref *pipeline.ModelRef) (*model.Service, error) {
		n++
		return model.NewService(ctx, model.ServiceConfig{
			Name: ref.Model, Source: r, Model: ref.Config, Check: ref.Check, Policy: ref.Policy, Previous: ref.Previous,
			Process: fmt.Sprint("test-", n), Poll: 5 * time.Millisecond, Evidence: 20 * time.Millisecond,
			Open: func(_ context.Context, v *model.Version, _ string) (inference.Driver, error) {
				return versions[v.Version], nil
			},
		})
	}
}

func TestAPipelineFollowsARolloutByKeyAndNoKeyFlips(t *testing.T) {
	var broken atomic.Bool
	r, open := registry(t, map[string]script{
		"1": {version: "1", score: thousandth},
		"2": {version: "2", score: func(x float64) float64 { return x/1000 + 0.001 }},
		"3": {version: "3", score: thousandth, err: func(float64) error {
			if broken.Load() {
				return errkind.New(errkind.Permanent, "worse")
			}
			return nil
		}},
	})
	if _, err := r.Promote(t.Context(), "script", "1", "first"); err != nil {
		t.Fatal(err)
	}
	s := newSetup(t, paymentsWith(t, "model: ../models/two.onnx", "model: script", "batch: {max: 64}", `fallback: [{version: previous}, {value: 0.5}]
      rollout: {key: customer, steps: [0.3], hold: 1h}`,
		"inputs: [amount, tx_1d]", "inputs: [amount, amount]"))
	spec, faults := pipeline.Load(s.file, nil)
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	plan, faults := pipeline.MakePlan(spec, open)
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	p, err := pipeline.New(plan, pipeline.Deps{Broker: s.b})
	if err != nil {
		t.Fatal(err)
	}
	s.send()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, pipeline.RunOptions{}) }()
	id := 0
	sendSome := func(n int) {
		t.Helper()
		var all []string
		for range n {
			id++
			all = append(all, payment(id, fmt.Sprintf("c%d", id%40), float64(id%100), time.Duration(id)*time.Second, ""))
		}
		s.send(all...)
		await(t, func() bool {
			select {
			case err := <-ended:
				t.Fatalf("the run ended: %v", err)
			default:
			}
			return int(p.Stats().Predictions) == id
		})
	}
	begin := func(version string, role model.Role, share float64) {
		t.Helper()
		_, err := model.BeginRollout(t.Context(), r, "script", model.Start{Version: version, Role: role, Share: share, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		await(t, func() bool { return p.Stats().Steps[0].Status.Challenger == version })
	}
	sendSome(200)
	begin("2", model.Canary, 0.3)
	sendSome(400)
	if _, err := r.Promote(t.Context(), "script", "2", "good"); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return p.Stats().Version == "2" })
	sendSome(100)
	begin("3", model.Canary, 0.3)
	broken.Store(true)
	sendSome(200)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	results, records := s.byID(), s.predictions()
	if len(results) != id || len(records) != id {
		t.Fatalf("%d results and %d records of %d events", len(results), len(records), id)
	}
	arms := map[string]string{}
	counts := map[string]int{}
	for i := 1; i <= id; i++ {
		r, rec := results[fmt.Sprintf("p%d", i)], records[fmt.Sprintf("p%d", i)]
		st := rec.Steps[0]
		counts[st.Arm.Version+" "+st.Arm.Role+" "+st.Path.String()]++
		if r["version"] != st.Arm.Version || st.Arm.Model != "script" || st.Arm.Digest == "" {
			t.Fatalf("result %v, record %+v", r, st)
		}
		want := float64(i%100) / 1000
		if st.Arm.Version == "2" {
			want += 0.001
		}
		if got := r["score"].(float64); math.Abs(got-want) > 1e-12 {
			t.Fatalf("the record names version %s, and the score is %v", st.Arm.Version, got)
		}
		if i > 200 && i <= 600 { // the canary's time
			if before, ok := arms[rec.Key]; ok && before != st.Arm.Version {
				t.Errorf("key %s flipped from %s to %s", rec.Key, before, st.Arm.Version)
			}
			arms[rec.Key] = st.Arm.Version
		}
	}
	if counts["2 canary scored"] == 0 || counts["1 champion scored"] < 200 || counts["2 champion scored"] < 100 {
		t.Errorf("%v", counts)
	}
	// The third version fails: its keys go to the version before, which is the first.
	if counts["1 champion fallback_version"]+counts["2 champion fallback_version"] == 0 {
		for k, n := range counts {
			t.Logf("%s: %d", k, n)
		}
		t.Error("no row went to the former version")
	}
}

func TestAShadowIsRecordedAndNeverPublished(t *testing.T) {
	r, open := registry(t, map[string]script{
		"1": {version: "1", score: thousandth},
		"2": {version: "2", score: func(x float64) float64 { return x/1000 + 0.5 }},
	})
	if _, err := r.Promote(t.Context(), "script", "1", "first"); err != nil {
		t.Fatal(err)
	}
	if _, err := model.BeginRollout(t.Context(), r, "script", model.Start{Version: "2", Role: model.Shadow, Share: 1, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	s := newSetup(t, paymentsWith(t, "model: ../models/two.onnx", "model: script", "inputs: [amount, tx_1d]", "inputs: [amount, amount]"))
	spec, _ := pipeline.Load(s.file, nil)
	plan, faults := pipeline.MakePlan(spec, open)
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	p, err := pipeline.New(plan, pipeline.Deps{Broker: s.b})
	if err != nil {
		t.Fatal(err)
	}
	s.send(payment(1, "ann", 100, 0, ""), payment(2, "bob", 200, 1, ""))
	if err := p.Run(t.Context(), pipeline.RunOptions{UntilIdle: true}); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]float64{"p1": 0.1, "p2": 0.2} {
		st := s.predictions()[id].Steps[0]
		if got := s.byID()[id]; got["score"] != want || got["version"] != "1" {
			t.Errorf("%v", got)
		}
		if len(st.Shadows) != 1 || st.Shadows[0].Arm.Version != "2" || st.Shadows[0].Arm.Role != "shadow" || math.Abs(st.Shadows[0].Score-want-0.5) > 1e-12 {
			t.Errorf("%+v", st)
		}
	}
}
