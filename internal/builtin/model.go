package builtin

import (
	"path/filepath"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
	"github.com/freshet-io/freshet/inference/rule"
)

// models lists the models by the ending of their file.
var models = []struct {
	ending string
	open   func(path string) (inference.Driver, error)
}{
	{".onnx", openONNX},
	{".rule.yaml", openRule},
}

// OpenModel opens the model in a file: .onnx or .rule.yaml. Another ending is Unsupported.
func OpenModel(path string) (inference.Driver, error) {
	name := strings.ToLower(filepath.Base(path))
	var known []string
	for _, m := range models {
		if strings.HasSuffix(name, m.ending) {
			return m.open(path)
		}
		known = append(known, "*"+m.ending)
	}
	return nil, errkind.Errorf(errkind.Unsupported, "open model %s: this program reads no %q files; it reads %s", path, filepath.Ext(path), strings.Join(known, ", "))
}

func openONNX(path string) (inference.Driver, error) {
	m, err := onnx.Load(path, onnx.Options{})
	if err != nil {
		return nil, err
	}
	return m, nil
}

func openRule(path string) (inference.Driver, error) {
	m, err := rule.Load(path, rule.Options{})
	if err != nil {
		return nil, err
	}
	return m, nil
}
