package worker

import (
	"bytes"
	"io"
	"math"
	"net"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/ort/internal/frame"
)

// sums is an engine whose model adds the values of each row. A negative number is
// answered when it is interrupted.
type sums struct{ stop chan bool }

func (*sums) version() string { return "sums" }

func (s *sums) load(_ *frame.LoadBody, model []byte) (session, error) {
	if string(model) != "model" {
		return nil, errkind.New(errkind.Invalid, "not a model")
	}
	return s, nil
}
func (s *sums) newLane() (lane, error) { return s, nil }
func (s *sums) interrupt(on bool)      { s.stop <- on }
func (s *sums) run(in []frame.View) ([]inference.Tensor, error) {
	var x inference.Tensor
	if err := in[0].CopyTo(&x); err != nil {
		return nil, err
	}
	y := inference.Tensor{Type: inference.Float32, Shape: []int{x.Shape[0]}}
	for r := range x.Shape[0] {
		if x.F32[2*r] < 0 {
			<-s.stop
			return nil, errkind.New(errkind.Canceled, "interrupted")
		}
		y.F32 = append(y.F32, x.F32[2*r]+x.F32[2*r+1])
	}
	return []inference.Tensor{y}, nil
}

// start serves with one lane and loads a model.
func start(t *testing.T, model string) (control, call *frame.Conn, end func() error, f frame.Frame) {
	t.Helper()
	ours, theirs := net.Pipe()
	laneOurs, laneTheirs := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- serve(theirs, []io.ReadWriter{laneTheirs}, &sums{make(chan bool, 10)}) }()
	control, call = frame.NewConn(ours, 1<<20), frame.NewConn(laneOurs, 1<<20)
	f, err := control.Read()
	if err != nil || f.Kind != frame.Hello {
		t.Fatal(f, err)
	}
	load := frame.LoadBody{Size: len(model), Inputs: []frame.Input{{Name: "x", Type: inference.Float32, Dims: []int64{-1, 2}}}, Outputs: []string{"y"}}
	if err := control.WriteJSON(frame.Frame{Kind: frame.Load}, load); err != nil {
		t.Fatal(err)
	}
	if err := control.WriteRaw([]byte(model)); err != nil {
		t.Fatal(err)
	}
	if f, err = control.Read(); err != nil {
		t.Fatal(err)
	}
	return control, call, func() error { _, _ = ours.Close(), laneOurs.Close(); return <-done }, f
}

func x(shape []int, values ...float32) []inference.Tensor {
	return []inference.Tensor{{Type: inference.Float32, Shape: shape, F32: values}}
}

func TestCallsAreAnsweredAndCancelled(t *testing.T) {
	control, call, end, f := start(t, "model")
	if f.Kind != frame.Ready {
		t.Fatal(f.Err())
	}
	seq := uint64(0)
	ask := func(ts []inference.Tensor, meanwhile func()) frame.Frame {
		t.Helper()
		seq++
		if err := call.WriteTensors(frame.Frame{Kind: frame.Infer, Seq: seq}, ts); err != nil {
			t.Fatal(err)
		}
		meanwhile()
		f, err := call.Read()
		if err != nil || f.Seq != seq {
			t.Fatal(f, err)
		}
		return f
	}
	cancel := func() {
		if err := control.Write(frame.Frame{Kind: frame.Cancel, Seq: seq}); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func() {}
	for range 3 {
		if f := ask(x([]int{1, 2}, -1, 0), cancel); f.Kind != frame.Failed || !errkind.Is(f.Err(), errkind.Canceled) {
			t.Error(f)
		}
		f := ask(x([]int{2, 2}, 1, 2, 3, 4), nothing)
		views, err := frame.Tensors(f.Body, nil)
		if err != nil || f.Kind != frame.Result || len(views) != 1 {
			t.Fatal(f, err)
		}
		var y inference.Tensor
		if err := views[0].CopyTo(&y); err != nil || y.F32[0] != 3 || y.F32[1] != 7 {
			t.Error(y, err)
		}
	}
	for name, ts := range map[string][]inference.Tensor{
		"none": nil, "two": append(x([]int{1, 2}, 1, 2), x([]int{1, 2}, 1, 2)...), "another size": x([]int{1, 3}, 1, 2, 3),
		"another rank": x([]int{2}, 1, 2), "no rows": x([]int{0, 2}), "another type": {{Type: inference.Int32, Shape: []int{1, 2}, I32: []int32{1, 2}}},
	} {
		if f := ask(ts, nothing); f.Kind != frame.Failed || !errkind.Is(f.Err(), errkind.Invalid) {
			t.Errorf("%s: %v", name, f.Kind)
		}
	}
	if err := end(); err != nil && !strings.Contains(err.Error(), "closed") {
		t.Error(err)
	}
}

func TestARefusedModelIsSaid(t *testing.T) {
	_, _, end, f := start(t, "other")
	if f.Kind != frame.Failed || !errkind.Is(f.Err(), errkind.Invalid) || !strings.Contains(f.Err().Error(), "not a model") {
		t.Errorf("%+v", f)
	}
	if err := end(); !errkind.Is(err, errkind.Invalid) {
		t.Error(err)
	}
}

// script is a socket whose other side says what it says.
type script struct {
	io.Reader
	io.Writer
}

func FuzzServe(f *testing.F) {
	var b bytes.Buffer
	c := frame.NewConn(&b, math.MaxInt32)
	_ = c.WriteJSON(frame.Frame{Kind: frame.Load}, frame.LoadBody{Size: 5, Inputs: []frame.Input{{Name: "x", Type: inference.Float32, Dims: []int64{-1, 2}}}})
	_ = c.WriteRaw([]byte("model"))
	_ = c.Write(frame.Frame{Kind: frame.Cancel, Seq: 1})
	control := bytes.Clone(b.Bytes())
	b.Reset()
	_ = c.WriteTensors(frame.Frame{Kind: frame.Infer, Seq: 2}, x([]int{2, 2}, 1, 2, 3, 4))
	f.Add(control, bytes.Clone(b.Bytes()))
	f.Fuzz(func(_ *testing.T, control, call []byte) {
		e := &sums{make(chan bool, 1000)}
		_ = serve(script{bytes.NewReader(control), io.Discard}, nil, e)
		s := served{lane: e}
		l := frame.LoadBody{Inputs: []frame.Input{{Name: "x", Type: inference.Float32, Dims: []int64{-1, 2}}}}
		c := frame.NewConn(script{bytes.NewReader(call), io.Discard}, 1<<20)
		for range 100 {
			e.stop <- true
		}
		s.serve(c, &l)
	})
}
