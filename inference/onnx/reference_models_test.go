package onnx

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/inference"
)

// referenceFolder finds the published models of the card payments, or skips.
func referenceFolder(t *testing.T) string {
	t.Helper()
	const want = "card-fraud/reference/model_samples.csv"
	dirs := []string{os.Getenv("FRESHET_SHARED_DATA")}
	if wd, err := os.Getwd(); err == nil {
		for d := wd; ; d = filepath.Dir(d) {
			dirs = append(dirs, filepath.Join(d, "shared", "data"))
			if d == filepath.Dir(d) {
				break
			}
		}
	}
	for _, d := range dirs {
		if _, err := os.Stat(filepath.Join(d, want)); d != "" && err == nil {
			return filepath.Join(d, "card-fraud", "reference")
		}
	}
	const message = "NOT RUN: the reference models are absent: set FRESHET_SHARED_DATA to the folder that holds " + want
	if strings.Contains(os.Getenv("FRESHET_REQUIRE"), "data") {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// referenceRows are the rows of a CSV file with the features and the answers to expect.
type referenceRows struct {
	columns map[string][]float64
	x       []float64 // features, row by row
	n       int
}

func readRows(t *testing.T, path string, features []string) *referenceRows {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	r := &referenceRows{columns: map[string][]float64{}, n: len(all) - 1}
	for i, name := range all[0] {
		for _, row := range all[1:] {
			v, err := strconv.ParseFloat(row[i], 64)
			if err != nil {
				v = math.NaN() // a column of text
			}
			r.columns[name] = append(r.columns[name], v)
		}
	}
	for i := range r.n {
		for _, name := range features {
			r.x = append(r.x, r.columns[name][i])
		}
	}
	return r
}

// dumpedTrees is a boosted ensemble as plain numbers.
type dumpedTrees struct {
	Features []string
	Compare  string
	Base     float64 `json:"base_margin"`
	Trees    [][]dumpedNode
}

type dumpedNode struct {
	Feature     int
	Threshold   float64
	Left, Right int
	Leaf        *float64
}

// routes returns the leaf of each tree that a row ends in, by the dump's own rule.
func (d *dumpedTrees) routes(x []float64) (leaves []int) {
	for _, tree := range d.Trees {
		i := 0
		for tree[i].Leaf == nil {
			n := &tree[i]
			if x[n.Feature] < n.Threshold || d.Compare == "<=" && x[n.Feature] == n.Threshold {
				i = n.Left
			} else {
				i = n.Right
			}
		}
		leaves = append(leaves, i)
	}
	return leaves
}

// ensemble writes the trees as ai.onnx.ml's TreeEnsemble over float64: the
// margin where leaves is false, else the number of the leaf in each tree.
func (d *dumpedTrees) ensemble(leaves bool) []byte {
	var roots, feature, yes, no, yesLeaf, noLeaf, target []int64
	var modes []uint8
	var splits, weights []float64
	mode := uint8(0) // BRANCH_LEQ
	if d.Compare == "<" {
		mode = 1
	}
	for k, tree := range d.Trees {
		// Inner nodes and leaves are counted apart, over all trees.
		at := make([]int64, len(tree))
		node := int64(len(modes))
		for i, n := range tree {
			if n.Leaf == nil {
				at[i] = node
				node++
				continue
			}
			at[i] = int64(len(weights))
			if leaves {
				weights, target = append(weights, float64(i)), append(target, int64(k))
			} else {
				weights, target = append(weights, *n.Leaf), append(target, 0)
			}
		}
		roots = append(roots, at[0])
		isLeaf := func(i int) int64 {
			if tree[i].Leaf != nil {
				return 1
			}
			return 0
		}
		for _, n := range tree {
			if n.Leaf != nil {
				continue
			}
			modes, feature, splits = append(modes, mode), append(feature, int64(n.Feature)), append(splits, n.Threshold)
			yes, yesLeaf = append(yes, at[n.Left]), append(yesLeaf, isLeaf(n.Left))
			no, noLeaf = append(no, at[n.Right]), append(noLeaf, isLeaf(n.Right))
		}
	}
	targets := 1
	if leaves {
		targets = len(d.Trees)
	}
	k := int64(len(modes))
	trees := node("TreeEnsemble", "ai.onnx.ml", []string{"x"}, []string{"sum"},
		attr("tree_roots", roots), attr("nodes_featureids", feature),
		attr("nodes_truenodeids", yes), attr("nodes_falsenodeids", no),
		attr("nodes_trueleafs", yesLeaf), attr("nodes_falseleafs", noLeaf), attr("leaf_targetids", target),
		attr("nodes_modes", tensorOf("", []int64{k}, modes)), attr("nodes_splits", tensorOf("", []int64{k}, splits)),
		attr("leaf_weights", tensorOf("", []int64{int64(len(weights))}, weights)),
		attr("n_targets", targets), attr("aggregate_function", 1), attr("post_transform", 0))
	x := []pb{tensorInfo("x", 11, -1, int64(len(d.Features)))}
	if leaves {
		return modelAt(5, graphPB{nodes: []pb{trees}, ins: x, outs: []pb{tensorInfo("sum", 11, -1, int64(targets))}})
	}
	return modelAt(5, graphPB{
		nodes: []pb{trees, node("Add", "", []string{"sum", "base"}, []string{"margin"}), node("Sigmoid", "", []string{"margin"}, []string{"p"})},
		inits: []pb{pb(tensorOf("base", []int64{1}, []float64{d.Base}))},
		ins:   x,
		outs:  []pb{tensorInfo("margin", 11, -1, 1), tensorInfo("p", 11, -1, 1)},
	})
}

// infer64 runs a model of one float64 input and returns its outputs as float64.
func infer64(t *testing.T, model []byte, x []float64, width int) (out [][]float64) {
	t.Helper()
	m, err := Parse("reference", model, Options{Instances: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	tensors := make([]inference.Tensor, len(m.Metadata().Outputs))
	in := []inference.Tensor{{Name: "x", Type: inference.Float64, Shape: []int{len(x) / width, width}, F64: x}}
	if err := m.Infer(context.Background(), in, tensors); err != nil {
		t.Fatal(err)
	}
	for _, o := range tensors {
		if o.Type != inference.Float64 {
			t.Fatalf("output %s is %v", o.Name, o.Type)
		}
		out = append(out, slices.Clone(o.F64))
	}
	return out
}

// near fails for values that differ by more than the tolerance, relative or absolute.
func near(t *testing.T, what string, got, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%s: %d values, expected %d", what, len(got), len(want))
	}
	worst := 0.0
	for i := range got {
		d := math.Abs(got[i]-want[i]) / math.Max(1, math.Abs(want[i]))
		if !(d <= tolerance) {
			t.Fatalf("%s of row %d: %v, expected %v", what, i, got[i], want[i])
		}
		worst = max(worst, d)
	}
	t.Logf("%s: %d rows, largest difference %.1e", what, len(got), worst)
}

// TestReferenceTreesTakeTheSameRoutes compares boosted trees with their
// reference: the leaf that each row reaches in each tree, exactly, then margins and
// probabilities. Half of the rows lie one unit in the last place around a split.
func TestReferenceTreesTakeTheSameRoutes(t *testing.T) {
	folder := referenceFolder(t)
	for _, c := range []struct{ file, prefix string }{
		{"model_gbt_xgboost.json", "xgb"}, {"model_gbt_hist.json", "hist"},
	} {
		t.Run(c.prefix, func(t *testing.T) {
			var d dumpedTrees
			readJSON(t, filepath.Join(folder, c.file), &d)
			width := len(d.Features)
			for file, rows := range map[string]int{"model_samples.csv": 1000, "model_edge_rows.csv": 360} {
				r := readRows(t, filepath.Join(folder, file), d.Features)
				if r.n != rows {
					t.Fatalf("%s has %d rows, expected %d", file, r.n, rows)
				}
				leaves := infer64(t, d.ensemble(true), r.x, width)[0]
				for i := range r.n {
					for k, want := range d.routes(r.x[i*width : (i+1)*width]) {
						if got := leaves[i*len(d.Trees)+k]; got != float64(want) {
							t.Fatalf("%s row %d: tree %d ends in leaf %v, expected %d", file, i, k, got, want)
						}
					}
				}
				out := infer64(t, d.ensemble(false), r.x, width)
				near(t, file+" margin", out[0], r.columns[c.prefix+"_margin"], 1e-13)
				near(t, file+" probability", out[1], r.columns[c.prefix+"_prob"], 1e-13)
				if lib := r.columns[c.prefix+"_lib_prob_f32"]; lib != nil {
					near(t, file+" the library's float32 probability", out[1], lib, 1e-6)
				}
			}
		})
	}
}

// TestReferenceTreesAsRegressor writes the same trees as TreeEnsembleRegressor
// with thresholds in float64. Its output is float32 by its definition.
func TestReferenceTreesAsRegressor(t *testing.T) {
	folder := referenceFolder(t)
	for _, c := range []struct{ file, prefix string }{
		{"model_gbt_xgboost.json", "xgb"}, {"model_gbt_hist.json", "hist"},
	} {
		t.Run(c.prefix, func(t *testing.T) {
			var d dumpedTrees
			readJSON(t, filepath.Join(folder, c.file), &d)
			var arrays trees
			var values, weights []float64
			mode := map[string]string{"<": "BRANCH_LT", "<=": "BRANCH_LEQ"}[d.Compare]
			for k, tree := range d.Trees {
				for i, n := range tree {
					if n.Leaf != nil {
						arrays.leaf(int64(k), int64(i), 0, 0)
						weights = append(weights, *n.Leaf)
					} else {
						arrays.branch(int64(k), int64(i), int64(n.Feature), mode, 0, int64(n.Left), int64(n.Right), 0)
					}
					values = append(values, n.Threshold)
				}
			}
			double := func(v []float64) tensorPB { return tensorOf("", []int64{int64(len(v))}, v) }
			arrays.values, arrays.weights = nil, nil
			attrs := append(arrays.attrs("target"), attr("nodes_values_as_tensor", double(values)),
				attr("target_weights_as_tensor", double(weights)), attr("base_values_as_tensor", double([]float64{d.Base})))
			model := modelAt(3, graphPB{
				nodes: []pb{node("TreeEnsembleRegressor", "ai.onnx.ml", []string{"x"}, []string{"y"}, attrs...),
					node("Cast", "", []string{"y"}, []string{"wide"}, attr("to", 11))},
				ins:  []pb{tensorInfo("x", 11, -1, int64(len(d.Features)))},
				outs: []pb{tensorInfo("wide", 11, -1, 1)},
			})
			for _, file := range []string{"model_samples.csv", "model_edge_rows.csv"} {
				r := readRows(t, filepath.Join(folder, file), d.Features)
				got := infer64(t, model, r.x, len(d.Features))[0]
				for i, want := range r.columns[c.prefix+"_margin"] {
					// Equal to half a unit in the last place of float32: summed in float64, rounded once.
					if math.Abs(got[i]-want) > math.Abs(want)*6e-8+1e-13 {
						t.Fatalf("%s row %d: margin %v, expected %v", file, i, got[i], want)
					}
				}
			}
		})
	}
}

// TestReferenceLogisticRegression scales, multiplies and squashes in float64.
func TestReferenceLogisticRegression(t *testing.T) {
	folder := referenceFolder(t)
	var d struct {
		Features          []string
		Mean, Scale, Coef []float64
		Intercept         float64
	}
	readJSON(t, filepath.Join(folder, "model_lr.json"), &d)
	k := int64(len(d.Features))
	model := modelOf(graphPB{
		nodes: []pb{
			node("Sub", "", []string{"x", "mean"}, []string{"centred"}),
			node("Div", "", []string{"centred", "scale"}, []string{"z"}),
			node("MatMul", "", []string{"z", "coef"}, []string{"product"}),
			node("Add", "", []string{"product", "intercept"}, []string{"margin"}),
			node("Sigmoid", "", []string{"margin"}, []string{"p"}),
		},
		inits: []pb{
			pb(tensorOf("mean", []int64{k}, d.Mean)), pb(tensorOf("scale", []int64{k}, d.Scale)),
			pb(tensorOf("coef", []int64{k, 1}, d.Coef)), pb(tensorOf("intercept", []int64{1}, []float64{d.Intercept})),
		},
		ins:  []pb{tensorInfo("x", 11, -1, k)},
		outs: []pb{tensorInfo("margin", 11, -1, 1), tensorInfo("p", 11, -1, 1)},
	})
	r := readRows(t, filepath.Join(folder, "model_samples.csv"), d.Features)
	out := infer64(t, model, r.x, int(k))
	near(t, "margin", out[0], r.columns["lr_margin"], 1e-12)
	near(t, "probability", out[1], r.columns["lr_prob"], 1e-12)
}
