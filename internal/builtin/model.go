package builtin

import (
	"path/filepath"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
)

// models lists the models by the ending of their file.
var models = []struct {
	ending string
	open   func(path string) (inference.Driver, error)
}{
	{".onnx", openONNX},
}

// OpenModel opens the model in a file: .onnx. Another ending is Unsupported.
func OpenModel(path string) (inference.Driver, error) {
	ending := strings.ToLower(filepath.Ext(path))
	var known []string
	for _, m := range models {
		if m.ending == ending {
			return m.open(path)
		}
		known = append(known, "*"+m.ending)
	}
	return nil, errkind.Errorf(errkind.Unsupported, "open model %s: this program reads no %q files; it reads %s", path, ending, strings.Join(known, ", "))
}

func openONNX(path string) (inference.Driver, error) {
	m, err := onnx.Load(path, onnx.Options{})
	if err != nil {
		return nil, err
	}
	return m, nil
}
