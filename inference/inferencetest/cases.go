package inferencetest

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

func (e *env) metadata() {
	m := e.meta
	if m.Name == "" || m.Version == "" || m.Format == "" {
		e.Errorf("name %q, version %q, format %q: none may be empty", m.Name, m.Version, m.Format)
	}
	if len(m.Inputs) == 0 || len(m.Outputs) == 0 {
		e.Errorf("%d inputs and %d outputs", len(m.Inputs), len(m.Outputs))
	}
	names := map[string]bool{}
	for _, sig := range slices.Concat(m.Inputs, m.Outputs) {
		if sig.Name == "" || sig.Type < inference.Float32 || sig.Type > inference.String {
			e.Errorf("signature %+v", sig)
		}
		for _, n := range sig.Shape {
			if n < -1 {
				e.Errorf("%s has rows of shape %v", sig.Name, sig.Shape)
			}
		}
		if w := len(sig.Shape); len(sig.Labels) > 0 && (w == 0 || sig.Shape[w-1] >= 0 && sig.Shape[w-1] != len(sig.Labels)) {
			e.Errorf("%s has %d labels for rows of shape %v", sig.Name, len(sig.Labels), sig.Shape)
		}
	}
	for _, sig := range m.Outputs {
		if names[sig.Name] {
			e.Errorf("two outputs are called %q", sig.Name)
		}
		names[sig.Name] = true
	}
	if e.d.Concurrency() < 1 || m.MaxBatch < 0 {
		e.Errorf("concurrency %d, largest batch %d", e.d.Concurrency(), m.MaxBatch)
	}
}

func (e *env) shapes() {
	for _, n := range []int{1, 2, 3, 4, 5, 63, 64, 65, 200} {
		n = e.rows(n)
		if err := e.fits(e.infer(e.batch(n, uint64(n))), n); err != nil {
			e.Error(err)
		}
	}
}

func (e *env) empty() {
	out := e.infer(e.batch(e.rows(3), 1))
	if err := e.d.Infer(e.ctx, e.batch(0, 1), out); err != nil {
		e.Fatal(err)
	}
	if err := e.fits(out, 0); err != nil {
		// Sizes left open are zero or what the model makes of no rows.
		e.Error(err)
	}
}

func (e *env) oneByOne() {
	for _, n := range []int{2, 7, 70} {
		n = e.rows(n)
		in := e.batch(n, uint64(n))
		out := e.infer(in)
		for r := range n {
			if err := differ(e.infer(row(in, r)), row(out, r), e.h.Tolerance); err != nil {
				e.Fatalf("row %d of %d alone and in the batch: %v", r, n, err)
			}
		}
	}
}

func (e *env) order() {
	n := e.rows(9)
	in := e.batch(n, 3)
	out := e.infer(in)
	back := e.infer(turn(in))
	for r := range n {
		if err := differ(row(back, n-1-r), row(out, r), e.h.Tolerance); err != nil {
			e.Fatalf("row %d, with the batch turned round: %v", r, err)
		}
	}
}

// turn puts the rows in reverse order.
func turn(in []inference.Tensor) []inference.Tensor {
	out := clone(in)
	for k := range out {
		t := &out[k]
		n := t.Shape[0]
		t.F32, t.F64, t.I64, t.I32, t.Bool, t.Str = nil, nil, nil, nil, nil, nil
		for r := n - 1; r >= 0; r-- {
			one := row(in[k:k+1], r)[0]
			t.F32 = append(t.F32, one.F32...)
			t.F64 = append(t.F64, one.F64...)
			t.I64 = append(t.I64, one.I64...)
			t.I32 = append(t.I32, one.I32...)
			t.Bool = append(t.Bool, one.Bool...)
			t.Str = append(t.Str, one.Str...)
		}
	}
	return out
}

func (e *env) repeat() {
	in := e.batch(e.rows(33), 5)
	want := e.infer(in)
	for range 5 {
		e.infer(e.batch(e.rows(8), 6))
		if err := differ(e.infer(in), want, 0); err != nil {
			e.Fatal(err)
		}
	}
}

