package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/model"
	"github.com/freshet-io/freshet/state/folder"
	"github.com/freshet-io/freshet/test/servers"
)

const modelFiles = "../../inference/onnx/testdata/models/"

// goldenOf makes golden rows of a test model: those of the
// cases beside it.
func goldenOf(t *testing.T, name string) string {
	t.Helper()
	type tensor struct {
		Shape []int `json:"shape"`
		Data  []any `json:"data"`
	}
	var cases struct {
		Inputs  map[string]tensor `json:"inputs"`
		Outputs map[string]tensor `json:"outputs"`
	}
	b, err := os.ReadFile(modelFiles + name + ".json")
	if err == nil {
		err = json.Unmarshal(b, &cases)
	}
	if err != nil {
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
	b, err = json.Marshal(map[string]any{"inputs": columns(cases.Inputs), "outputs": columns(cases.Outputs), "tolerance": 2e-5})
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "golden.json", string(b))
}

// unclocked replaces what differs from run to run.
func unclocked(text string) string {
	for _, r := range [][2]string{
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(  \S+:\d+ +)?`, "2026-01-02 03:04:05  "},
		{`TIME +BY +`, "TIME  BY  "}, // as wide as a process's name
		{`rollout \d+-\d+-\w+`, "rollout 2-2-x"},
		{` +\n`, "\n"},
	} {
		text = regexp.MustCompile(r[0]).ReplaceAllString(text, r[1])
	}
	return text
}

func TestModelsAreAddedPromotedAndRolledBack(t *testing.T) {
	data := t.TempDir()
	sample := write(t, "sample.csv", "a,b,c,d,e,f,g,h\n1,2,3,4,5,6,7,8\n8,7,6,5,4,3,2,1\n")
	var script strings.Builder
	run := func(want int, args ...string) {
		t.Helper()
		o := exec(t, "", append([]string{"--data", data}, args...)...)
		shownArgs := make([]string, len(args))
		for i, a := range args {
			shownArgs[i] = a
			if strings.Contains(a, "/") {
				shownArgs[i] = filepath.Base(a)
			}
		}
		script.WriteString("$ freshet " + strings.Join(shownArgs, " ") + "\n" + strings.ReplaceAll(o.out+o.err, data, "DATA"))
		if o.code != want {
			t.Errorf("freshet %s: exit code %d, want %d\n%s", strings.Join(args, " "), o.code, want, o.err)
		}
	}
	run(0, "models")
	run(0, "models", "add", "risk", modelFiles+"xgboost-binary.onnx", "--golden", goldenOf(t, "xgboost-binary"), "--background", sample,
		"--metric", "auc=0.93", "--owner", "fraud-team", "--features", "a,b,c,d,e,f,g:int64,h", "--trained-on", "s3://lake/2026-10")
	run(0, "models", "promote", "risk", "1")
	run(0, "models", "add", "risk", modelFiles+"random-forest.onnx", "--golden", goldenOf(t, "random-forest"))
	run(0, "models", "list")
	run(0, "models", "diff", "risk")
	run(0, "models", "promote", "risk", "2", "--canary", "10%", "--why", "better at night")
	run(0, "models", "show", "risk", "2")
	run(0, "models", "list", "risk")
	run(1, "models", "delete", "risk", "2")
	run(0, "models", "rollback", "risk", "--why", "too many alerts")
	run(0, "models", "promote", "risk", "latest")
	run(0, "models", "rollback", "risk")
	run(1, "models", "rollback", "risk")
	run(0, "models", "archive", "risk", "2")
	run(0, "models", "log", "risk")
	run(0, "models", "delete", "risk", "2")
	run(1, "models", "show", "risk", "2")
	run(1, "models", "add", "risk", modelFiles+"xgboost-binary.onnx", "--golden", goldenOf(t, "random-forest"))
	run(1, "models", "add", "risk", modelFiles+"mlp-regressor.onnx", "--no-golden", "--nan-outputs")
	run(2, "models", "add", "risk", modelFiles+"xgboost-binary.onnx")
	run(2, "models", "add", "risk", "--no-golden")
	run(2, "models", "add", "risk", "x.onnx", "--no-golden", "--features", "a:float16")
	run(2, "models", "add", "risk", "x.onnx", "--no-golden", "--metric", "auc")
	run(2, "models", "promote", "risk", "1", "--canary", "10%", "--ab", "0.5")
	run(2, "models", "promote", "risk", "1", "--shadow", "110%")
	run(2, "models", "list", "--output", "yaml")
	golden(t, "models", unclocked(script.String()))
}

func TestModelsInJSONAreComplete(t *testing.T) {
	data := t.TempDir()
	must(t, "", "--data", data, "models", "add", "risk", modelFiles+"xgboost-binary.onnx", "--golden", goldenOf(t, "xgboost-binary"), "-o", "json")
	must(t, "", "--data", data, "models", "promote", "risk", "1", "-o", "json")
	var list []map[string]any
	if err := json.Unmarshal([]byte(must(t, "", "--data", data, "models", "list", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0]["stage"] != "champion" || list[0]["version"] != "1" || list[0]["inputs"] == nil || list[0]["digest"] == "" {
		t.Errorf("the list is %v", list)
	}
	var one map[string]any
	if err := json.Unmarshal([]byte(must(t, "", "--data", data, "models", "show", "risk", "-o", "json")), &one); err != nil || one["stage"] != "champion" {
		t.Errorf("%v, %v", one, err)
	}
	for _, c := range [][]string{{"diff", "risk"}, {"log", "risk"}} {
		if out := must(t, "", append([]string{"--data", data, "models", "-o", "json"}, c...)...); !json.Valid([]byte(out)) {
			t.Errorf("%v: %s", c, out)
		}
	}
}

func TestMLflowsModelsArePromotedAndNotAdded(t *testing.T) {
	url := "mlflow+http://" + servers.Start(t, "mlflow")
	data := t.TempDir()
	args := func(rest ...string) []string {
		return append([]string{"--data", data, "--models", url, "models"}, rest...)
	}
	if out := must(t, "", args("list", "fraud-risk")...); !strings.Contains(out, "champion") || !strings.Contains(out, "amount float32") {
		t.Errorf("the list is\n%s", out)
	}
	if out := must(t, "", args("promote", "fraud-risk", "2")...); !strings.Contains(out, "champion 2, before it 1") {
		t.Errorf("promoted: %s", out)
	}
	if o := exec(t, "", args("add", "fraud-risk", "x.onnx", "--no-golden")...); o.code != exitUsage || !strings.Contains(o.err, "MLflow") {
		t.Errorf("adding to MLflow: %d, %s", o.code, o.err)
	}
}

func TestTheLogShowsTheEvidenceOfDecisions(t *testing.T) {
	data := t.TempDir()
	for range 2 {
		must(t, "", "--data", data, "models", "add", "risk", modelFiles+"xgboost-binary.onnx", "--golden", goldenOf(t, "xgboost-binary"))
	}
	must(t, "", "--data", data, "models", "promote", "risk", "1")
	must(t, "", "--data", data, "models", "promote", "risk", "2", "--canary", "10%")
	f, err := folder.Open(filepath.Join(data, "models"))
	if err != nil {
		t.Fatal(err)
	}
	r := model.NewRegistry(f, model.RegistryOptions{})
	if _, err := r.Update(t.Context(), "risk", "rolled back 2: too many failures", func(s *model.State) error {
		return model.Apply(s, s.Rollout.ID, s.Rollout.Step, model.Decision{
			Action: model.RollBack, Reason: "too many failures", Rows: 1200, Seconds: 90, Time: s.Time,
			Findings: []model.Finding{{Gate: "errors", Verdict: model.Failed, Challenger: 0.2, Champion: 0.001, Bound: 0.011, N: 1200, ChampionN: 10800}},
		})
	}); err != nil {
		t.Fatal(err)
	}
	out := must(t, "", "--data", data, "models", "log", "risk", "--evidence")
	for _, want := range []string{
		"state 3: canary of version 2, step 0, 1,200 rows in 90 s: roll back: too many failures",
		"errors  failed   0.2         0.001     0.011  1,200  10,800",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the log does not say %q:\n%s", want, out)
		}
	}
}
