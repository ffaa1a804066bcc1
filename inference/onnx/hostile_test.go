package onnx

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// chain is a tree of the depth whose every true child is a leaf.
func chain(depth int64) *trees {
	t := &trees{}
	for i := range depth {
		t.branch(0, 2*i, 0, "BRANCH_LEQ", float32(i), 2*i+1, 2*i+2, 0)
		t.leaf(0, 2*i+1, 0, 1)
	}
	t.leaf(0, 2*depth, 0, 2)
	return t
}

func stump(edit func(*trees)) []byte {
	t := chain(1)
	edit(t)
	return regressor(t, 1)
}

// oneOp is a model x → op → y with initializers.
func oneOp(op pb, inits ...tensorPB) []byte {
	g := graphPB{nodes: []pb{op}, ins: []pb{tensorInfo("x", 1, -1, 2)}, outs: []pb{tensorInfo("y", 1, -1, -1)}}
	for _, t := range inits {
		g.inits = append(g.inits, pb(t))
	}
	return modelOf(g)
}

func ints(v ...int64) []int64 { return v }

// hostile files with the kind of error that loading them must give; none may panic, hang
// or take memory beyond the bounds.
func hostile() map[string]struct {
	data []byte
	kind errkind.Kind
} {
	type c = struct {
		data []byte
		kind errkind.Kind
	}
	huge := int64(1) << 40
	cases := map[string]c{
		"empty":                     {nil, errkind.Invalid},
		"text":                      {[]byte("not a model at all"), errkind.Invalid},
		"truncated":                 {stump(func(*trees) {})[:100], errkind.Invalid},
		"tree without nodes":        {regressor(&trees{}, 1), errkind.Invalid},
		"tree cycle":                {stump(func(t *trees) { t.yes[0] = 0 }), errkind.Invalid},
		"tree with a shared leaf":   {stump(func(t *trees) { t.no[0] = 1 }), errkind.Invalid},
		"tree child missing":        {stump(func(t *trees) { t.no[0] = 77 }), errkind.Invalid},
		"tree child negative":       {stump(func(t *trees) { t.no[0] = -1 }), errkind.Invalid},
		"tree node twice":           {stump(func(t *trees) { t.node[1] = 0 }), errkind.Invalid},
		"tree mode unknown":         {stump(func(t *trees) { t.modes[0] = "BRANCH_MAYBE" }), errkind.Invalid},
		"tree feature negative":     {stump(func(t *trees) { t.feat[0] = -5 }), errkind.Invalid},
		"tree feature beyond input": {stump(func(t *trees) { t.feat[0] = 30 }), errkind.Invalid},
		"tree feature huge":         {stump(func(t *trees) { t.feat[0] = math.MaxInt64 }), errkind.Invalid},
		"tree target out of range":  {stump(func(t *trees) { t.leafID[0] = 7 }), errkind.Invalid},
		"tree weight for no node":   {stump(func(t *trees) { t.leafNode[0] = 9 }), errkind.Invalid},
		"tree arrays differ":        {stump(func(t *trees) { t.values = t.values[:1] }), errkind.Invalid},
		"tree weights differ":       {stump(func(t *trees) { t.weights = t.weights[:1] }), errkind.Invalid},
		"tree targets huge":         {regressor(chain(1), 1, attr("n_targets", math.MaxInt64)), errkind.Invalid},
		"tree targets negative":     {regressor(chain(1), 1, attr("n_targets", -1)), errkind.Invalid},
		"constant of 4 TB": {oneOp(node("ConstantOfShape", "", []string{"s"}, []string{"y"}),
			tensorOf("s", ints(1), ints(huge))), errkind.Invalid},
		"constant of overflowing size": {oneOp(node("ConstantOfShape", "", []string{"s"}, []string{"y"}),
			tensorOf("s", ints(4), ints(1<<32, 1<<32, 1<<32, 1<<32))), errkind.Invalid},
		"initializer larger than its data": {oneOp(node("Add", "", []string{"x", "c"}, []string{"y"}),
			tensorOf("c", ints(huge), []float32{1})), errkind.Invalid},
		"initializer with a negative size": {oneOp(node("Add", "", []string{"x", "c"}, []string{"y"}),
			tensorOf("c", ints(-1), []float32{1})), errkind.Invalid},
		"initializer of overflowing size": {oneOp(node("Add", "", []string{"x", "c"}, []string{"y"}),
			tensorOf("c", ints(1<<62, 4), []float32{1})), errkind.Invalid},
		"reshape to too much": {oneOp(node("Reshape", "", []string{"x", "s"}, []string{"y"}),
			tensorOf("s", ints(3), ints(-1, 1<<30, 1<<30))), errkind.Invalid},
		"expand to too much": {oneOp(node("Expand", "", []string{"x", "s"}, []string{"y"}),
			tensorOf("s", ints(3), ints(1<<20, 1, 1<<20))), errkind.Invalid},
		"tile to too much": {oneOp(node("Tile", "", []string{"x", "s"}, []string{"y"}),
			tensorOf("s", ints(2), ints(1<<40, 1<<40))), errkind.Invalid},
		"gather out of range": {oneOp(node("Gather", "", []string{"x", "s"}, []string{"y"}, attr("axis", 1)),
			tensorOf("s", ints(1), ints(9))), errkind.Invalid},
		"axis out of range":   {oneOp(node("Softmax", "", []string{"x"}, []string{"y"}, attr("axis", 5))), errkind.Invalid},
		"product of misfits":  {oneOp(node("MatMul", "", []string{"x", "w"}, []string{"y"}), tensorOf("w", ints(3, 1), []float32{1, 2, 3})), errkind.Invalid},
		"graph cycle":         {oneOp(node("Add", "", []string{"x", "y"}, []string{"y"})), errkind.Invalid},
		"value defined twice": {oneOp(node("Identity", "", []string{"x"}, []string{"x"})), errkind.Invalid},
		"value undefined":     {oneOp(node("Relu", "", []string{"z"}, []string{"y"})), errkind.Invalid},
		"too many inputs":     {oneOp(node("Relu", "", []string{"x", "x", "x"}, []string{"y"})), errkind.Invalid},
		"unknown operators": {modelOf(graphPB{
			nodes: []pb{node("Foo", "", []string{"x"}, []string{"a"}), node("Bar", "com.example", []string{"a"}, []string{"b"}),
				node("Relu", "", []string{"b"}, []string{"y"})},
			ins: []pb{tensorInfo("x", 1, -1, 2)}, outs: []pb{tensorInfo("y", 1, -1, 2)}}), errkind.Unsupported},
		"rows not kept": {modelOf(graphPB{nodes: []pb{node("ReduceSum", "", []string{"x"}, []string{"y"})},
			ins: []pb{tensorInfo("x", 1, -1, 2)}, outs: []pb{tensorInfo("y", 1)}}), errkind.Unsupported},
		"input rows huge": {modelOf(graphPB{nodes: []pb{node("Relu", "", []string{"x"}, []string{"y"})},
			ins: []pb{tensorInfo("x", 1, -1, math.MaxInt64, math.MaxInt64)}, outs: []pb{tensorInfo("y", 1)}}), errkind.Invalid},
		"length beyond the file": {protowire.AppendVarint(protowire.AppendTag(nil, 7, protowire.BytesType), 1<<50), errkind.Invalid},
	}
	var messages pb
	for range 200_000 {
		messages = messages.msg(1, nil)
	}
	cases["more nodes than allowed"] = c{pb{}.msg(7, messages), errkind.Invalid}
	return cases
}

