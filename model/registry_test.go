package model_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
	"github.com/freshet-io/freshet/model"
	"github.com/freshet-io/freshet/state"
	"github.com/freshet-io/freshet/state/folder"
	"github.com/freshet-io/freshet/state/s3"
	"github.com/freshet-io/freshet/state/statetest"
	"github.com/freshet-io/freshet/test/servers"
)

const testModels = "../inference/onnx/testdata/models/"

func openONNX(path string, _ *model.Version) (inference.Driver, error) {
	return onnx.Load(path, onnx.Options{Instances: 1})
}

// registry opens one over objects, with a cache of its own.
func registry(t testing.TB, objects state.Objects) *model.Registry {
	t.Helper()
	return model.NewRegistry(state.WithRetry(objects, state.Retry{Attempts: 3, Min: time.Microsecond, Max: time.Microsecond}),
		model.RegistryOptions{Cache: t.TempDir(), Open: openONNX, By: "tester"})
}

// goldenRows makes golden.json of the cases beside a test model.
func goldenRows(t testing.TB, name string) string {
	t.Helper()
	type tensor struct {
		Shape []int `json:"shape"`
		Data  []any `json:"data"`
	}
	var c struct {
		Inputs  map[string]tensor `json:"inputs"`
		Outputs map[string]tensor `json:"outputs"`
	}
	b, err := os.ReadFile(testModels + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	columns := func(all map[string]tensor) map[string]any {
		out := map[string]any{}
		for name, x := range all {
			rows := make([][]any, x.Shape[0])
			for i := range rows {
				width := len(x.Data) / len(rows)
				rows[i] = x.Data[i*width : (i+1)*width]
			}
			out[name] = rows
		}
		return out
	}
	return writeJSON(t, map[string]any{"inputs": columns(c.Inputs), "outputs": columns(c.Outputs), "tolerance": 2e-5})
}

func writeJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "golden.json", b)
}

