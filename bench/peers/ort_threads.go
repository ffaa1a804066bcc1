//go:build ort && cgo

package main

import (
	"errors"
	"fmt"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/freshet-io/freshet/inference"
)

var newORTCallers = openORTCallers

// ortCaller has input and outputs of its own, allocated beforehand; the callers of a
// side share the session.
type ortCaller struct {
	session *ort.DynamicAdvancedSession
	floats  *ort.Tensor[float32]
	ints    *ort.Tensor[int64]
	in, out []ort.Value
	last    inference.Tensor
}

// openORTCallers opens a session in which each call has threads threads.
func openORTCallers(path string, m inference.Metadata, batch, callers, threads int) (s evaluatorSide, err error) {
	if err := loadORT(); err != nil {
		return s, err
	}
	options, err := ort.NewSessionOptions()
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, options.Destroy()) }()
	if err := errors.Join(options.SetIntraOpNumThreads(threads), options.SetInterOpNumThreads(1)); err != nil {
		return s, err
	}
	var names []string
	for _, o := range m.Outputs {
		names = append(names, o.Name)
	}
	session, err := ort.NewDynamicAdvancedSession(path, []string{m.Inputs[0].Name}, names, options)
	if err != nil {
		return s, err
	}
	s.name = fmt.Sprintf("ONNX Runtime, %d × %d threads", callers, threads)
	s.close = func() error {
		for _, c := range s.callers {
			c.(*ortCaller).close()
		}
		return session.Destroy()
	}
	for range callers {
		c := &ortCaller{session: session}
		s.callers = append(s.callers, c)
		if err := c.allocate(m, batch); err != nil {
			return s, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (c *ortCaller) allocate(m inference.Metadata, batch int) (err error) {
	if m.Inputs[0].Type == inference.Int64 {
		c.ints, err = ort.NewEmptyTensor[int64](shapeOf(m.Inputs[0], batch))
		c.in = []ort.Value{c.ints}
	} else {
		c.floats, err = ort.NewEmptyTensor[float32](shapeOf(m.Inputs[0], batch))
		c.in = []ort.Value{c.floats}
	}
	if err != nil {
		c.in = nil
		return err
	}
	for _, o := range m.Outputs {
		if o.Type == inference.Int64 {
			t, err := ort.NewEmptyTensor[int64](shapeOf(o, batch))
			if err != nil {
				return err
			}
			c.out = append(c.out, t)
			continue
		}
		t, err := ort.NewEmptyTensor[float32](shapeOf(o, batch))
		if err != nil {
			return err
		}
		c.out = append(c.out, t)
		c.last = inference.Tensor{Type: inference.Float32, F32: t.GetData()}
	}
	return nil
}

func (c *ortCaller) call(in *inference.Tensor) (*inference.Tensor, error) {
	if c.ints != nil {
		copy(c.ints.GetData(), in.I64)
	} else {
		copy(c.floats.GetData(), in.F32)
	}
	return &c.last, c.session.Run(c.in, c.out)
}

func (c *ortCaller) close() {
	for _, v := range append(c.in, c.out...) {
		_ = v.Destroy()
	}
}
