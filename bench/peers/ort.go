//go:build ort && cgo

package main

import (
	"errors"
	"fmt"
	"os"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/freshet-io/freshet/inference"
)

var newORT = openORT

// ortEvaluator is a session with input and outputs allocated beforehand.
type ortEvaluator struct {
	session *ort.AdvancedSession
	input   *ort.Tensor[float32]
	last    *ort.Tensor[float32]
	values  []ort.Value
}

// loadORT loads the library once.
func loadORT() error {
	if ort.IsInitialized() {
		return nil
	}
	ort.SetSharedLibraryPath(os.Getenv(ortLibrary))
	if err := ort.InitializeEnvironment(); err != nil {
		return fmt.Errorf("load ONNX Runtime from %s=%q: %w", ortLibrary, os.Getenv(ortLibrary), err)
	}
	return nil
}

func openORT(path string, m inference.Metadata, batch int) (_ evaluator, err error) {
	if err := loadORT(); err != nil {
		return nil, err
	}
	e := &ortEvaluator{}
	if e.input, err = ort.NewEmptyTensor[float32](shapeOf(m.Inputs[0], batch)); err != nil {
		return nil, err
	}
	var names []string
	for _, o := range m.Outputs {
		names = append(names, o.Name)
		if o.Type == inference.Int64 {
			t, err := ort.NewEmptyTensor[int64](shapeOf(o, batch))
			if err != nil {
				return nil, err
			}
			e.values = append(e.values, t)
			continue
		}
		if e.last, err = ort.NewEmptyTensor[float32](shapeOf(o, batch)); err != nil {
			return nil, err
		}
		e.values = append(e.values, e.last)
	}
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, options.Destroy()) }()
	for _, set := range []func(int) error{options.SetIntraOpNumThreads, options.SetInterOpNumThreads} {
		if err := set(1); err != nil {
			return nil, err
		}
	}
	e.session, err = ort.NewAdvancedSession(path, []string{m.Inputs[0].Name}, names, []ort.Value{e.input}, e.values, options)
	return e, err
}

func shapeOf(s inference.Signature, batch int) ort.Shape {
	shape := ort.Shape{int64(batch)}
	for _, d := range s.Shape {
		shape = append(shape, int64(d))
	}
	return shape
}

func (e *ortEvaluator) run(rows []float32) ([]float32, error) {
	copy(e.input.GetData(), rows)
	err := e.session.Run()
	return e.last.GetData(), err
}

func (e *ortEvaluator) close() {
	_ = e.session.Destroy()
	_ = e.input.Destroy()
	for _, v := range e.values {
		_ = v.Destroy()
	}
}
