package inferencetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// Run proves the driver.
func Run(t *testing.T, h Harness) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) { c.runOn(t, h) })
	}
	for i := range h.Golden {
		g := &h.Golden[i]
		t.Run("GoldenRowsComeOutRight/"+g.Name, func(t *testing.T) {
			testCase{g.Name, func(e *env) { e.golden(g) }}.runOn(t, h)
		})
	}
	for i := range h.Faults {
		f := &h.Faults[i]
		t.Run("FailureHasItsKind/"+f.Name, func(t *testing.T) {
			testCase{f.Name, func(e *env) { e.fault(f) }}.runOn(t, h)
		})
	}
}

type testCase struct {
	name string
	run  func(*env)
}

func cases() []testCase {
	return []testCase{
		{"MetadataIsComplete", (*env).metadata},
		{"OutputsHaveDeclaredTypesAndShapes", (*env).shapes},
		{"EmptyBatchGivesEmptyOutputs", (*env).empty},
		{"BatchEqualsItsRowsOneByOne", (*env).oneByOne},
		{"ManyRowsAreAnsweredInOrder", (*env).many},
		{"RowsDoNotAffectEachOther", (*env).order},
		{"SameInputGivesSameOutput", (*env).repeat},
		{"NaNAndInfinityAreValues", (*env).special},
		{"InputsAreOnlyRead", (*env).readOnly},
		{"OutputStorageIsReused", (*env).reuse},
		{"NeitherSideKeepsTheOthersSlices", (*env).ownership},
		{"ConcurrentCallsAgree", (*env).concurrent},
		{"MoreCallsThanInstancesWait", (*env).crowd},
		{"WrongInputsAreInvalid", (*env).wrong},
		{"BatchAboveMaxBatchIsInvalid", (*env).tooMany},
		{"CancelledContextIsAnError", (*env).cancelled},
		{"LateCallIsAnError", (*env).late},
		{"CallCancelledOnItsWayEnds", (*env).cancelledUnderWay},
		{"FrozenServerHoldsNoCallBeyondItsDeadline", (*env).frozen},
		{"ModelAnswersAsItsDriver", (*env).model},
		{"ReloadUnderLoadDisturbsNobody", (*env).reload},
		{"SecondCloseReturnsNil", (*env).closeTwice},
		{"InferAfterCloseIsClosed", (*env).afterClose},
		{"CloseWaitsForCallsInProgress", (*env).closeWaits},
	}
}

func (c testCase) runOn(tb testing.TB, h Harness) {
	h.setDefaults()
	e := &env{TB: tb, h: h, ctx: tb.Context()}
	e.use(h.Open(tb))
	c.run(e)
}

type env struct {
	testing.TB
	h    Harness
	d    inference.Driver
	meta inference.Metadata
	ctx  context.Context
}

// use makes d the driver under test, and closes it in the end.
func (e *env) use(d inference.Driver) {
	e.d, e.meta = d, d.Metadata()
	e.Cleanup(func() {
		if err := d.Close(); err != nil {
			e.Errorf("close: %v", err)
		}
	})
}

func (h *Harness) random(_ testing.TB, d inference.Driver, n int, seed uint64) []inference.Tensor {
	r := rand.New(rand.NewPCG(seed, 7))
	var in []inference.Tensor
	for _, sig := range d.Metadata().Inputs {
		t := inference.Tensor{Name: sig.Name, Type: sig.Type, Shape: []int{n}}
		size := n
		for _, w := range sig.Shape {
			if w < 0 {
				w = h.Width
			}
			t.Shape = append(t.Shape, w)
			size *= w
		}
		for range size {
			switch sig.Type {
			case inference.Float32:
				t.F32 = append(t.F32, float32(r.NormFloat64()))
			case inference.Float64:
				t.F64 = append(t.F64, r.NormFloat64())
			case inference.Int64:
				t.I64 = append(t.I64, r.Int64N(3))
			case inference.Int32:
				t.I32 = append(t.I32, r.Int32N(3))
			case inference.Bool:
				t.Bool = append(t.Bool, r.IntN(2) == 0)
			case inference.String:
				t.Str = append(t.Str, string(rune('a'+r.IntN(4))))
			}
		}
		in = append(in, t)
	}
	return in
}

// batch makes n rows, no more than the driver takes.
func (e *env) batch(n int, seed uint64) []inference.Tensor {
	e.Helper()
	in := e.h.Batch(e.TB, e.d, n, seed)
	if len(in) != len(e.meta.Inputs) {
		e.Fatalf("the harness makes %d inputs, the model has %d", len(in), len(e.meta.Inputs))
	}
	return in
}

// rows is n, or what the driver takes at most.
func (e *env) rows(n int) int {
	if e.meta.MaxBatch > 0 {
		return min(n, e.meta.MaxBatch)
	}
	return n
}

func (e *env) outputs() []inference.Tensor { return make([]inference.Tensor, len(e.meta.Outputs)) }

func (e *env) infer(in []inference.Tensor) []inference.Tensor {
	e.Helper()
	out := e.outputs()
	if err := e.d.Infer(e.ctx, in, out); err != nil {
		e.Fatalf("infer: %v", err)
	}
	return out
}

