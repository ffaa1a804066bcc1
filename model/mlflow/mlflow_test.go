package mlflow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
	"github.com/freshet-io/freshet/model"
	"github.com/freshet-io/freshet/model/mlflow"
	"github.com/freshet-io/freshet/test/servers"
)

func openONNX(path string, _ *model.Version) (inference.Driver, error) {
	return onnx.Load(path, onnx.Options{Instances: 1})
}

func open(t testing.TB, url, cache string) *mlflow.Source {
	t.Helper()
	s, err := mlflow.Open(t.Context(), url, mlflow.Options{Cache: cache, Open: openONNX, By: "tester"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
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

// post changes something in MLflow as its own tools do.
func post(t testing.TB, address, path string, body map[string]string) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post("http://"+address+"/api/2.0/mlflow/"+path, "application/json", strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, res.Status)
	}
}

func TestARealServerIsASource(t *testing.T) {
	server := servers.Run(t, "mlflow")
	url := "mlflow+http://" + server.Address
	t.Run("versions", func(t *testing.T) { versionsAreRead(t, url) })
	t.Run("stages", func(t *testing.T) { stagesAreKept(t, url, server.Address) })
	t.Run("writers", func(t *testing.T) { writersTakeTurns(t, url) })
	t.Run("evidence", func(t *testing.T) { evidenceIsKept(t, url) })
	t.Run("changed files", func(t *testing.T) { changedFilesAreCorrupt(t, url, server.Address) })
	t.Run("vanished", func(t *testing.T) {
		cache := t.TempDir()
		s := open(t, url, cache)
		v, err := s.Version(t.Context(), "fraud-risk", "1")
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Fetch(t.Context(), v); err != nil {
			t.Errorf("a cached version without its server: %v", err)
		}
		_, err = s.State(t.Context(), "fraud-risk")
		wantKind(t, err, errkind.Transient, server.Address)
		_, err = mlflow.Open(t.Context(), url, mlflow.Options{Cache: cache})
		wantKind(t, err, errkind.Transient)
	})
}

func versionsAreRead(t *testing.T, url string) {
	ctx := t.Context()
	s := open(t, url, t.TempDir())
	if names, err := s.Models(ctx); err != nil || !slices.Equal(names, []string{"fraud-risk", "plain"}) {
		t.Errorf("models %v, %v", names, err)
	}
	all, err := s.Versions(ctx, "fraud-risk")
	if err != nil || len(all) != 2 || all[1].Notes != "less regularised" || all[1].Digest != "" {
		t.Fatalf("versions %+v, %v", all, err)
	}
	if got := model.SignatureText(all[1].Inputs, nil); got != "amount float32, visits float32, risk float32 → " {
		t.Errorf("the signature in MLmodel is read as %s", got)
	}
	one, err := s.Version(ctx, "fraud-risk", "champion")
	if err != nil || one.Version != "1" {
		t.Fatalf("the champion is %+v, %v", one, err)
	}
	if got := model.SignatureText(one.Inputs, one.Outputs); got != "features float32[3] → label int64, probabilities float32[2]" {
		t.Errorf("the signature is %s", got)
	}
	two, err := s.Version(ctx, "fraud-risk", "latest")
	if err != nil {
		t.Fatal(err)
	}
	if len(two.Digest) != 64 || two.Size < 100 || two.Metrics["auc"] != 0.93 || two.Owner == "" || two.Golden == "" || !slices.Equal(two.FeatureNames, []string{"amount", "visits", "risk"}) {
		t.Errorf("version 2 is %+v", two)
	}
	dir, err := s.Fetch(ctx, two)
	if err != nil {
		t.Fatal(err)
	}
	d, err := openONNX(filepath.Join(dir, two.File), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Metadata().Digest != two.Digest {
		t.Errorf("the file has the digest %s, the version %s", d.Metadata().Digest, two.Digest)
	}
	_, err = s.Version(ctx, "plain", "1")
	wantKind(t, err, errkind.Unsupported, "python_function, sklearn", "mlflow.onnx.log_model")
	_, err = s.Version(ctx, "fraud-risk", "9")
	wantKind(t, err, errkind.NotFound, "fraud-risk")
	_, err = s.State(ctx, "nobody")
	wantKind(t, err, errkind.NotFound, "nobody")
	_, err = s.Versions(ctx, "nobody")
	wantKind(t, err, errkind.NotFound, "nobody")
}

func stagesAreKept(t *testing.T, url, address string) {
	ctx := t.Context()
	s, other := open(t, url, t.TempDir()), open(t, url, t.TempDir())
	st, err := s.State(ctx, "fraud-risk") // the alias is adopted
	if err != nil || st.Champion != "1" || st.Generation == 0 {
		t.Fatalf("state %+v, %v", st, err)
	}
	if _, err := model.PromoteVersion(ctx, s, "fraud-risk", "2", "better"); err != nil {
		t.Fatal(err)
	}
	st, err = other.State(ctx, "fraud-risk")
	if err != nil || st.Champion != "2" || !slices.Equal(st.Former, []string{"1"}) || st.Why != "promoted 2: better" {
		t.Errorf("state %+v, %v", st, err)
	}
	// Somebody moves the alias back in MLflow.
	post(t, address, "registered-models/alias", map[string]string{"name": "fraud-risk", "alias": "champion", "version": "1"})
	moved, err := other.State(ctx, "fraud-risk")
	if err != nil || moved.Champion != "1" || moved.Generation != st.Generation+1 || moved.Former[len(moved.Former)-1] != "2" {
		t.Errorf("after the alias was moved: %+v, %v", moved, err)
	}
	begun, err := model.BeginRollout(ctx, other, "fraud-risk", model.Start{Version: "2", Role: model.Canary, Share: 0.1})
	if err != nil || begun.Stage("2") != model.InRollout {
		t.Fatalf("begun %+v, %v", begun, err)
	}
	if st, err := s.State(ctx, "fraud-risk"); err != nil || st.Rollout == nil || st.Rollout.ID != begun.Rollout.ID || st.Rollout.Share != 0.1 {
		t.Errorf("the rollout is seen as %+v, %v", st, err)
	}
	if _, ended, err := model.RollBackModel(ctx, s, "fraud-risk", ""); err != nil || ended != "2" {
		t.Errorf("rollback ended %q, %v", ended, err)
	}
	log, err := other.Log(ctx, "fraud-risk")
	if err != nil {
		t.Fatal(err)
	}
	var why []string
	for _, l := range log {
		why = append(why, l.Why)
	}
	if got := strings.Join(why, "; "); !strings.HasSuffix(got, "promoted 2: better; the alias champion was set in MLflow; begin canary of 2; ended the rollout of 2") {
		t.Errorf("the log is %s", got)
	}
}

func writersTakeTurns(t *testing.T, url string) {
	before, err := open(t, url, t.TempDir()).State(t.Context(), "fraud-risk")
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 2, 2
	var all sync.WaitGroup
	for w := range writers {
		s := open(t, url+"?settle=1s", t.TempDir()) // a busy machine is slow
		all.Go(func() {
			for i := range each {
				_, err := s.Update(t.Context(), "fraud-risk", "count", func(st *model.State) error {
					st.Archived = append(st.Archived, fmt.Sprintf("w%d-%d", w, i))
					return nil
				})
				if err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	all.Wait()
	after, err := open(t, url, t.TempDir()).State(t.Context(), "fraud-risk")
	if err != nil || len(after.Archived) != writers*each || after.Generation != before.Generation+writers*each {
		t.Errorf("%d updates took generation %d to %+v, %v", writers*each, before.Generation, after, err)
	}
}

func evidenceIsKept(t *testing.T, url string) {
	s := open(t, url, t.TempDir())
	if all, err := s.Evidence(t.Context(), "fraud-risk", "r1"); err != nil || len(all) != 0 {
		t.Errorf("%d pieces of evidence of nothing, %v", len(all), err)
	}
	for range 2 {
		for _, process := range []string{"a", "host:1/odd name"} {
			if err := s.PutEvidence(t.Context(), "fraud-risk", "r1", process, &model.Evidence{Rollout: "r1", Process: process}); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := s.Evidence(t.Context(), "fraud-risk", "r1")
	if err != nil || len(all) != 2 || all[0].Rollout != "r1" {
		t.Errorf("%d pieces of evidence, %v", len(all), err)
	}
}

func changedFilesAreCorrupt(t *testing.T, url, address string) {
	post(t, address, "model-versions/set-tag", map[string]string{"name": "fraud-risk", "version": "2", "key": "freshet.sha256", "value": strings.Repeat("0", 64)})
	_, err := open(t, url, t.TempDir()).Version(t.Context(), "fraud-risk", "2")
	wantKind(t, err, errkind.Corrupt, "freshet.sha256")
}

func TestWrongURLsAndAnswersSayWhatIsWrong(t *testing.T) {
	answer := func(status int, text string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "Bearer open sesame" {
				status, text = http.StatusOK, "{}"
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		}))
		t.Cleanup(s.Close)
		return "mlflow+" + s.URL
	}
	env := func(name string) (string, bool) { return "open sesame", name == "TOKEN" }
	for _, tc := range []struct {
		url   string
		kind  errkind.Kind
		words string
	}{
		{"mlflow://host", errkind.Config, "expected mlflow+http://HOST:PORT"},
		{"mlflow+http://a,b", errkind.Config, "expected mlflow+http://HOST:PORT"},
		{"mlflow+http://127.0.0.1:1/?tokn_env=X", errkind.Config, `did you mean "token_env"`},
		{"mlflow+http://127.0.0.1:1/?settle=soon", errkind.Config, "settle=soon"},
		{answer(401, "who are you"), errkind.Config, "401"},
		{answer(200, "<html>"), errkind.Permanent, "is it an MLflow server?"},
		{answer(503, "busy"), errkind.Transient, "503"},
		{answer(404, "nothing here"), errkind.NotFound, "404"},
	} {
		_, err := mlflow.Open(context.Background(), tc.url, mlflow.Options{Env: env})
		wantKind(t, err, tc.kind, tc.words)
	}
	s, err := mlflow.Open(t.Context(), answer(401, "")+"?token_env=TOKEN", mlflow.Options{Env: env})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}