func TestHostileFilesAreErrors(t *testing.T) {
	for name, c := range hostile() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			m, err := Parse("hostile", c.data, Options{Instances: 1})
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatalf("loaded: %+v", m.Metadata())
			}
			if !errkind.Is(err, c.kind) {
				t.Errorf("kind %v, expected %v: %v", errkind.Of(err), c.kind, err)
			}
			if strings.Contains(err.Error(), "internal error") {
				t.Errorf("the loader panicked: %v", err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 128<<20 {
				t.Errorf("loading %d bytes took %d MiB", len(c.data), used>>20)
			}
		})
	}
}

func TestUnsupportedOperatorsAreListedTogether(t *testing.T) {
	_, err := Parse("x", hostile()["unknown operators"].data, Options{})
	for _, want := range []string{"operator Foo", "operator com.example.Bar", "docs/models.md"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %q: %v", want, err)
		}
	}
}

// TestChainTreeIsEvaluated holds that depth costs neither stack nor padding.
func TestChainTreeIsEvaluated(t *testing.T) {
	const depth = 200_000
	m, err := Parse("chain", regressor(chain(depth), 1), Options{Instances: 1})
	if err != nil {
		t.Fatal(err)
	}
	in := []inference.Tensor{{Type: inference.Float32, Shape: []int{3, 1}, F32: []float32{0, depth - 1, depth}}}
	out := make([]inference.Tensor, 1)
	if err := m.Infer(context.Background(), in, out); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(out[0].F32, []float32{1, 1, 2}) {
		t.Errorf("got %v", out[0].F32)
	}
}