func write(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// submission is one of a test model that is let in.
func submission(t testing.TB, name, version string) model.Submission {
	t.Helper()
	return model.Submission{Name: "risk", Version: version, Path: testModels + name + ".onnx", Golden: goldenRows(t, name), NewSignature: true}
}

func mustAdd(t testing.TB, r *model.Registry, s model.Submission) *model.Admitted {
	t.Helper()
	a, err := r.Add(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mustPromote(t testing.TB, r *model.Registry, version string) {
	t.Helper()
	if _, err := r.Promote(t.Context(), "risk", version, ""); err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, k errkind.Kind, words ...string) {
	t.Helper()
	if !errkind.Is(err, k) {
		t.Fatalf("error %v of kind %v, want %v", err, errkind.Of(err), k)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

// stores are what a registry is tested on.
func stores(t *testing.T, run func(t *testing.T, objects state.Objects, again func() state.Objects)) {
	t.Run("folder", func(t *testing.T) {
		dir := t.TempDir()
		open := func() state.Objects {
			f, err := folder.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		run(t, open(), open)
	})
	t.Run("s3", func(t *testing.T) {
		address := servers.Start(t, "s3")
		vars := map[string]string{"AWS_ACCESS_KEY_ID": "freshet", "AWS_SECRET_ACCESS_KEY": servers.Password}
		open := func() state.Objects {
			b, err := s3.Open(t.Context(), fmt.Sprintf("s3://freshet/models?endpoint=http://%s", address), s3.Options{Getenv: func(name string) string { return vars[name] }})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		run(t, open(), open)
	})
}

func TestARegistryKeepsVersionsAndStates(t *testing.T) {
	stores(t, func(t *testing.T, objects state.Objects, again func() state.Objects) {
		ctx := t.Context()
		r := registry(t, objects)
		if _, err := r.State(ctx, "risk"); !errkind.Is(err, errkind.NotFound) {
			t.Fatalf("an unknown model's state: %v", err)
		}
		s := submission(t, "xgboost-binary", "")
		s.Owner, s.Metrics = "fraud team", map[string]float64{"auc": 0.93}
		one := mustAdd(t, r, s)
		if one.Version.Version != "1" || one.GoldenRows != 104 || one.Format != "onnx" || one.Size != 14634 || one.File != "risk.onnx" {
			t.Errorf("the first version is %+v", one)
		}
		two := mustAdd(t, r, submission(t, "random-forest", ""))
		if two.Version.Version != "2" {
			t.Errorf("the second version is %s", two.Version.Version)
		}
		_, err := r.Version(ctx, "risk", "champion")
		wantKind(t, err, errkind.NotFound, "has no champion")
		_, err = r.Version(ctx, "risk", "7")
		wantKind(t, err, errkind.NotFound, "no version 7", "1, 2")
		_, err = r.Version(ctx, "rsik", "7")
		wantKind(t, err, errkind.NotFound, "no model rsik", "risk")

		mustPromote(t, r, "1")
		mustPromote(t, r, "latest")
		other := registry(t, again()) // another process
		for alias, want := range map[string]string{"champion": "2", "latest": "2", "previous": "1", "1": "1"} {
			if v, err := other.Version(ctx, "risk", alias); err != nil || v.Version != want {
				t.Errorf("%s is %v, %v, want %s", alias, v, err, want)
			}
		}
		got, err := other.Version(ctx, "risk", "1")
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(one.Version, got); d != "" {
			t.Errorf("a version comes back changed: %s", d)
		}
		if _, err := other.Rollback(ctx, "risk", "too many alerts"); err != nil {
			t.Fatal(err)
		}
		_, err = other.Rollback(ctx, "risk", "")
		wantKind(t, err, errkind.NotFound, "no champion before")
		if _, err := r.Archive(ctx, "risk", "2", ""); err != nil {
			t.Fatal(err)
		}
		_, err = r.Archive(ctx, "risk", "1", "")
		wantKind(t, err, errkind.Conflict, "it is the champion")
		wantKind(t, r.Delete(ctx, "risk", "1"), errkind.Conflict, "it is the champion")
		if err := r.Delete(ctx, "risk", "2"); err != nil {
			t.Fatal(err)
		}
		_, err = r.Promote(ctx, "risk", "2", "")
		wantKind(t, err, errkind.NotFound)
		_, err = r.Add(ctx, submission(t, "random-forest", "2"))
		wantKind(t, err, errkind.Conflict, "deleted")
		if a := mustAdd(t, r, submission(t, "random-forest", "")); a.Version.Version != "3" {
			t.Errorf("the version after a deleted one is %s", a.Version.Version)
		}

		log, err := other.Log(ctx, "risk")
		if err != nil {
			t.Fatal(err)
		}
		var why []string
		for i, s := range log {
			if s.Generation != uint64(i+1) || s.By != "tester" || s.Time.IsZero() {
				t.Errorf("state %d: %+v", i, s)
			}
			why = append(why, s.Champion+" "+s.Why)
		}
		if d := cmp.Diff([]string{"1 promoted 1", "2 promoted 2", "1 rolled back to 1: too many alerts", "1 archived 2", "1 deleted 2"}, why); d != "" {
			t.Error(d)
		}
		if names, err := other.Models(ctx); err != nil || !slices.Equal(names, []string{"risk"}) {
			t.Errorf("models %v, %v", names, err)
		}
		if all, err := other.Versions(ctx, "risk"); err != nil || len(all) != 2 || all[1].Version != "3" {
			t.Errorf("versions %v, %v", all, err)
		}
	})
}

func TestManyWritersLoseNoState(t *testing.T) {
	stores(t, func(t *testing.T, objects state.Objects, again func() state.Objects) {
		mustAdd(t, registry(t, objects), submission(t, "logistic-scaled", "1"))
		var all sync.WaitGroup
		for w := range 4 {
			r := registry(t, again())
			all.Go(func() {
				for i := range 5 {
					_, err := r.Update(t.Context(), "risk", "count", func(s *model.State) error {
						s.Archived = append(s.Archived, fmt.Sprintf("w%d-%d", w, i))
						return nil
					})
					if err != nil {
						t.Errorf("Update: %v", err)
					}
				}
			})
		}
		all.Wait()
		s, err := registry(t, objects).State(t.Context(), "risk")
		if err != nil || len(s.Archived) != 20 || s.Generation != 20 {
			t.Errorf("20 updates made generation %d with %d entries, %v", s.Generation, len(s.Archived), err)
		}
	})
}

func TestTwoThatAddAtOnceGetTwoVersions(t *testing.T) {
	stores(t, func(t *testing.T, objects state.Objects, again func() state.Objects) {
		models := []string{"xgboost-binary", "random-forest", "logistic-scaled", "decision-tree-deep"}
		var all sync.WaitGroup
		for _, m := range models {
			r, s := registry(t, again()), submission(t, m, "")
			all.Go(func() {
				if _, err := r.Add(t.Context(), s); err != nil {
					t.Errorf("Add: %v", err)
				}
			})
		}
		all.Wait()
		r := registry(t, objects)
		versions, err := r.Versions(t.Context(), "risk")
		if err != nil || len(versions) != len(models) {
			t.Fatalf("%d versions, %v", len(versions), err)
		}
		for _, v := range versions {
			if _, err := r.Fetch(t.Context(), v); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestOneOfTwoGetsANameThatBothWant(t *testing.T) {
	objects := statetest.NewObjects()
	var all sync.WaitGroup
	errs := make([]error, 4)
	for i, m := range []string{"xgboost-binary", "random-forest", "logistic-scaled", "decision-tree-deep"} {
		r, s := registry(t, objects), submission(t, m, "best")
		all.Go(func() { _, errs[i] = r.Add(t.Context(), s) })
	}
	all.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			wantKind(t, err, errkind.Conflict)
		}
	}
	r := registry(t, objects)
	v, err := r.Version(t.Context(), "risk", "best")
	if won != 1 || err != nil {
		t.Fatalf("%d won, %v", won, err)
	}
	if _, err := r.Fetch(t.Context(), v); err != nil {
		t.Errorf("the winner's file: %v", err)
	}
}

func TestFetchedFilesServeWithoutTheRegistry(t *testing.T) {
	stores(t, func(t *testing.T, objects state.Objects, _ func() state.Objects) {
		ctx := t.Context()
		cache := t.TempDir()
		open := func(o state.Objects) *model.Registry {
			return model.NewRegistry(state.WithRetry(o, state.Retry{Attempts: 2, Min: time.Microsecond, Max: time.Microsecond}), model.RegistryOptions{Cache: cache, Open: openONNX})
		}
		r := open(objects)
		s := submission(t, "xgboost-binary", "1")
		s.Background = write(t, "sample.csv", []byte("a,b,c,d,e,f,g,h\n1,2,3,4,5,6,7,8\n1,,3,NaN,5,6,7,8.5\n"))
		v := mustAdd(t, r, s).Version
		dir, err := r.Fetch(ctx, v)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := r.Fetch(ctx, v); err != nil || again != dir {
			t.Errorf("a second Fetch: %s, %v", again, err)
		}
		if _, err := onnx.Load(filepath.Join(dir, v.File), onnx.Options{}); err != nil {
			t.Error(err)
		}
		in, err := model.LoadBackground(dir)
		if err != nil || len(in) != 1 || !slices.Equal(in[0].Shape, []int{2, 8}) || in[0].F32[15] != 8.5 {
			t.Errorf("background %v, %v", in, err)
		}

		vanished := open(statetest.NewObjects())
		if again, err := vanished.Fetch(ctx, v); err != nil || again != dir {
			t.Errorf("without the registry: %s, %v", again, err)
		}
		_, err = vanished.State(ctx, "risk")
		wantKind(t, err, errkind.NotFound, "the registry is empty")

		// A cache that has rotted is filled again.
		if err := os.WriteFile(filepath.Join(dir, v.File), []byte("rot"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = open(statetest.NewObjects()).Fetch(ctx, v)
		wantKind(t, err, errkind.NotFound, "gone from the registry")
		if again, err := open(objects).Fetch(ctx, v); err != nil || again != dir {
			t.Errorf("after rot: %s, %v", again, err)
		}
		if _, err := onnx.Load(filepath.Join(dir, v.File), onnx.Options{}); err != nil {
			t.Error(err)
		}
	})
}

func TestAFileThatIsNotWhatWasAddedIsCorrupt(t *testing.T) {
	objects := statetest.NewObjects()
	s := submission(t, "xgboost-binary", "1")
	s.Background = write(t, "sample.csv", []byte("a,b,c,d,e,f,g,h\n1,2,3,4,5,6,7,8\n"))
	v := mustAdd(t, registry(t, objects), s).Version
	for _, name := range objects.Names() {
		damaged := objects.Clone()
		damaged.Change(name, func(b []byte) []byte {
			b = bytes.Clone(b)
			b[len(b)/2] ^= 4
			return b
		})
		r := registry(t, damaged)
		got, err := r.Version(t.Context(), "risk", "1")
		if err == nil {
			_, err = r.Fetch(t.Context(), v)
			if strings.HasSuffix(name, "version.json") && cmp.Equal(got, v) {
				t.Errorf("%s: a damaged description is read as it was", name)
				continue
			}
		}
		if !strings.HasSuffix(name, "version.json") || err != nil {
			wantKind(t, err, errkind.Corrupt)
		}
		if strings.HasSuffix(name, ".onnx") {
			wantKind(t, err, errkind.Corrupt, "SHA-256", v.Digest)
		}
	}
}

func TestAVersionDeletedWhileInUseIsMissedByName(t *testing.T) {
	dir := t.TempDir()
	f, err := folder.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := registry(t, f)
	mustAdd(t, r, submission(t, "xgboost-binary", "1"))
	v := mustAdd(t, r, submission(t, "random-forest", "2")).Version
	mustPromote(t, r, "2")
	if err := os.RemoveAll(filepath.Join(dir, "risk", "versions", "2")); err != nil {
		t.Fatal(err)
	}
	_, err = r.Version(t.Context(), "risk", "champion")
	wantKind(t, err, errkind.NotFound, "its champion, version 2, is gone")
	_, err = r.Fetch(t.Context(), v)
	wantKind(t, err, errkind.NotFound, "gone from the registry")
	mustPromote(t, r, "1") // which mends it
}

func TestWhateverStopsAWriteLeavesTheWholeOrNothing(t *testing.T) {
	for _, out := range []statetest.Outcome{statetest.Undone, statetest.Done} {
		for at := 1; ; at++ {
			objects := statetest.NewObjects()
			r := registry(t, objects)
			objects.StopAt(at, out)
			_, err := r.Add(t.Context(), submission(t, "logistic-scaled", "1"))
			if err == nil {
				_, err = r.Promote(t.Context(), "risk", "1", "")
			}
			died := objects.Dead()
			if died == (err == nil) {
				t.Fatalf("died at %d: %v, and the error is %v", at, died, err)
			}
			objects.Revive()
			if v, err := r.Version(t.Context(), "risk", "1"); err == nil {
				if _, err := r.Fetch(t.Context(), v); err != nil {
					t.Errorf("died at %d: a version without its files: %v", at, err)
				}
			} else {
				wantKind(t, err, errkind.NotFound)
				mustAdd(t, r, submission(t, "logistic-scaled", "1")) // the same again
			}
			if s, err := r.State(t.Context(), "risk"); err != nil || s.Champion == "" {
				mustPromote(t, r, "1")
			}
			if s, err := r.State(t.Context(), "risk"); err != nil || s.Champion != "1" || s.Generation != 1 {
				t.Errorf("died at %d: the state is %+v, %v", at, s, err)
			}
			if !died {
				break
			}
		}
	}
}

func TestAWriteWhoseAnswerWasLostIsNotDoneTwice(t *testing.T) {
	for at := 1; at <= 4; at++ {
		objects := statetest.NewObjects()
		r := registry(t, objects)
		objects.FailAt(at, errkind.Transient, statetest.Done)
		mustAdd(t, r, submission(t, "logistic-scaled", ""))
		mustPromote(t, r, "1")
		all, err := r.Versions(t.Context(), "risk")
		if err != nil || len(all) != 1 {
			t.Errorf("failed at %d: versions %v, %v", at, all, err)
		}
		if s, err := r.State(t.Context(), "risk"); err != nil || s.Generation != 1 {
			t.Errorf("failed at %d: state %+v, %v", at, s, err)
		}
	}
}

func TestADamagedStateIsCorruptAndTheOthersStay(t *testing.T) {
	objects := statetest.NewObjects()
	r := registry(t, objects)
	mustAdd(t, r, submission(t, "logistic-scaled", "1"))
	mustAdd(t, r, submission(t, "xgboost-binary", "2"))
	mustPromote(t, r, "1")
	mustPromote(t, r, "2")
	objects.Change("risk/states/000000000002.json", func(b []byte) []byte { return b[:len(b)/2] })
	_, err := r.State(t.Context(), "risk")
	wantKind(t, err, errkind.Corrupt, "risk/states/000000000002.json")
	log, err := r.Log(t.Context(), "risk")
	if err != nil || len(log) != 2 || log[0].Champion != "1" || !strings.Contains(log[1].Why, "damaged") {
		t.Errorf("log %+v, %v", log, err)
	}
}

func TestEvidenceOfEveryProcessIsKept(t *testing.T) {
	r := registry(t, statetest.NewObjects())
	for range 2 { // a second write takes the place of the first
		for _, process := range []string{"a", "b", "host:1/odd name"} {
			if err := r.PutEvidence(t.Context(), "risk", "r1", process, &model.Evidence{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := r.Evidence(t.Context(), "risk", "r1")
	if err != nil || len(all) != 3 {
		t.Errorf("%d pieces of evidence, %v", len(all), err)
	}
	if all, err := r.Evidence(t.Context(), "risk", "r"); err != nil || len(all) != 0 {
		t.Errorf("another rollout has %d, %v", len(all), err)
	}
}

func TestNamesThatLeaveTheRegistryAreRefused(t *testing.T) {
	objects := statetest.NewObjects()
	r := registry(t, objects)
	for _, name := range []string{"", "..", "a/b", "a..b", "/etc", strings.Repeat("x", 101), "-x", "ä"} {
		s := submission(t, "logistic-scaled", "1")
		s.Name = name
		_, err := r.Add(t.Context(), s)
		wantKind(t, err, errkind.Config)
		_, err = r.State(t.Context(), name)
		wantKind(t, err, errkind.Config)
		s.Name, s.Version = "risk", name
		if name != "" {
			_, err = r.Add(t.Context(), s)
			wantKind(t, err, errkind.Config)
		}
	}
	for _, alias := range []string{"champion", "latest", "previous"} {
		_, err := r.Add(t.Context(), submission(t, "logistic-scaled", alias))
		wantKind(t, err, errkind.Config, alias)
	}
	// A description that names a file elsewhere is never followed.
	mustAdd(t, r, submission(t, "logistic-scaled", "1"))
	objects.Change("risk/versions/1/version.json", func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte(`"golden.json"`), []byte(`"../../../freshet-elsewhere"`))
	})
	_, err := r.Version(t.Context(), "risk", "1")
	wantKind(t, err, errkind.Corrupt, "../../../freshet-elsewhere")
	if _, err := os.Stat("../../../freshet-elsewhere"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file elsewhere was written")
	}
}
