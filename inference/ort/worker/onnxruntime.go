//go:build cgo

package worker

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/ort/internal/frame"
)

// native is ONNX Runtime, of which a process can have one.
type native struct{}

func openNative(library string) (native, error) {
	ort.SetSharedLibraryPath(library)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return native{}, fmt.Errorf("load ONNX Runtime's shared library %s: %w", library, err)
	}
	return native{}, nil
}

func (native) version() string { return ort.GetVersion() }

func (native) load(l *frame.LoadBody, model []byte) (_ session, err error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.Destroy()) }()
	spin := "0"
	if l.Spin {
		spin = "1"
	}
	if err := errors.Join(
		o.SetIntraOpNumThreads(l.Threads), o.SetInterOpNumThreads(1), o.SetLogSeverityLevel(ort.LoggingLevelError),
		o.AddSessionConfigEntry("session.intra_op.allow_spinning", spin),
	); err != nil {
		return nil, err
	}
	inputs := make([]string, len(l.Inputs))
	for i := range l.Inputs {
		inputs[i] = l.Inputs[i].Name
	}
	s, err := ort.NewDynamicAdvancedSessionWithONNXData(model, inputs, l.Outputs, o)
	if err != nil {
		return nil, classify(err, errkind.Invalid)
	}
	debug.FreeOSMemory() // the file's bytes, which ONNX Runtime has copied
	return &nativeSession{s, len(l.Outputs)}, nil
}

// classify gives an error of ONNX Runtime, which is a text, its kind.
func classify(err error, otherwise errkind.Kind) error {
	text := strings.ToLower(err.Error())
	for _, w := range []struct {
		word string
		kind errkind.Kind
	}{
		{"terminate flag", errkind.Canceled},
		{"bad alloc", errkind.Exhausted}, {"bad_alloc", errkind.Exhausted}, {"failed to allocate", errkind.Exhausted},
		{"not implemented", errkind.Unsupported}, {"could not find an implementation", errkind.Unsupported},
		{"not a registered", errkind.Unsupported}, {"unsupported model ir", errkind.Unsupported}, {"is under development", errkind.Unsupported},
	} {
		if strings.Contains(text, w.word) {
			otherwise = w.kind
			break
		}
	}
	return errkind.With(otherwise, err)
}

type nativeSession struct {
	*ort.DynamicAdvancedSession
	outputs int
}

func (s *nativeSession) newLane() (lane, error) {
	o, err := ort.NewRunOptions()
	if err != nil {
		return nil, err
	}
	return &nativeLane{session: s, options: o}, nil
}

type nativeLane struct {
	session *nativeSession
	options *ort.RunOptions
	in, out []ort.Value
	pinner  runtime.Pinner
	answer  []inference.Tensor
}

// interrupt may be called beside run.
func (l *nativeLane) interrupt(on bool) {
	if on {
		_ = l.options.Terminate()
	} else {
		_ = l.options.UnsetTerminate()
	}
}

// elementTypes are ONNX Runtime's, by Freshet's.
var elementTypes = [...]ort.TensorElementDataType{
	inference.Float32: ort.TensorElementDataTypeFloat, inference.Float64: ort.TensorElementDataTypeDouble,
	inference.Int64: ort.TensorElementDataTypeInt64, inference.Int32: ort.TensorElementDataTypeInt32,
	inference.Bool: ort.TensorElementDataTypeBool, inference.String: ort.TensorElementDataTypeString,
}

func (l *nativeLane) run(in []frame.View) ([]inference.Tensor, error) {
	defer l.release()
	for i := range in {
		v, err := l.input(&in[i])
		if err != nil {
			return nil, errkind.Errorf(errkind.Invalid, "input %d: %w", i, err)
		}
		l.in = append(l.in, v)
	}
	l.out = append(l.out[:0], make([]ort.Value, l.session.outputs)...)
	if err := l.session.RunWithOptions(l.in, l.out, l.options); err != nil {
		return nil, classify(err, errkind.Invalid)
	}
	l.answer = l.answer[:0]
	for i, v := range l.out {
		t, err := output(v)
		if err != nil {
			return nil, errkind.Errorf(errkind.Unsupported, "output %d: %w", i, err)
		}
		l.answer = append(l.answer, t)
	}
	return l.answer, nil
}

// input lends the frame's own bytes to ONNX Runtime; texts it copies.
func (l *nativeLane) input(v *frame.View) (ort.Value, error) {
	if v.Type != inference.String {
		l.pinner.Pin(&v.Data[0])
		return ort.NewCustomDataTensor(v.Shape, v.Data, elementTypes[v.Type])
	}
	texts, err := v.Strings(nil)
	if err != nil {
		return nil, err
	}
	for _, s := range texts {
		if strings.IndexByte(s, 0) >= 0 {
			return nil, errors.New("a text with a zero byte, at which ONNX Runtime would cut it off")
		}
	}
	t, err := ort.NewStringTensor(v.Shape)
	if err != nil {
		return nil, err
	}
	if err := t.SetContents(texts); err != nil {
		return nil, errors.Join(err, t.Destroy())
	}
	return t, nil
}

// output is a value as a tensor that shares its storage.
func output(v ort.Value) (inference.Tensor, error) {
	t := inference.Tensor{}
	for _, d := range v.GetShape() {
		t.Shape = append(t.Shape, int(d))
	}
	switch v := v.(type) {
	case *ort.Tensor[float32]:
		t.Type, t.F32 = inference.Float32, v.GetData()
	case *ort.Tensor[float64]:
		t.Type, t.F64 = inference.Float64, v.GetData()
	case *ort.Tensor[int64]:
		t.Type, t.I64 = inference.Int64, v.GetData()
	case *ort.Tensor[int32]:
		t.Type, t.I32 = inference.Int32, v.GetData()
	case *ort.Tensor[bool]:
		t.Type, t.Bool = inference.Bool, v.GetData()
	case *ort.StringTensor:
		s, err := v.GetContents()
		if err != nil {
			return t, err
		}
		t.Type, t.Str = inference.String, s
	default:
		return t, fmt.Errorf("it is a %T; outputs are tensors of float32, float64, int64, int32, bool or string", v)
	}
	return t, nil
}

// release gives ONNX Runtime's values back. The answer's elements are Go's own.
func (l *nativeLane) release() {
	for _, list := range [][]ort.Value{l.in, l.out} {
		for i, v := range list {
			if v != nil {
				_ = v.Destroy()
			}
			list[i] = nil
		}
	}
	l.in, l.out = l.in[:0], l.out[:0]
	l.pinner.Unpin()
}