func (e *env) special() {
	if e.h.NoSpecial {
		e.Skip("the harness says that the model takes no NaN or infinities")
	}
	n := e.rows(12)
	in := e.batch(n, 8)
	values := []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, math.Copysign(0, -1), math.MaxFloat32, math.SmallestNonzeroFloat32}
	floats := false
	for k := range in {
		width := 0
		if n > 0 {
			width = length(&in[k]) / n
		}
		// The last rows stay ordinary.
		for i := range (n + 1) / 2 * width {
			v := values[i%len(values)]
			switch in[k].Type {
			case inference.Float32:
				in[k].F32[i], floats = float32(v), true
			case inference.Float64:
				in[k].F64[i], floats = v, true
			}
		}
	}
	if !floats {
		e.Skip("no input takes floating-point numbers")
	}
	out := e.infer(in)
	if err := e.fits(out, n); err != nil {
		e.Fatal(err)
	}
	for r := range n {
		if err := differ(e.infer(row(in, r)), row(out, r), e.h.Tolerance); err != nil {
			e.Fatalf("row %d alone and beside NaN: %v", r, err)
		}
	}
}

func (e *env) readOnly() {
	in := e.batch(e.rows(66), 9)
	before := clone(in)
	e.infer(in)
	if err := differ(in, before, 0); err != nil {
		e.Errorf("the call changed its input: %v", err)
	}
}

func (e *env) reuse() {
	out := e.outputs()
	for _, n := range []int{1, 40, 3, 40, 2} {
		n = e.rows(n)
		in := e.batch(n, uint64(n))
		if err := e.d.Infer(e.ctx, in, out); err != nil {
			e.Fatal(err)
		}
		if err := e.fits(out, n); err != nil {
			e.Fatal(err)
		}
		if err := differ(out, e.infer(in), e.h.Tolerance); err != nil {
			e.Fatalf("into used storage: %v", err)
		}
	}
	// Room enough stays in use.
	before := make([]any, len(out))
	for k := range out {
		before[k] = first(&out[k])
	}
	if err := e.d.Infer(e.ctx, e.batch(1, 1), out); err != nil {
		e.Fatal(err)
	}
	for k := range out {
		if first(&out[k]) != before[k] {
			e.Errorf("output %s has new storage, though the old had room", out[k].Name)
		}
	}
}

// first is the address of a tensor's storage.
func first(t *inference.Tensor) any {
	if length(t) == 0 {
		return nil
	}
	switch t.Type {
	case inference.Float32:
		return &t.F32[0]
	case inference.Float64:
		return &t.F64[0]
	case inference.Int64:
		return &t.I64[0]
	case inference.Int32:
		return &t.I32[0]
	case inference.Bool:
		return &t.Bool[0]
	}
	return &t.Str[0]
}

func (e *env) ownership() {
	n := e.rows(5)
	in := e.batch(n, 11)
	kept := clone(in)
	out := e.infer(in)
	want := clone(out)
	// The caller's slices change hands…
	other := e.batch(n, 12)
	for k := range in {
		copy(in[k].F32, other[k].F32)
		copy(in[k].F64, other[k].F64)
		copy(in[k].I64, other[k].I64)
		copy(in[k].I32, other[k].I32)
		copy(in[k].Bool, other[k].Bool)
		copy(in[k].Str, other[k].Str)
	}
	if err := differ(out, want, 0); err != nil {
		e.Errorf("an output shares storage with an input: %v", err)
	}
	// … and other calls do not touch what was returned.
	for range 3 {
		e.infer(in)
	}
	if err := differ(out, want, 0); err != nil {
		e.Errorf("a later call changed an output: %v", err)
	}
	if err := differ(e.infer(kept), want, e.h.Tolerance); err != nil {
		e.Errorf("the driver kept a slice of its caller: %v", err)
	}
}