// fits holds an output against its signature.
func (e *env) fits(out []inference.Tensor, rows int) error {
	for k, sig := range e.meta.Outputs {
		o := &out[k]
		if o.Type != sig.Type {
			return fmt.Errorf("output %s is %v, declared %v", sig.Name, o.Type, sig.Type)
		}
		if len(o.Shape) != len(sig.Shape)+1 || o.Shape[0] != rows {
			return fmt.Errorf("output %s has shape %v for %d rows, declared rows of %v", sig.Name, o.Shape, rows, sig.Shape)
		}
		size := rows
		for i, n := range sig.Shape {
			if n >= 0 && o.Shape[i+1] != n {
				return fmt.Errorf("output %s has shape %v, declared rows of %v", sig.Name, o.Shape, sig.Shape)
			}
			size *= o.Shape[i+1]
		}
		if n := length(o); n != size {
			return fmt.Errorf("output %s has %d elements for shape %v", sig.Name, n, o.Shape)
		}
	}
	return nil
}

func length(t *inference.Tensor) int {
	switch t.Type {
	case inference.Float32:
		return len(t.F32)
	case inference.Float64:
		return len(t.F64)
	case inference.Int64:
		return len(t.I64)
	case inference.Int32:
		return len(t.I32)
	case inference.Bool:
		return len(t.Bool)
	}
	return len(t.Str)
}

// row copies row r of each tensor.
func row(ts []inference.Tensor, r int) []inference.Tensor {
	var out []inference.Tensor
	for i := range ts {
		t := &ts[i]
		n := 1
		for _, d := range t.Shape[1:] {
			n *= d
		}
		c := inference.Tensor{Name: t.Name, Type: t.Type, Shape: append([]int{1}, t.Shape[1:]...)}
		lo, hi := r*n, (r+1)*n
		switch t.Type {
		case inference.Float32:
			c.F32 = append(c.F32, t.F32[lo:hi]...)
		case inference.Float64:
			c.F64 = append(c.F64, t.F64[lo:hi]...)
		case inference.Int64:
			c.I64 = append(c.I64, t.I64[lo:hi]...)
		case inference.Int32:
			c.I32 = append(c.I32, t.I32[lo:hi]...)
		case inference.Bool:
			c.Bool = append(c.Bool, t.Bool[lo:hi]...)
		case inference.String:
			c.Str = append(c.Str, t.Str[lo:hi]...)
		}
		out = append(out, c)
	}
	return out
}

// clone copies tensors in full.
func clone(ts []inference.Tensor) []inference.Tensor {
	out := make([]inference.Tensor, len(ts))
	for i := range ts {
		t := ts[i]
		t.Shape = append([]int(nil), t.Shape...)
		t.F32 = append([]float32(nil), t.F32...)
		t.F64 = append([]float64(nil), t.F64...)
		t.I64 = append([]int64(nil), t.I64...)
		t.I32 = append([]int32(nil), t.I32...)
		t.Bool = append([]bool(nil), t.Bool...)
		t.Str = append([]string(nil), t.Str...)
		out[i] = t
	}
	return out
}

// differ compares tensors; NaN equals NaN and floats may differ by the tolerance.
func differ(a, b []inference.Tensor, tol float64) error {
	for k := range a {
		x, y := &a[k], &b[k]
		if x.Type != y.Type || fmt.Sprint(x.Shape) != fmt.Sprint(y.Shape) {
			return fmt.Errorf("%s: %v %v and %v %v", x.Name, x.Type, x.Shape, y.Type, y.Shape)
		}
		for i := range length(x) {
			var same bool
			var p, q any
			switch x.Type {
			case inference.Float32:
				p, q, same = x.F32[i], y.F32[i], near(float64(x.F32[i]), float64(y.F32[i]), tol)
			case inference.Float64:
				p, q, same = x.F64[i], y.F64[i], near(x.F64[i], y.F64[i], tol)
			case inference.Int64:
				p, q, same = x.I64[i], y.I64[i], x.I64[i] == y.I64[i]
			case inference.Int32:
				p, q, same = x.I32[i], y.I32[i], x.I32[i] == y.I32[i]
			case inference.Bool:
				p, q, same = x.Bool[i], y.Bool[i], x.Bool[i] == y.Bool[i]
			default:
				p, q, same = x.Str[i], y.Str[i], x.Str[i] == y.Str[i]
			}
			if !same {
				return fmt.Errorf("%s: element %d is %v and %v", x.Name, i, p, q)
			}
		}
	}
	return nil
}

func near(a, b, tol float64) bool {
	switch {
	case a == b, math.IsNaN(a) && math.IsNaN(b):
		return true
	case math.IsInf(a, 0) || math.IsInf(b, 0):
		return false
	}
	return math.Abs(a-b) <= tol*math.Max(1, math.Max(math.Abs(a), math.Abs(b)))
}

func (e *env) kind(what string, err error, kinds ...errkind.Kind) {
	e.Helper()
	if e.h.Remote {
		kinds = append(kinds, errkind.Transient)
	}
	for _, k := range kinds {
		if errkind.Is(err, k) {
			return
		}
	}
	if err == nil {
		e.Errorf("%s: no error, expected kind %v", what, kinds)
		return
	}
	e.Errorf("%s: kind %v, expected %v: %v", what, errkind.Of(err), kinds, err)
}

func (e *env) concurrent() {
	n := e.d.Concurrency()
	if n < 1 {
		e.Fatalf("Concurrency is %d", n)
	}
	rows := e.rows(17)
	var wg sync.WaitGroup
	errs := make([]error, n)
	for g := range n {
		in := e.batch(rows, uint64(g))
		want := e.infer(in)
		wg.Go(func() {
			out := e.outputs()
			for range 20 {
				if err := e.d.Infer(e.ctx, in, out); err != nil {
					errs[g] = err
					return
				}
				if err := differ(out, want, e.h.Tolerance); err != nil {
					errs[g] = fmt.Errorf("another result beside other calls: %w", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		e.Error(err)
	}
}
