package onnx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
	"github.com/freshet-io/freshet/inference/onnx/internal/wire"
)

// restrictions are the official tests of claimed operators that do not pass, and why. A test that
// matches must be refused with kind Unsupported or, where differs is set, give another result; one
// that does not match must pass.
var restrictions = []struct {
	name    *regexp.Regexp
	why     string
	differs bool
}{
	{regexp.MustCompile(`(?i)_(u?int(2|4|8|16)|uint32|uint64|float(16|4e2m1|8e\w+)|bfloat16|e8m0)`),
		"element types other than float32, float64, int64, int32, bool and string", false},
	{regexp.MustCompile(`label_encoder_tensor_(mapping|value_only)`), "values of int16", false},
	{regexp.MustCompile(`reduce_(max|min)_bool`), "ReduceMax and ReduceMin of bool", false},
	{regexp.MustCompile(`identity_(opt|sequence)`), "sequences and optional values", false},
	{regexp.MustCompile(`training_(mode|dropout)|test_training|dropout_default_mask`), "training mode and Dropout's mask", false},
	{regexp.MustCompile(`cast(like)?_FLOAT_to_STRING`), "eight digits, as ONNX Runtime writes them", true},
}

// nodeTestDir finds ONNX's node tests: in FRESHET_ONNX_TESTDATA, a folder that holds them or
// node/ or data/node/, or where Debian's libonnx-testdata puts them. It is empty where there are none.
func nodeTestDir() string {
	for _, root := range []string{os.Getenv("FRESHET_ONNX_TESTDATA"), "/usr/share/libonnx-testdata/data"} {
		if root == "" {
			continue
		}
		for _, sub := range []string{"", "node", "data/node"} {
			dir := filepath.Join(root, sub)
			if _, err := os.Stat(filepath.Join(dir, "test_abs", "model.onnx")); err == nil {
				return dir
			}
		}
	}
	return ""
}

// nodeTests is nodeTestDir, or a loud skip.
func nodeTests(t *testing.T) string {
	t.Helper()
	dir := nodeTestDir()
	if dir == "" {
		const msg = "ONNX's node tests are not here: install Debian's libonnx-testdata, or set FRESHET_ONNX_TESTDATA to onnx/backend/test/data of the PyPI package onnx 1.20.1"
		if strings.Contains(os.Getenv("FRESHET_REQUIRE"), "onnx") {
			t.Fatal(msg)
		}
		t.Skip("SKIPPED: " + msg)
	}
	return dir
}

// TestOfficialNodeTests runs ONNX's own tests of every operator offered here.
func TestOfficialNodeTests(t *testing.T) {
	dir := nodeTests(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	reg := ops.NewRegistry()
	passed, claimed, refused, unclaimed := 0, 0, 0, 0
	covered := map[string]bool{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name(), "model.onnx"))
		if err != nil {
			continue
		}
		w, err := wire.Decode(data, wire.Limits{MaxNodes: 100_000})
		if err != nil {
			t.Errorf("%s: %v", e.Name(), err)
			continue
		}
		if !claims(reg, w) {
			unclaimed++
			continue
		}
		why, differs := "", false
		for _, r := range restrictions {
			if r.name.MatchString(e.Name()) {
				why, differs = r.why, r.differs
				break
			}
		}
		if why == "" {
			claimed++
		}
		switch err := runNodeTest(filepath.Join(dir, e.Name()), w); {
		case why != "" && err == nil:
			t.Errorf("%s passes, though listed as refused: %s", e.Name(), why)
		case why != "" && differs == errkind.Is(err, errkind.Unsupported) && !ops.Unsupported(err):
			t.Errorf("%s: listed (%s), but: %v", e.Name(), why, err)
		case why != "":
			refused++
		case err != nil:
			t.Errorf("%s: %v", e.Name(), err)
		default:
			passed++
			for _, n := range w.Graph.Nodes {
				covered[n.Domain+"/"+n.Op] = true
			}
		}
	}
	t.Logf("ONNX node tests: %d passed of %d claimed, %d refused by the table of restrictions, %d of unclaimed operators", passed, claimed, refused, unclaimed)
	var bare []string
	for _, e := range reg.All() {
		if k := e.Domain + "/" + e.Op; !covered[k] {
			covered[k] = true
			bare = append(bare, k)
		}
	}
	sort.Strings(bare)
	t.Logf("operators without a node test here: %s", strings.Join(bare, " "))
}

func claims(reg *ops.Registry, w *wire.Model) bool {
	for _, n := range w.Graph.Nodes {
		v, ok := w.Opsets[n.Domain]
		if n.Domain == "" && v < ops.MinOpset {
			return false
		}
		if e, _ := reg.Find(n.Domain, n.Op, int(v)); e == nil || !ok {
			return false
		}
	}
	return true
}

func runNodeTest(dir string, w *wire.Model) error {
	p, err := plan(w, Options{}.withDefaults())
	if err != nil {
		return err
	}
	sets, err := filepath.Glob(filepath.Join(dir, "test_data_set_*"))
	if err != nil || len(sets) == 0 {
		return fmt.Errorf("no test_data_set: %w", errors.Join(err, os.ErrNotExist))
	}
	for _, set := range sets {
		read := func(kind string, k int) (inference.Tensor, error) {
			b, err := os.ReadFile(filepath.Join(set, fmt.Sprintf("%s_%d.pb", kind, k)))
			if err != nil {
				return inference.Tensor{}, err
			}
			wt, err := wire.DecodeTensor(b)
			if err != nil {
				return inference.Tensor{}, err
			}
			t, err := ops.FromWire(wt, 1<<24)
			if err != nil {
				return inference.Tensor{}, err
			}
			return *t, nil
		}
		var in []inference.Tensor
		for k := range p.inputs {
			t, err := read("input", k)
			if err != nil {
				return err
			}
			in = append(in, t)
		}
		out := make([]inference.Tensor, len(p.outputs))
		if err := newInstance(p).run(context.Background(), in, out); err != nil {
			return err
		}
		for k := range out {
			want, err := read("output", k)
			if err != nil {
				return err
			}
			if want.Shape == nil {
				want.Shape = []int{}
			}
			if d := diff(&out[k], &want, 1e-3, 1e-6); d != "" {
				return fmt.Errorf("output %s: %s", out[k].Name, d)
			}
		}
	}
	return nil
}
