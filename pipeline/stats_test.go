package pipeline_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/pipeline"
)

func TestStatsSayWhereEachStageIs(t *testing.T) {
	vs := visits(400, 4)
	s := newSetup(t, chain)
	createVisits(t, s.b)
	publish(t, s.b, "visits", records(vs)...)
	p, err := s.pipeline()
	if err != nil {
		t.Fatal(err)
	}
	lag, err := p.Lag(t.Context())
	if err != nil || lag.Records != 400 {
		t.Errorf("before the run: lag %+v, %v", lag, err) // the topics between stages are not there yet
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, pipeline.RunOptions{}) }()
	for lag.Records > 0 && ctx.Err() == nil {
		<-time.After(time.Millisecond)
		if lag, err = p.Lag(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// A commit is counted a moment after it is there.
	for ctx.Err() == nil && p.Stats().Predictions < 400 {
		<-time.After(time.Millisecond)
	}
	st := p.Stats()
	if st.Predictions != 400 {
		t.Errorf("nothing is behind, and %d of 400 results are there", st.Predictions)
	}
	newest := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(vs[len(vs)-1].at).UnixNano()
	type stage struct {
		Topic, By  string
		Keys, Held int64
	}
	var got []stage
	for _, z := range st.Stages {
		got = append(got, stage{z.Topic, z.By, z.Keys, z.Held})
		if z.Bytes <= 0 {
			t.Errorf("%s: state of %d bytes", z.Topic, z.Bytes)
		}
		if len(z.Watermarks) == 0 || slices.Max(slices.Collect(maps.Values(z.Watermarks))) != newest {
			t.Errorf("%s: watermarks %v, and the newest event is of %d", z.Topic, z.Watermarks, newest)
		}
	}
	want := []stage{
		{"visits", "customer", 20, 0}, {"chain-by-merchant", "merchant", 7, 0}, {"chain-by-customer", "customer", 20, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stages (-want +got)\n%s", diff)
	}
	lags, err := p.Lags(ctx)
	if err != nil || len(lags) != 3 || lags[1].Topic != "chain-by-merchant" {
		t.Errorf("lags %+v, %v", lags, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, z := range p.Stats().Stages {
		if z.Keys != 0 || len(z.Watermarks) != 0 {
			t.Errorf("%s has state in a process that runs no task of it: %+v", z.Topic, z)
		}
	}
}

func TestStatsMeasureTheLocalStore(t *testing.T) {
	vs := visits(400, 5)
	s := newSetup(t, chain)
	createVisits(t, s.b)
	publish(t, s.b, "visits", records(vs)...)
	spec, faults := pipeline.Load(chain, nil)
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	spec.State.Store, spec.State.Memory = "map", 4<<10
	plan, faults := pipeline.MakePlan(spec, pipeline.Files(s.open))
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	p, err := pipeline.New(plan, pipeline.Deps{Broker: s.b, OpenStore: openMap})
	if err != nil {
		t.Fatal(err)
	}
	p.Shrink(16, 4<<10)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, pipeline.RunOptions{}) }()
	for p.Stats().Predictions < 400 && ctx.Err() == nil {
		<-time.After(time.Millisecond)
	}
	// Of the 20 customers, whose windows come first, some do not fit.
	if z := p.Stats().Stages[0]; !z.Store || z.Keys+z.StoredKeys < 20 || z.StoredKeys == 0 {
		t.Errorf("%+v", z)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestStatsCountWhatLookUpsCameTo(t *testing.T) {
	s := newSetup(t, payments)
	s.send(payment(1, "ann", 1, 0, ""), payment(2, "ann", 1, time.Minute, ""), payment(3, "bob", 1, time.Hour, "")) // the second at a merchant that is not in the table
	st := s.mustRun()
	if len(st.Tables) != 1 {
		t.Fatalf("tables: %+v", st.Tables)
	}
	got := st.Tables[0]
	if got.Name != "merchants" || got.Found != 2 || got.Missing != 1 || got.Failed != 0 || got.Server != nil || got.Staleness.Count != 0 {
		t.Errorf("%+v", got)
	}
}

func TestInternalTopicsAreThoseOfPipelines(t *testing.T) {
	got := pipeline.InternalTopics([]string{
		"a", "a-dead-letters", "a-state", "a-by-terminal", "a-by-terminal-state", "a-results",
		"sales-by-region", "sales-state", "-dead-letters", "-state",
	})
	want := map[string]bool{"a-state": true, "a-by-terminal": true, "a-by-terminal-state": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
