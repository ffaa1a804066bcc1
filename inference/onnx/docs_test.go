package onnx

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
)

var update = flag.Bool("update", false, "rewrite the list of operators in docs/models.md")

// TestOperatorListIsCurrent holds docs/models.md against the registry.
func TestOperatorListIsCurrent(t *testing.T) {
	const file = "../../docs/models.md"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "-update -->\n", "<!-- end of operators -->"
	head, rest, ok := strings.Cut(string(data), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no marks around the list of operators", file)
	}
	lists := map[string][]string{"ai.onnx.ml": {"ZipMap"}}
	for _, e := range ops.NewRegistry().All() {
		l := lists[e.Domain]
		if len(l) == 0 || l[len(l)-1] != e.Op {
			lists[e.Domain] = append(l, e.Op)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "ai.onnx.ml: %s.\n\nai.onnx: %s.\n\nNot supported of these operators:\n\n", strings.Join(lists["ai.onnx.ml"][1:], ", ")+", ZipMap", strings.Join(lists[""], ", "))
	for _, r := range restrictions {
		if r.differs {
			fmt.Fprintf(&b, "- float32 cast to string: %s\n", r.why)
		} else {
			fmt.Fprintf(&b, "- %s\n", r.why)
		}
	}
	want := head + begin + b.String() + end + tail
	for _, limit := range []string{fmt.Sprintf("ai.onnx %d to %d", ops.MinOpset, ops.MaxOpset), fmt.Sprintf("ai.onnx.ml 1 to %d", ops.MaxMLOpset)} {
		if !strings.Contains(want, limit) {
			t.Errorf("%s does not say %q", file, limit)
		}
	}
	if want == string(data) {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: run go test ./inference/onnx -run OperatorList -update", file)
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
