package pipeline_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/feature"
	"github.com/freshet-io/freshet/pipeline"
)

// TestSchemaFileIsUpToDate holds docs/pipeline.schema.json to the loader's own tables.
func TestSchemaFileIsUpToDate(t *testing.T) {
	path := filepath.Join("..", "docs", "pipeline.schema.json")
	if *update {
		if err := os.WriteFile(path, pipeline.Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(pipeline.Schema())); d != "" {
		t.Errorf("docs/pipeline.schema.json is old, run go test ./pipeline -update:\n%s", d)
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(pipeline.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("pipeline.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("pipeline.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchemaAcceptsEveryGoodPipeline(t *testing.T) {
	s := compileSchema(t)
	var files []string
	for _, pattern := range []string{"testdata/lint/good*.yaml", "testdata/load/*.yaml", "../examples/*/pipeline.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: no files (%v)", pattern, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		var v any
		if err := yaml.Unmarshal(read(t, file), &v); err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestSchemaRejectsFaultsOfStructure holds the schema against the faulty
// pipelines: what one key says by itself, it has to see as well.
func TestSchemaRejectsFaultsOfStructure(t *testing.T) {
	s := compileSchema(t)
	structural := []string{
		"choice", "duration", "empty", "feature-kind", "missing-key", "name", "range", "size", "table-kind", "two-aggregates", "two-joins",
		"two-places", "two-steps", "two-windows", "type", "unknown-key", "unknown-step", "unused-default", "window-setting", "window-shape", "memory-store",
	}
	// A schema compares no keys with each other, and knows no contract.
	beyond := []string{
		"lookup-default-unknown", "resample-limit-long", "resample-limit-short",
		"table-feast-time", "table-server-without-table", "table-server-without-view",
	}
	files, err := filepath.Glob("testdata/lint/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rejected := 0
	for _, file := range files {
		var v any
		if yaml.Unmarshal(read(t, file), &v) != nil {
			continue
		}
		faults := string(read(t, strings.TrimSuffix(file, ".yaml")+".txt"))
		rule, _, _ := strings.Cut(faults, " ")
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if err := s.Validate(v); err != nil {
			rejected++
			if faults == "" {
				t.Errorf("%s is good, and rejected: %v", file, err)
			}
		} else if slices.Contains(structural, rule) && !slices.Contains(beyond, name) {
			t.Errorf("%s is accepted, and has the fault %s", file, faults)
		}
	}
	if rejected < 60 {
		t.Errorf("%d faulty pipelines are rejected", rejected)
	}
}

func TestSchemaKnowsEveryAggregate(t *testing.T) {
	for _, name := range feature.Aggregates() {
		if !bytes.Contains(pipeline.Schema(), []byte(`"`+name+`": {`)) {
			t.Errorf("no key %q", name)
		}
		if _, faults := pipeline.Parse("p.yaml", []byte("steps: [{features: {f: {"+name+": x, over: 1h}}}]"), nil); slices.ContainsFunc(faults, func(f pipeline.Fault) bool { return f.Rule == "unknown-key" }) {
			t.Errorf("%v", faults)
		}
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
