package model_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/model"
	"github.com/freshet-io/freshet/state/folder"
)

// TestARolloutRunsOverARegistryAndSurvivesARestart lets two processes, each with a
// registry of its own over one folder, try out a version that is good and then
// one that is not.
func TestARolloutRunsOverARegistryAndSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := t.TempDir()
		source := func() *model.Registry {
			f, err := folder.Open(root)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			})
			return registry(t, f)
		}
		admin := source()
		for _, v := range []string{"1", "2", "3"} {
			mustAdd(t, admin, submission(t, "random-forest", v))
		}
		mustPromote(t, admin, "1")
		launch := func(process string) (*model.Service, func()) {
			s, err := model.NewService(t.Context(), model.ServiceConfig{Name: "risk", Source: source(), Process: process,
				Policy: model.Policy{Steps: []float64{0.2, 0.5}, Hold: time.Minute, MinRows: 50},
				Open: func(_ context.Context, v *model.Version, dir string) (inference.Driver, error) {
					return openONNX(dir+"/"+v.File, v)
				}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.Run(ctx) }()
			return s, func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		}
		// feed reports frames of single rows until the rollout ends; every failing-th of the challenger fails.
		feed := func(process string, failing int) *model.State {
			s, stop := launch(process + "-a")
			other, stopOther := launch(process + "-b")
			defer stopOther()
			for tick := range 6000 {
				for _, s := range []*model.Service{s, other} {
					v := s.Acquire()
					for _, a := range []*model.Arm{v.Champion(), v.Challenger()} {
						if a == nil {
							continue
						}
						o := &model.Outcomes{Arm: a, Rows: 1, Scores: []float64{0.5}, Service: 0.001, Batch: 1}
						if a == v.Challenger() && failing > 0 && tick%failing == 0 {
							o.Scores, o.Failures[errkind.Permanent] = nil, 1
						}
						s.Report(o)
					}
					v.Release()
				}
				if tick == 700 { // one process is started anew
					stop()
					s, stop = launch(process + "-c")
				}
				time.Sleep(200 * time.Millisecond)
				if st, err := admin.State(t.Context(), "risk"); err != nil {
					t.Fatal(err)
				} else if !st.Rollout.Running() {
					break
				}
			}
			stop()
			st, err := admin.State(t.Context(), "risk")
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		begin := func(version string) {
			if _, err := model.BeginRollout(t.Context(), admin, "risk", model.Start{Version: version, Role: model.Canary, Now: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := model.BeginRollout(t.Context(), admin, "risk", model.Start{Version: "9", Role: model.Canary, Now: time.Now()}); !errkind.Is(err, errkind.NotFound) {
			t.Errorf("a rollout of no version: %v", err)
		}
		begin("2")
		st := feed("one", 0)
		if st.Champion != "2" || st.Rollout.Outcome != model.Promoted || len(st.Rollout.Past) != 3 {
			t.Errorf("champion %s, rollout %+v", st.Champion, st.Rollout)
		}
		t.Log(st.Why)
		m, err := model.Seen(t.Context(), admin, "risk", st)
		if err != nil {
			t.Fatal(err)
		}
		if m.Challenger.Rows == 0 || m.Decision == nil || m.Decision.Step != st.Rollout.Step {
			t.Errorf("evidence of the last step: %+v", m)
		}
		begin("3")
		st = feed("two", 10)
		if st.Champion != "2" || st.Rollout.Outcome != model.RolledBack {
			t.Errorf("champion %s, rollout %+v", st.Champion, st.Rollout)
		}
		t.Log(st.Why)
		log, err := admin.Log(t.Context(), "risk")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range log {
			t.Logf("%d champion %s: %s", s.Generation, s.Champion, s.Why)
		}
	})
}
