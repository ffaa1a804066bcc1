package pipeline_test

import (
	"path/filepath"
	"testing"

	"github.com/freshet-io/freshet/pipeline"
)

// FuzzParse holds that any file is read to its end, and that a spec without
// faults has what everything behind it relies on.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/lint/*.yaml", "testdata/load/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			f.Add(read(f, file))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, faults := pipeline.Parse("p.yaml", data, func(name string) (string, bool) { return name, len(name) < 3 })
		if len(faults) > 0 {
			for _, x := range faults {
				if x.Rule == "" || x.Message == "" || x.Line < 0 {
					t.Errorf("incomplete fault %+v", x)
				}
			}
			return
		}
		if spec.Name == "" || spec.Source.Topic == "" || spec.Source.Contract == "" || len(spec.Steps) == 0 {
			t.Fatalf("incomplete: %+v", spec)
		}
		for _, table := range spec.Tables {
			if places := table.File + table.Topic + table.URL; places == "" || table.Key == "" {
				t.Errorf("incomplete: %+v", table)
			}
		}
		for _, st := range spec.Steps {
			features, ok := st.(*pipeline.Features)
			if !ok {
				continue
			}
			for _, it := range features.Items {
				if w := it.Window; w != nil && w.Over <= 0 || it.Window == nil && it.Expr == nil && it.Lookup == nil {
					t.Errorf("incomplete: %+v", it)
				}
			}
		}
	})
}
