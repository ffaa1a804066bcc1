package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLintPrintsTheSchemaOfPipelines(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("..", "..", "docs", "pipeline.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	if out := must(t, "", "lint", "--schema"); out != string(want) {
		t.Errorf("got %d bytes that differ from docs/pipeline.schema.json", len(out))
	}
	if o := exec(t, "", "lint", "--schema", "pipeline.yaml"); o.code != exitUsage || !strings.Contains(o.err, "pipeline.yaml") {
		t.Errorf("%+v", o)
	}
}
