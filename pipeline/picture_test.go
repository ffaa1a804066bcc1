package pipeline_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/pipeline"
)

func TestPlansAreDrawn(t *testing.T) {
	for name, file := range map[string]string{
		"labels-by-event": "testdata/lint/good-labels-by-event.yaml",
		"resample":        "testdata/lint/good-resample.yaml",
		"tables":          "testdata/lint/good-tables.yaml",
		"windows":         "testdata/lint/good-windows.yaml",
		"chain":           "testdata/picture/chain.yaml",
		"card-fraud":      "../examples/card-fraud/pipeline.yaml",
	} {
		t.Run(name, func(t *testing.T) {
			spec, faults := pipeline.Load(file, nil)
			if len(faults) > 0 {
				t.Fatal(pipeline.Error(faults))
			}
			plan, faults := pipeline.MakePlan(spec, pipeline.Files(openONNX))
			if len(faults) > 0 {
				t.Fatal(pipeline.Error(faults))
			}
			got := plan.Picture()
			if err := plan.Close(); err != nil {
				t.Fatal(err)
			}
			for _, line := range strings.Split(got, "\n") {
				if len(line) > 100 {
					t.Errorf("%d columns: %s", len(line), line)
				}
			}
			golden := filepath.Join("testdata/picture", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(read(t, golden)), got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}
