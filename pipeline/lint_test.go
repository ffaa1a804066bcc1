package pipeline_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
	"github.com/freshet-io/freshet/pipeline"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in testdata")

func openONNX(path string) (inference.Driver, error) {
	m, err := onnx.Load(path, onnx.Options{})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// lint is what `freshet lint` does: read, then plan.
func lint(path string) []pipeline.Fault {
	spec, faults := pipeline.Load(path, nil)
	if len(faults) > 0 {
		return faults
	}
	plan, faults := pipeline.MakePlan(spec, pipeline.Files(openONNX))
	if plan != nil {
		if err := plan.Close(); err != nil {
			return append(faults, pipeline.Fault{Message: err.Error()})
		}
	}
	return faults
}

func TestLintReportsEachFaultWithItsPlaceAndRemedy(t *testing.T) {
	t.Chdir("testdata/lint")
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d faulty pipelines, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".yaml"), func(t *testing.T) {
			var got strings.Builder
			for _, f := range lint(file) {
				got.WriteString(f.Rule + " | " + f.String() + "\n")
				if f.Remedy == "" && !strings.Contains(f.Message, "expected") && !strings.Contains(f.Message, "must") {
					t.Errorf("no remedy and no expectation: %s", f)
				}
			}
			if (got.Len() == 0) != strings.HasPrefix(file, "good") {
				t.Errorf("reported:\n%s", got.String())
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got.String()); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}