// TestRunTimeSizesAreBounded feeds sizes that are only known when the model runs.
func TestRunTimeSizesAreBounded(t *testing.T) {
	for _, op := range []string{"Expand", "Tile", "ConstantOfShape", "Range"} {
		nodes := []pb{node("Cast", "", []string{"x"}, []string{"n"}, attr("to", 7))}
		inits := []pb{pb(tensorOf("flat", ints(1), ints(-1))), pb(tensorOf("first", ints(1), ints(1)))}
		nodes = append(nodes, node("ReduceMax", "", []string{"n"}, []string{"m"}, attr("keepdims", 0)),
			node("Reshape", "", []string{"m", "flat"}, []string{"m0"}),
			node("Add", "", []string{"m0", "first"}, []string{"m1"}), node("Concat", "", []string{"m1", "m1"}, []string{"s"}, attr("axis", 0)))
		switch op {
		case "Range":
			nodes = append(nodes, node("Range", "", []string{"m", "zero", "down"}, []string{"r"}), node("ReduceSum", "", []string{"r"}, []string{"t"}),
				node("Add", "", []string{"n", "t"}, []string{"y"}))
			inits = append(inits, pb(tensorOf("zero", nil, ints(0))), pb(tensorOf("down", nil, ints(-1))))
		case "ConstantOfShape":
			nodes = append(nodes, node(op, "", []string{"s"}, []string{"r"}), node("ReduceSum", "", []string{"r"}, []string{"t"}),
				node("Add", "", []string{"x", "t"}, []string{"y"}))
		default:
			nodes = append(nodes, node(op, "", []string{"x", "s"}, []string{"r"}), node("ReduceSum", "", []string{"r"}, []string{"t"}),
				node("Add", "", []string{"x", "t"}, []string{"y"}))
		}
		elem := int64(1)
		if op == "Range" {
			elem = 7
		}
		data := modelOf(graphPB{nodes: nodes, inits: inits, ins: []pb{tensorInfo("x", 1, -1, 1)}, outs: []pb{tensorInfo("y", elem, -1, 1)}})
		m, err := Parse(op, data, Options{Instances: 1, MaxElements: 1 << 16})
		if err != nil {
			t.Errorf("%s: %v", op, err)
			continue
		}
		run := func(v float32) error {
			in := []inference.Tensor{{Type: inference.Float32, Shape: []int{1, 1}, F32: []float32{v}}}
			return m.Infer(context.Background(), in, make([]inference.Tensor, 1))
		}
		if err := run(3); err != nil {
			t.Errorf("%s of 3: %v", op, err)
		}
		for _, v := range []float32{1 << 20, 1e12, 1e18, float32(math.Inf(1)), float32(math.NaN())} {
			if err := run(v); err != nil && !errkind.Is(err, errkind.Invalid) || err == nil && v > 0 && !math.IsInf(float64(v), 0) {
				t.Errorf("%s of %v: %v", op, v, err)
			}
		}
	}
}

// TestWorkAtLoadIsBounded loads a file of some kilobytes that would read 10^10 elements.
func TestWorkAtLoadIsBounded(t *testing.T) {
	const n = 2000
	nodes := []pb{node("ConstantOfShape", "", []string{"s"}, []string{"c"})}
	from := "x"
	for i := range n {
		r, to := fmt.Sprint("r", i), fmt.Sprint("y", i)
		nodes = append(nodes, node("ReduceMax", "", []string{"c"}, []string{r}, attr("keepdims", 0)), node("Add", "", []string{from, r}, []string{to}))
		from = to
	}
	data := modelOf(graphPB{nodes: nodes, inits: []pb{pb(tensorOf("s", ints(1), ints(1<<22)))},
		ins: []pb{tensorInfo("x", 1, -1, 1)}, outs: []pb{tensorInfo(from, 1, -1, 1)}})
	start := time.Now()
	// Within bounds the sums are folded; beyond them the model loads all the same.
	if _, err := Parse("work", data, Options{Instances: 1, work: 1 << 24}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("loading took %v", d)
	}
}

// TestMemoryAtLoadIsBounded loads a file of some kilobytes with 16 GB of constants.
func TestMemoryAtLoadIsBounded(t *testing.T) {
	var nodes []pb
	from := "x"
	for i := range 1000 {
		c, r, to := fmt.Sprint("c", i), fmt.Sprint("r", i), fmt.Sprint("y", i)
		nodes = append(nodes, node("ConstantOfShape", "", []string{"s"}, []string{c}), node("Add", "", []string{from, c}, []string{r}),
			node("ReduceMax", "", []string{r}, []string{to}, attr("axes", ints(1))))
		from = to
	}
	data := modelOf(graphPB{nodes: nodes, inits: []pb{pb(tensorOf("s", ints(2), ints(1, 1<<22)))},
		ins: []pb{tensorInfo("x", 1, -1, 1)}, outs: []pb{tensorInfo(from, 1, -1, 1)}})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Parse("memory", data, Options{Instances: 1})
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<30 {
		t.Errorf("loading %d bytes took %d MiB (%v)", len(data), used>>20, err)
	}
}

func TestAttributeOfTheWrongTypeIsAnError(t *testing.T) {
	_, err := Parse("x", oneOp(node("Softmax", "", []string{"x"}, []string{"y"}, attr("axis", "one"))), Options{})
	if !errkind.Is(err, errkind.Invalid) {
		t.Errorf("got %v", err)
	}
	_, err = Parse("x", oneOp(node("Relu", "", []string{"x"}, []string{"y"}, attr("slope", 1))), Options{})
	if !errkind.Is(err, errkind.Unsupported) || !strings.Contains(fmt.Sprint(err), "slope") {
		t.Errorf("got %v", err)
	}
}
