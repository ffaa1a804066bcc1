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

func TestLintShowsThePlan(t *testing.T) {
	out := must(t, "", "lint", "--plan", example)
	for _, word := range []string{"card-fraud", "transactions", "customer_id", "customer_tx_1d", "scored-transactions"} {
		if !strings.Contains(out, word) {
			t.Errorf("no %q in\n%s", word, out)
		}
	}
	if twice := must(t, "", "lint", "--plan", example, example); twice != out+"\n"+out {
		t.Errorf("two plans:\n%s", twice)
	}
	if o := exec(t, "", "lint", "--plan", "--output", "json", example); o.code != exitUsage || !strings.Contains(o.err, "--plan") {
		t.Errorf("%+v", o)
	}
}
