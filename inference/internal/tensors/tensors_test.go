package tensors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

func TestArgumentsThatDoNotFitAreInvalid(t *testing.T) {
	m := &inference.Metadata{
		Name: "m", MaxBatch: 3,
		Inputs:  []inference.Signature{{Name: "a", Type: inference.Float64}, {Name: "b", Type: inference.String, Shape: []int{-1}}},
		Outputs: []inference.Signature{{Name: "s", Type: inference.Float64}},
	}
	a := func(v ...float64) inference.Tensor {
		return inference.Tensor{Type: inference.Float64, Shape: []int{len(v)}, F64: v}
	}
	b := func(n, w int) inference.Tensor {
		return inference.Tensor{Type: inference.String, Shape: []int{n, w}, Str: make([]string, n*w)}
	}
	one := make([]inference.Tensor, 1)
	for n := range 4 {
		if got, err := Check(m, []inference.Tensor{a(make([]float64, n)...), b(n, 2)}, one); err != nil || got != n {
			t.Errorf("%d rows: %d, %v", n, got, err)
		}
	}
	for name, in := range map[string][]inference.Tensor{
		"none": nil, "too few": {a(1)}, "rows differ": {a(1), b(2, 1)}, "too many rows": {a(1, 2, 3, 4), b(4, 1)},
		"type":          {{Type: inference.Float32, Shape: []int{1}, F32: []float32{1}}, b(1, 1)},
		"rank":          {{Type: inference.Float64, Shape: []int{1, 1}, F64: []float64{1}}, b(1, 1)},
		"short":         {{Type: inference.Float64, Shape: []int{2}, F64: []float64{1}}, b(2, 1)},
		"negative rows": {{Type: inference.Float64, Shape: []int{-1}}, b(1, 1)}, "no shape": {{Type: inference.Float64}, b(0, 1)},
		"negative size": {a(1), {Type: inference.String, Shape: []int{1, -1}}},
	} {
		if _, err := Check(m, in, one); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Check(m, []inference.Tensor{a(1), b(1, 1)}, nil); !errkind.Is(err, errkind.Invalid) {
		t.Errorf("no outputs: %v", err)
	}
}

func TestStorageIsReused(t *testing.T) {
	var out inference.Tensor
	for _, ty := range []inference.DataType{inference.Float32, inference.Float64, inference.Int64, inference.Int32, inference.Bool, inference.String} {
		sig := &inference.Signature{Name: "s", Type: ty, Shape: []int{3}}
		Make(&out, sig, 4)
		if Len(&out) != 12 || !slices.Equal(out.Shape, []int{4, 3}) || out.Name != "s" {
			t.Errorf("%v: %+v", ty, out)
		}
	}
	before := &out.F64[0]
	Make(&out, &inference.Signature{Type: inference.Float64}, 12)
	if &out.F64[0] != before || Len(&out) != 12 {
		t.Error("storage with room was replaced")
	}
}

func TestAGateHoldsCallsToItsSlotsAndCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("m", 1)
		if err := g.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		go func() { errs <- g.Enter(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("given up: %v", err)
		}
		go func() { errs <- g.Enter(t.Context()) }()
		synctest.Wait()
		closed := make(chan bool)
		go func() { closed <- g.Close() }()
		if err := <-errs; !errkind.Is(err, errkind.Closed) {
			t.Errorf("waiting while it was closed: %v", err)
		}
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close did not wait for the call inside")
		default:
		}
		g.Leave()
		if !<-closed {
			t.Error("the first Close was not the first")
		}
		if g.Close() {
			t.Error("the second Close was the first")
		}
		if err := g.Enter(t.Context()); !errkind.Is(err, errkind.Closed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestARowIsAValueOrAList(t *testing.T) {
	x := &inference.Tensor{Type: inference.Int64, Shape: []int{2, 2, 2}, I64: []int64{1, 2, 3, 4, 5, 6, 7, 8}}
	if got := fmt.Sprint(Row(x, 1)); got != "[[5 6] [7 8]]" {
		t.Error(got)
	}
	for _, x := range []*inference.Tensor{
		{Type: inference.Float32, F32: []float32{0, 1}}, {Type: inference.Float64, F64: []float64{0, 1}},
		{Type: inference.Int32, I32: []int32{0, 1}}, {Type: inference.Bool, Bool: []bool{false, true}}, {Type: inference.String, Str: []string{"", "1"}},
	} {
		x.Shape = []int{2}
		if got := fmt.Sprint(Row(x, 1)); got != "1" && got != "true" {
			t.Errorf("%v: %v", x.Type, got)
		}
	}
}