func (e *env) crowd() {
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	n := e.rows(3)
	in := e.batch(n, 13)
	for range 4*e.d.Concurrency() + 4 {
		wg.Go(func() {
			out := e.outputs()
			for range 10 {
				if err := e.d.Infer(e.ctx, in, out); err != nil && !(e.h.Remote && errkind.Of(err).Retryable()) {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		e.Error(*err)
	}
}

func (e *env) wrong() {
	n := e.rows(2)
	good := func() []inference.Tensor { return e.batch(n, 14) }
	try := func(what string, in, out []inference.Tensor) {
		e.Helper()
		e.kind(what, e.d.Infer(e.ctx, in, out), errkind.Invalid)
	}
	try("no inputs", nil, e.outputs())
	try("one input too many", append(good(), good()[0]), e.outputs())
	try("no outputs", good(), nil)
	try("one output too many", good(), append(e.outputs(), inference.Tensor{}))

	in := good()
	if in[0].Type = inference.Float64; e.meta.Inputs[0].Type == inference.Float64 {
		in[0].Type = inference.Float32
	}
	in[0].F32, in[0].F64 = make([]float32, length(&good()[0])), make([]float64, length(&good()[0]))
	try("another type", in, e.outputs())

	in = good()
	in[0].Shape = append(in[0].Shape, 1)
	try("one dimension too many", in, e.outputs())

	in = good()
	in[0].Shape = nil
	try("no dimensions", in, e.outputs())

	in = good()
	in[0].Shape = slices.Clone(in[0].Shape)
	in[0].Shape[0]++
	try("fewer elements than the shape says", in, e.outputs())

	in = good()
	in[0].Shape = slices.Clone(in[0].Shape)
	in[0].Shape[0] = -1
	try("a negative number of rows", in, e.outputs())

	if s := e.meta.Inputs[0].Shape; len(s) > 0 && s[0] >= 0 {
		in = good()
		w := in[0].Shape[1]
		in[0].Shape = slices.Clone(in[0].Shape)
		in[0].Shape[1] = w + 1
		big := inference.Tensor{Type: in[0].Type, Shape: in[0].Shape}
		size := 1
		for _, d := range big.Shape {
			size *= d
		}
		big.F32, big.F64, big.I64 = make([]float32, size), make([]float64, size), make([]int64, size)
		big.I32, big.Bool, big.Str = make([]int32, size), make([]bool, size), make([]string, size)
		in[0] = big
		try("rows of another size", in, e.outputs())
	}
	if len(e.meta.Inputs) > 1 && (e.meta.MaxBatch == 0 || e.meta.MaxBatch > n) {
		in = good()
		in[1] = e.batch(n+1, 15)[1]
		try("inputs with different numbers of rows", in, e.outputs())
	}
	if err := e.fits(e.infer(good()), n); err != nil {
		e.Errorf("after the wrong calls: %v", err)
	}
}

func (e *env) tooMany() {
	if e.meta.MaxBatch == 0 {
		e.Skip("the driver declares no largest batch")
	}
	e.infer(e.batch(e.meta.MaxBatch, 16))
	e.kind("one row too many", e.d.Infer(e.ctx, e.batch(e.meta.MaxBatch+1, 16), e.outputs()), errkind.Invalid)
}

func (e *env) cancelled() {
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	err := e.d.Infer(ctx, e.batch(e.rows(2), 17), e.outputs())
	if !errors.Is(err, context.Canceled) {
		e.Errorf("got %v, expected an error that wraps context.Canceled", err)
	}
	e.kind("a cancelled context", err, errkind.Canceled)
	e.infer(e.batch(e.rows(2), 17)) // the instance is not lost
}

func (e *env) closeTwice() {
	for range 2 {
		if err := e.d.Close(); err != nil {
			e.Fatal(err)
		}
	}
	if e.d.Metadata().Name != e.meta.Name {
		e.Error("Close changed the metadata")
	}
}

func (e *env) afterClose() {
	in := e.batch(e.rows(2), 18)
	if err := e.d.Close(); err != nil {
		e.Fatal(err)
	}
	e.kind("infer after close", e.d.Infer(e.ctx, in, e.outputs()), errkind.Closed)
	e.kind("infer of no rows after close", e.d.Infer(e.ctx, e.batch(0, 18), e.outputs()), errkind.Closed)
}

func (e *env) closeWaits() {
	in := e.batch(e.rows(50), 19)
	want := e.infer(in)
	var wg sync.WaitGroup
	started := make(chan struct{}, e.d.Concurrency()+2)
	for range e.d.Concurrency() + 2 {
		wg.Go(func() {
			out := e.outputs()
			for i := 0; ; i++ {
				err := e.d.Infer(e.ctx, in, out)
				if err == nil {
					err = differ(out, want, e.h.Tolerance)
					if err != nil {
						e.Error(err)
					}
				} else if !errkind.Is(err, errkind.Closed) {
					e.Errorf("beside Close: %v", err)
				}
				if i == 0 {
					started <- struct{}{}
				}
				if err != nil {
					return
				}
			}
		})
	}
	for range cap(started) {
		<-started
	}
	if err := e.d.Close(); err != nil {
		e.Error(err)
	}
	wg.Wait()
}
